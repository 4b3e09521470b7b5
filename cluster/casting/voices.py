"""The registry of voices: each with its languages, gender, pitch, and the engine that speaks with it.

A language is spoken by its own engine of the configuration. A voice that only another engine of the configuration has
may be chosen too: the line is then spoken by that engine.
"""

from __future__ import annotations

import asyncio
import difflib
import functools
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from actors import languages
from actors.engine import Engine, make_engine
from actors.errors import ConfigError
from actors.speech._planned.voices import Voice
from actors.types import Task
from cluster.config.schema import Config, StageConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedStage:
    """One engine of a configuration."""

    name: str
    """Its key in the configuration, such as ``speech.by_language.pt``."""
    task: Task
    settings: StageConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredVoice:
    """A voice that some engine of the configuration has."""

    id: str
    """The voice's name, as its engine knows it."""
    engine: str
    stage: StageConfig
    """The engine with its options and pool."""
    languages: tuple[str, ...]
    """BCP-47."""
    gender: Literal["female", "male"] | None
    pitch_hz: float | None
    """Median pitch of its speech; None if it was not measured."""
    licence: str
    is_native: bool = True
    """False for a voice made for another language, which reads these with an accent."""


def speech_stage(config: Config, target: str, voice: str | None = None) -> StageConfig:
    """The speech engine of language ``target``, or the one that has ``voice`` if the language's own has not.

    Raises ConfigError if none is configured, or no engine has the voice for this language.
    """
    own = _own_stage(config, target)
    if voice is None:
        return own
    known = _voices_of(own, target)
    if not known or voice in [each.id for each in known]:
        return own
    voices = voices_for(config, target)
    found = next((each for each in voices if each.id == voice), None)
    if found is None:
        others = [each for each in all_voices(config) if each.id == voice]
        hint = f"{voice} speaks {', '.join(others[0].languages)}" if others else ""
        raise _unknown_voice(f"a voice for {target}", voice, voices, hint)
    return found.stage


def configured_stage(config: Config, target: str) -> StageConfig:
    """The speech engine of a language for the voice that the configuration names. Raises ConfigError."""
    return speech_stage(config, target, voice_for(config, target))


def voice_for(config: Config, target: str) -> str | None:
    """The voice that the configuration names for a language; None for the engine's default."""
    match = languages.best_match(target, config.speech.voices)
    return None if match is None else config.speech.voices[match]


def voices_for(config: Config, target: str) -> tuple[RegisteredVoice, ...]:
    """The voices for a language: those of its own engine first, and of each engine the best first.

    Engines that cannot say which voices they have are left out. Raises ConfigError if no engine speaks the language.
    """
    own = _own_stage(config, target)
    stages = [own, *(stage for stage in stages_of(config) if _key(stage) != _key(own))]
    return tuple(voice for stage in stages for voice in _voices_of(stage, target) or ())


def all_voices(config: Config) -> tuple[RegisteredVoice, ...]:
    """Every voice of the configuration, in the order of its languages."""
    found = {
        (voice.engine, voice.id): voice
        for language in spoken_languages(config)
        for voice in voices_for(config, language)
    }
    return tuple(found.values())


def named_voice(config: Config, name: str) -> RegisteredVoice:
    """The voice of that name, of whichever language. Raises ConfigError."""
    voices = all_voices(config)
    found = next((voice for voice in voices if voice.id == name), None)
    if found is None:
        raise _unknown_voice("a voice", name, voices)
    return found


def spoken_languages(config: Config) -> tuple[str, ...]:
    """The languages that the configuration names an engine for; those of the only engine if it names one for all."""
    if config.speech.engine == "auto":
        return tuple(config.speech.by_language)
    [stage] = stages_of(config)
    known = getattr(_engine(stage), "voices", ())
    return tuple(dict.fromkeys(languages.base(tag) for voice in known for tag in voice.languages))


def stages_of(config: Config) -> list[StageConfig]:
    """The different speech engines of a configuration."""
    speech = config.speech
    if speech.engine != "auto":
        return [StageConfig(engine=speech.engine, options=speech.options, pool=speech.pool)]
    return list({_key(stage): stage for stage in speech.by_language.values()}.values())


def named_stages(config: Config) -> list[NamedStage]:
    """Every engine that a dub with this configuration may use."""
    found = [
        NamedStage(name="transcription", task="transcription", settings=config.transcription),
        NamedStage(name="translation", task="translation", settings=config.translation),
        NamedStage(name="embedding", task="embedding", settings=config.embedding),
    ]
    if config.speakers.tells_apart:
        found.insert(0, NamedStage(name="diarization", task="diarization", settings=config.diarization))
    if config.speech.engine != "auto":
        [only] = stages_of(config)
        return [*found, NamedStage(name="speech", task="speech", settings=only)]
    return found + [
        NamedStage(name=f"speech.by_language.{language}", task="speech", settings=stage)
        for language, stage in config.speech.by_language.items()
    ]


def engines_of(config: Config) -> list[tuple[Task, str]]:
    """Task and name of each of these engines."""
    return list(dict.fromkeys((stage.task, stage.settings.engine) for stage in named_stages(config)))


def check_line_voice(config: Config, target: str, voice: str, name: str) -> None:
    """Raise ConfigError, with ``name`` for the setting, if the engine of a dub's other lines has not this voice."""
    stage = configured_stage(config, target)
    known = [each.id for each in _voices_of(stage, target) or ()]
    if known and voice not in known:
        raise ConfigError(f"{name} must be one of {stage.engine}'s {', '.join(known)}; found {voice!r}")


def chosen_voices(config: Config, targets: Sequence[str], given: Sequence[str]) -> dict[str, str]:
    """Target → voice, of choices such as ``pf_dora``, for all targets that it speaks, or ``pt=pf_dora``.

    Raises ConfigError if one of them or of the configuration's does not exist, or speaks none of the targets.
    """
    for target in targets:
        configured_stage(config, target)
    chosen: dict[str, str] = {}
    for choice in given:
        tag, has_tag, name = choice.rpartition("=")
        if has_tag:
            wanted = [target for target in targets if target == languages.normalise(tag.strip())]
        else:
            wanted = [target for target in targets if _has_voice(config, target, name)]
        if has_tag and not wanted:
            raise ConfigError(f"--voice must name a language of --to, {', '.join(targets)}; found {choice!r}")
        for target in wanted or targets[:1]:
            speech_stage(config, target, name)
            chosen[target] = name
    return chosen


async def settled_stage(config: Config, target: str, voice: str | None = None) -> StageConfig:
    """Like ``speech_stage``, with the options that the engine settles on this node before replicas start.

    Raises ConfigError, and EngineLoadError if the voice cannot be had on this node.
    """
    return await asyncio.to_thread(settled, speech_stage(config, target, voice), target, voice)


def settled(stage: StageConfig, target: str, voice: str | None) -> StageConfig:
    """The stage with the options that its engine settles on this node. May download. Raises EngineLoadError."""
    options = _engine(stage).settle(target, voice)
    return stage.model_copy(update={"options": {**stage.options, **options}}) if options else stage


def _has_voice(config: Config, target: str, name: str) -> bool:
    try:
        speech_stage(config, target, name)
    except ConfigError:
        return False
    return True


def _own_stage(config: Config, target: str) -> StageConfig:
    speech = config.speech
    if speech.engine != "auto":
        return StageConfig(engine=speech.engine, options=speech.options, pool=speech.pool)
    match = languages.best_match(target, speech.by_language)
    if match is None:
        raise ConfigError(
            f"speech.by_language must name an engine for {target}; it has {', '.join(speech.by_language) or 'none'}; "
            f"add one, or choose with --set speech.engine=NAME"
        )
    return speech.by_language[match]


def voices_of(stage: StageConfig, target: str) -> tuple[RegisteredVoice, ...]:
    """The voices that one engine has for a language, best first; none if it cannot say."""
    return tuple(_voices_of(stage, target) or ())


def _voices_of(stage: StageConfig, target: str) -> list[RegisteredVoice] | None:
    """The engine's voices for a language; None if it cannot say, as it clones or its model is not on this node."""
    engine = _engine(stage)
    voices: Sequence[Voice] | None = getattr(engine, "voices", None)
    if voices is None or engine.weights_id() is None:
        return None
    return [
        RegisteredVoice(
            id=voice.name,
            engine=stage.engine,
            stage=stage,
            languages=voice.languages,
            gender=voice.gender,
            pitch_hz=_pitches_hz().get(f"{stage.engine}/{voice.name}"),
            licence=voice.licence,
            is_native=voice.is_native,
        )
        for voice in voices
        if languages.best_match(target, voice.languages) is not None
    ]


def _unknown_voice(what: str, voice: str, voices: Sequence[RegisteredVoice], hint: str = "") -> ConfigError:
    names = [each.id for each in voices]
    near = difflib.get_close_matches(voice, names, n=1)
    hint = hint or (f"did you mean {near[0]!r}?" if near else "see raydub voices list")
    return ConfigError(f"{what} must be one of {', '.join(names) or '(none here)'}; found {voice!r}; {hint}")


def _engine(stage: StageConfig) -> Engine[Any, Any]:
    return make_engine("speech", stage.engine, stage.options)


def _key(stage: StageConfig) -> str:
    return stage.model_dump_json(include={"engine", "options"})


@functools.cache
def _pitches_hz() -> Mapping[str, float]:
    """``engine/voice`` → pitch, of the voices that were measured."""
    table = json.loads(importlib.resources.files("cluster.casting").joinpath("pitches.json").read_text("utf-8"))
    pitches: dict[str, float] = table["pitch_hz"]
    return pitches
