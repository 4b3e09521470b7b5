"""Translates by naming the language before the text."""

from collections.abc import Sequence
from typing import ClassVar

from actors import engine
from actors.types import Candidate, TranslateRequest, Translation
from tests.standins.counted import Counted, CountedConfig


class Engine(Counted, engine.Engine[TranslateRequest, Translation]):
    task = "translation"
    Config: ClassVar[type[engine.EngineConfig]] = CountedConfig

    def run(self, batch: Sequence[TranslateRequest]) -> list[Translation]:
        for request in batch:
            self.note(request, f"translate {request.target_language} {request.text}")
        return [Translation(candidates=(Candidate(text=f"{r.target_language} {r.text}", score=None),)) for r in batch]
