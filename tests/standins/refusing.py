"""An engine that loads or fails to, as its options say, and refuses every item."""

from collections.abc import Sequence
from typing import Any, ClassVar

from actors import engine
from actors.errors import EngineLoadError, ItemError
from actors.types import ItemFailure


class RefusingConfig(engine.EngineConfig):
    load_error: bool = False


class Engine(engine.Engine[Any, Any]):
    Config: ClassVar[type[engine.EngineConfig]] = RefusingConfig
    config: RefusingConfig

    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "all"

    def cost(self, request: Any) -> float:
        return 1.0

    def load(self) -> None:
        if self.config.load_error:
            raise EngineLoadError("the engine must find its weights; there are none")

    def run(self, batch: Sequence[Any]) -> list[Any]:
        return [ItemFailure(error=ItemError("refused")) for _ in batch]
