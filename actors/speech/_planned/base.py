"""The engine of planned speech: a text is planned, a length chosen, then the plan is spoken at that length."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, TypeVar

from actors import languages
from actors.engine import Engine, EngineConfig
from actors.errors import ConfigError, EngineError
from actors.speech._planned.edges import Edges
from actors.speech._planned.model import SpeechModel
from actors.speech._planned.synthesis import Synthesis
from actors.speech._planned.voices import Voice, VoiceCatalogue
from actors.types import Clip, ItemFailure, Plan, SpeechRequest, SynthesiseRequest

CHARACTERS_PER_S = 15.0
"""Pace of ordinary speech, to weigh a text before it is planned."""

Loaded = TypeVar("Loaded")


class PlannedSpeechConfig(EngineConfig):
    voice: str | None = None
    """Voice for requests without one; None takes the first that speaks the request's language."""


class PlannedSpeech(Engine[SpeechRequest, Plan | Clip]):
    """A speech engine that knows a text's length before speaking it and keeps the length it is asked for.

    An engine adds its voices and the loading of its model; ``Synthesis`` does the rest.
    """

    Config: ClassVar[type[EngineConfig]] = PlannedSpeechConfig
    config: PlannedSpeechConfig

    edges: ClassVar[Edges]
    plan_share: ClassVar[float]
    """CPU time of planning over that of speaking (bench/bench_speech.py)."""
    _synthesis: Synthesis | None = None

    def __init__(self, config: PlannedSpeechConfig) -> None:
        super().__init__(config)
        if config.voice is not None and config.voice not in self.catalogue.names:
            known = ", ".join(self.catalogue.names)
            raise ConfigError(f"speech.options.voice must be one of {known}; found {config.voice!r}")

    @property
    @abstractmethod
    def voices(self) -> tuple[Voice, ...]:
        """All voices, best first. Needs no load."""

    @abstractmethod
    def load_model(self) -> SpeechModel:
        """The model, ready to speak. Raises EngineLoadError."""

    @property
    def catalogue(self) -> VoiceCatalogue:
        return VoiceCatalogue(
            engine=type(self).__module__.rsplit(".", 1)[-1], voices=self.voices, default=self.config.voice
        )

    @property
    def model(self) -> SpeechModel:
        """The loaded model. Raises EngineError if there is none."""
        return self._loaded().model

    def supports(self, *asked: str) -> bool:
        (language,) = asked
        return languages.best_match(language, self.catalogue.languages) is not None

    def describe_languages(self) -> str:
        return ", ".join(self.catalogue.languages)

    def cost(self, request: SpeechRequest) -> float:
        """Seconds of audio that cost as much to speak: its length, or a small share of it for a plan."""
        if isinstance(request, SynthesiseRequest):
            return request.duration_s
        return self.plan_share * max(1, len(request.text)) / CHARACTERS_PER_S

    def load(self) -> None:
        model = self.load_model()
        self._synthesis = Synthesis(model=model, voices=self.catalogue, edges=self.edges)

    def run(self, batch: Sequence[SpeechRequest]) -> list[Plan | Clip | ItemFailure]:
        return self._loaded().run(batch)

    def close(self) -> None:
        self._synthesis = None

    def _loaded(self) -> Synthesis:
        return require_loaded(self._synthesis, self.catalogue.engine)


def require_loaded(model: Loaded | None, engine: str) -> Loaded:
    """The model, which must be there. Raises EngineError."""
    if model is None:
        raise EngineError(f"engine {engine} must be loaded before it runs; call load first")
    return model
