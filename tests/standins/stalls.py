"""A voice like ``speaks`` that hangs after a number of lines."""

import threading
from collections.abc import Sequence
from typing import ClassVar

from actors import engine
from actors.types import Clip, Plan, PlanRequest, SpeechRequest
from tests.standins import speaks


class StallingConfig(engine.EngineConfig):
    num_lines: int


class Engine(speaks.Engine):
    Config: ClassVar[type[engine.EngineConfig]] = StallingConfig
    config: StallingConfig

    def load(self) -> None:
        self._num_said = 0

    def run(self, batch: Sequence[SpeechRequest]) -> list[Plan | Clip]:
        self._num_said += sum(not isinstance(request, PlanRequest) for request in batch)
        if self._num_said > self.config.num_lines:
            threading.Event().wait()
        return super().run(batch)
