"""A translator that returns the text with the name of the language."""

from collections.abc import Sequence
from typing import ClassVar

from actors import engine
from actors.types import Candidate, TranslateRequest, Translation


class Engine(engine.Engine[TranslateRequest, Translation]):
    Config: ClassVar[type[engine.EngineConfig]] = engine.EngineConfig

    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "all"

    def cost(self, request: TranslateRequest) -> float:
        return 1.0

    def load(self) -> None:
        pass

    def run(self, batch: Sequence[TranslateRequest]) -> list[Translation]:
        return [
            Translation(candidates=(Candidate(text=f"{request.target_language} {request.text}", score=None),))
            for request in batch
        ]
