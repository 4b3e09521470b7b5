"""A translation engine of your own, in one file: a phrase book, for announcements that are always the same.

``PYTHONPATH=. raydub dub talk.mp4 --to pt --set translation.engine=examples.own_engine --set
translation.options.file=phrases.tsv``. The file has a line ``source<TAB>translation`` for each phrase. A phrase that is
not in it fails alone: its line keeps the original sound and is flagged.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from actors import engine
from actors.errors import EngineLoadError, ItemError
from actors.types import Candidate, ItemFailure, TranslateRequest, Translation


class Config(engine.EngineConfig):
    """``translation.options``: an unknown one is refused before any model is loaded."""

    file: Path


class Engine(engine.Engine[TranslateRequest, Translation]):
    Config: ClassVar[type[engine.EngineConfig]] = Config
    config: Config

    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "those of the phrase book"

    def weights_id(self) -> str | None:
        """With this, results are kept in the store; another file has another id."""
        return hashlib.sha256(self.config.file.read_bytes()).hexdigest() if self.config.file.is_file() else None

    def load(self) -> None:
        """A model library would be imported here, on the replica, and its weights read."""
        try:
            lines = self.config.file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise EngineLoadError(f"the phrase book must be readable; {error}; set translation.options.file") from error
        self._phrases = {_plain(source): target for source, _, target in (line.partition("\t") for line in lines)}

    def run(self, batch: Sequence[TranslateRequest]) -> list[Translation | ItemFailure]:
        """One result or one failure for each request, in order."""
        return [self._translate(request.text) for request in batch]

    def _translate(self, text: str) -> Translation | ItemFailure:
        found = self._phrases.get(_plain(text))
        if found is None:
            return ItemFailure(error=ItemError(f"the phrase book must have every phrase; {text!r} is not in it"))
        return Translation(candidates=(Candidate(text=found, score=None),))


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".!?")
