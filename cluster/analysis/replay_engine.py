"""The engine of a replayed pool: it only tells what a recorded request cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actors import engine


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """A request of a trace, and its times in seconds since the trace's start."""

    id: str
    pool: str
    kind: str
    cost: float
    order: float
    job: str
    priority: int
    replica: int
    queued_s: float
    sent_s: float
    began_s: float
    ended_s: float
    answered_s: float


class Engine(engine.Engine[RecordedRequest, None]):
    """Never loaded."""

    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "all"

    def cost(self, request: RecordedRequest) -> float:
        return request.cost

    def load(self) -> None:
        pass

    def run(self, batch: Sequence[Any]) -> list[Any]:
        raise NotImplementedError("a replayed pool has replicas that only wait")
