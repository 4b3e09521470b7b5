"""An engine that does what another does, and sleeps as long as a call and its items are to take."""

import importlib
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from actors import engine
from actors.types import PlanRequest


class SlowConfig(engine.EngineConfig):
    inner: str
    """Module of the other engine."""
    call_s: float = 0.0
    item_s: float = 0.0
    """For each request but plans, which take no time."""


class Engine(engine.Engine[Any, Any]):
    Config: ClassVar[type[engine.EngineConfig]] = SlowConfig
    config: SlowConfig

    def __init__(self, config: engine.EngineConfig) -> None:
        super().__init__(config)
        inner = importlib.import_module(self.config.inner).Engine
        self._inner: engine.Engine[Any, Any] = inner(inner.Config())

    def supports(self, *languages: str) -> bool:
        return self._inner.supports(*languages)

    def describe_languages(self) -> str:
        return self._inner.describe_languages()

    def load(self) -> None:
        self._inner.load()

    def run(self, batch: Sequence[Any]) -> list[Any]:
        num_slow = sum(not isinstance(request, PlanRequest) for request in batch)
        time.sleep(self.config.call_s * bool(num_slow) + self.config.item_s * num_slow)
        return self._inner.run(batch)
