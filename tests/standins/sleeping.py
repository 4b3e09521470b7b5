"""An engine that sleeps per item or per call, and returns the items with its process number."""

import os
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from actors import engine


class SleepingConfig(engine.EngineConfig):
    service_s: float
    per: str = "item"
    """"item": a batch of n takes n times as long; "call": as long as one."""


class Engine(engine.Engine[Any, tuple[Any, int]]):
    Config: ClassVar[type[engine.EngineConfig]] = SleepingConfig
    config: SleepingConfig

    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "all"

    def load(self) -> None:
        pass

    def run(self, batch: Sequence[Any]) -> list[tuple[Any, int]]:
        time.sleep(self.config.service_s * (len(batch) if self.config.per == "item" else 1))
        return [(item, os.getpid()) for item in batch]
