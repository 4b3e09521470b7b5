"""Many of Coqui's VITS in one replica, one for each language: they share its process and its part of a GPU."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field, field_validator

from actors import languages
from actors.device import Dtype
from actors.engine import Engine as BaseEngine
from actors.engine import EngineConfig
from actors.errors import ConfigError, EngineLoadError, ItemError
from actors.speech._planned.voices import Voice
from actors.speech.coqui import JOE_NAME, CoquiConfig
from actors.speech.coqui import Engine as OneModel
from actors.types import Clip, ItemFailure, Plan, PlanRequest, SpeechRequest


class CoquiVoicesConfig(EngineConfig):
    models: Mapping[str, str] = Field(default={"en": JOE_NAME}, min_length=1)
    """BCP-47 tag → the model that speaks it, as the engine coqui takes it."""
    max_loaded: int = Field(default=4, ge=1)
    """Models that a replica keeps loaded. For another, the one that was not used for longest is given up."""
    noise_scale: float | None = Field(default=None, ge=0, le=2)
    """Variety of the voices' timbre; None takes each model's recommended value."""
    precision: Dtype = "auto"
    """Precision of the waveform decoder; the rest is always float32."""
    compile: bool = False
    """Compile each model on load: minutes more to load, for less time a batch on a GPU."""

    @field_validator("models")
    @classmethod
    def _check_tags(cls, models: Mapping[str, str]) -> dict[str, str]:
        try:
            found = {languages.normalise(tag): model for tag, model in models.items()}
        except ConfigError as error:
            raise ValueError(error.message) from error
        if len(found) < len(models):
            raise ValueError("two tags name the same language")
        return found


class Engine(BaseEngine[SpeechRequest, Plan | Clip]):
    """Coqui's VITS by language. A model is loaded when its language is first asked for.

    Plans and clips are those of the engine coqui with the same model.
    """

    Config: ClassVar[type[EngineConfig]] = CoquiVoicesConfig
    config: CoquiVoicesConfig
    packages = OneModel.packages
    neutral_options = BaseEngine.neutral_options | {"models", "max_loaded"}

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self._loaded: OrderedDict[str, OneModel] = OrderedDict()

    @functools.cached_property
    def _engines(self) -> dict[str, OneModel]:
        """Model → its engine."""
        settings = {name: getattr(self.config, name) for name in CoquiConfig.model_fields if hasattr(self.config, name)}
        return {
            model: OneModel(CoquiConfig(model=model, **settings))
            for model in dict.fromkeys(self.config.models.values())
        }

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The voices of each language's model."""
        return tuple(
            replace(voice, languages=(tag,))
            for tag, model in self.config.models.items()
            for voice in self._engines[model].voices
        )

    def supports(self, *asked: str) -> bool:
        (language,) = asked
        return self._tag(language) is not None

    def describe_languages(self) -> str:
        return ", ".join(self.config.models)

    def cost(self, request: SpeechRequest) -> float:
        return next(iter(self._engines.values())).cost(request)

    def weights_id(self) -> str | None:
        found = {tag: self._engines[model].weights_id() for tag, model in self.config.models.items()}
        if None in found.values():
            return None
        return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()

    def load(self) -> None:
        """Load one model, of those on this node if there are any, so that a fault shows before there is work."""
        here = (model for model, engine in self._engines.items() if engine.weights_id() is not None)
        self._ready(next(here, next(iter(self._engines))))

    def run(self, batch: Sequence[SpeechRequest]) -> list[Plan | Clip | ItemFailure]:
        results: dict[int, Plan | Clip | ItemFailure] = {}
        by_model: dict[str, list[int]] = {}
        for at, request in enumerate(batch):
            language = request.language if isinstance(request, PlanRequest) else request.plan.language
            if (tag := self._tag(language)) is None:
                found = f"{self.describe_languages()}; found {language!r}"
                results[at] = ItemFailure(error=ItemError(f"a line to speak must be in one of {found}"))
            else:
                by_model.setdefault(self.config.models[tag], []).append(at)
        # Those that are loaded come first: a batch of more models than fit loads each at most once.
        for model in sorted(by_model, key=lambda model: model not in self._loaded):
            indices = by_model[model]
            results |= dict(zip(indices, self._run_model(model, [batch[at] for at in indices]), strict=True))
        return [results[at] for at in range(len(batch))]

    def close(self) -> None:
        while self._loaded:
            self._loaded.popitem()[1].close()

    def _run_model(self, model: str, batch: Sequence[SpeechRequest]) -> list[Plan | Clip | ItemFailure]:
        try:
            engine = self._ready(model)
        except (ConfigError, EngineLoadError) as error:  # the other languages can be spoken
            return [ItemFailure(error=ItemError(f"{model} must load; {error.message}"))] * len(batch)
        return engine.run(batch)

    def _ready(self, model: str) -> OneModel:
        """The model's engine, loaded, and now the last to be given up. Raises ConfigError and EngineLoadError."""
        if model in self._loaded:
            self._loaded.move_to_end(model)
            return self._loaded[model]
        while len(self._loaded) >= self.config.max_loaded:
            self._loaded.popitem(last=False)[1].close()
        engine = self._engines[model]
        engine.num_gpus = self.num_gpus
        engine.load()
        self._loaded[model] = engine
        return engine

    def _tag(self, language: str) -> str | None:
        return languages.best_match(language, self.config.models)
