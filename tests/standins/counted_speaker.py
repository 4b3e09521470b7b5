"""Speaks a tone as long as it is asked to."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from actors import engine
from actors.types import Clip, Plan, PlanRequest, SpeechRequest
from tests.standins.counted import Counted, CountedConfig

HZ = 16_000


class Engine(Counted, engine.Engine[SpeechRequest, Plan | Clip]):
    task = "speech"
    Config: ClassVar[type[engine.EngineConfig]] = CountedConfig

    def run(self, batch: Sequence[SpeechRequest]) -> list[Plan | Clip]:
        return [self._plan(request) if isinstance(request, PlanRequest) else self._speak(request) for request in batch]

    def _plan(self, request: PlanRequest) -> Plan:
        return Plan(
            engine="counted",
            voice="tone",
            language=request.language,
            text=request.text,
            chunks=(),
            frame_samples=160,
            sample_hz=HZ,
            natural_s=0.8,
            shortest_s=0.4,
            longest_s=2.0,
            exact=True,
        )

    def _speak(self, request: SpeechRequest) -> Clip:
        assert not isinstance(request, PlanRequest)
        self.note(request, f"speak {request.plan.language} {request.plan.text}")
        times = np.arange(round(request.duration_s * HZ)) / HZ
        return Clip(samples=(0.1 * np.sin(2 * np.pi * 220 * times)).astype(np.float32), sample_hz=HZ)
