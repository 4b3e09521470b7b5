"""A voice that hums for the requested time; by itself it speaks 20 characters a second."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from actors import engine
from actors.types import Clip, Plan, PlanRequest, SpeechRequest

HZ = 24_000


class Engine(engine.Engine[SpeechRequest, Plan | Clip]):
    Config: ClassVar[type[engine.EngineConfig]] = engine.EngineConfig

    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "all"

    def cost(self, request: SpeechRequest) -> float:
        return 1.0

    def load(self) -> None:
        pass

    def weights_id(self) -> str:
        return "none"

    def run(self, batch: Sequence[SpeechRequest]) -> list[Plan | Clip]:
        return [self._run(request) for request in batch]

    def _run(self, request: SpeechRequest) -> Plan | Clip:
        if isinstance(request, PlanRequest):
            natural_s = len(request.text) / 20
            return Plan(
                engine="speaks",
                voice=request.voice or "hum",
                language=request.language,
                text=request.text,
                chunks=(),
                frame_samples=1,
                sample_hz=HZ,
                natural_s=natural_s,
                shortest_s=natural_s / 2,
                longest_s=natural_s * 2,
                exact=True,
            )
        at = np.arange(round(request.duration_s * HZ))
        return Clip(samples=(0.3 * np.sin(at / 20)).astype(np.float32), sample_hz=HZ)
