"""Gives each speaker of a dub a voice of their own: the one asked for, else the free one most like theirs."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from actors.engine import make_engine
from actors.errors import ConfigError
from cluster.casting.cast_file import CastFile, locked, read_cast, remember
from cluster.casting.voices import RegisteredVoice, named_voice, voice_for, voices_of
from cluster.config.schema import Config, StageConfig
from cluster.speakers.prints import Print
from cluster.speakers.turns import SPEAKER_NAME

log = logging.getLogger(__name__)

FEMALE_FROM_HZ, MALE_TO_HZ = 175.0, 150.0
"""Between these a pitch tells nothing about the gender."""
UNKNOWN_OCTAVES = 1.0
"""Distance of a voice of which neither pitch nor gender is known."""
USUAL_HZ = {"female": 200.0, "male": 115.0}
"""Pitch of a voice that was not measured."""


class Cast:
    """The voices of one dub's speakers. A speaker keeps the voice they were first given."""

    def __init__(
        self,
        voices: Sequence[RegisteredVoice],
        given: Mapping[str, Sequence[str]],
        default: str | None,
        free: Sequence[RegisteredVoice] | None = None,
    ) -> None:
        """``voices`` are those of the dub's engine, best first; ``given`` is speaker → voices of any language.

        ``default`` speaks where the engine cannot say which voices it has. Speakers without a given voice get one of
        ``free``, by default any.
        """
        self._voices = voices if free is None else free
        self._default = default
        names = {voice.id for voice in voices}
        self._cast: dict[str, str] = {}
        for speaker, wanted in given.items():
            own = [name for name in wanted if name in names]
            if own:
                self._cast[speaker] = own[0]

    def voice_of(self, speaker: str, pitch_hz: float | None) -> str | None:
        """The speaker's voice; None takes the engine's default."""
        if not self._voices:
            return self._default
        if speaker not in self._cast:
            self._cast[speaker] = choose_voice(pitch_hz, self._voices, self._cast.values())
        return self._cast[speaker]


def cast_of(config: Config, target: str, stage: StageConfig) -> Cast:
    """A cast for a dub into ``target``, of the voices of its speech engine.

    A voice that the configuration names for the language is everybody's, unless speakers are asked for.
    """
    default = voice_for(config, target)
    voices = sorted(voices_of(stage, target), key=lambda voice: voice.id != default)  # the language's own voice first
    free = voices if default is None or config.speakers.is_asked_for else voices[:1]
    given = {**known_cast(config).voices, **config.speakers.voices}
    return Cast(voices, given, default, free)


def known_cast(config: Config) -> CastFile:
    """The speakers of the cast file that the configuration names; nobody without one.

    Raises ConfigError, also if the file could not be written.
    """
    if config.speakers.cast is None:
        return CastFile(model="")
    path = Path(config.speakers.cast)
    with locked(path):
        return read_cast(path, voice_model(config))


def remember_cast(config: Config, heard: Mapping[str, Print], voices: Mapping[str, Sequence[str]]) -> None:
    """Add the speakers of a dub, with the voices that spoke for them, to the cast file. A dub does not fail for it."""
    settings = config.speakers
    if settings.cast is not None and heard:
        try:
            remember(Path(settings.cast), voice_model(config), heard, voices, settings.min_cast_likeness)
        except ConfigError as error:
            log.error("cast not updated, dub it again to have its speakers there: %s", error)


def voice_model(config: Config) -> str:
    """The engine that describes voices, and its weights: prints of others cannot be compared with its own."""
    stage = config.diarization
    return f"{stage.engine} {make_engine('diarization', stage.engine, stage.options).weights_id()}"


def choose_voice(pitch_hz: float | None, voices: Sequence[RegisteredVoice], taken: Iterable[str]) -> str:
    """The voice most like a speaker's among those that the fewest speakers have.

    The gender counts first, then that the voice is native to the language, then the pitch.
    """
    num_taken = Counter(taken)
    fewest = min(num_taken[voice.id] for voice in voices)
    free = [voice for voice in voices if num_taken[voice.id] == fewest]
    if pitch_hz is None:
        return free[0].id
    return min(free, key=lambda voice: _unlikeness(pitch_hz, voice)).id


def _unlikeness(pitch_hz: float, voice: RegisteredVoice) -> tuple[bool, bool, float]:
    gender = "female" if pitch_hz >= FEMALE_FROM_HZ else "male" if pitch_hz <= MALE_TO_HZ else None
    is_other = gender is not None and voice.gender is not None and voice.gender != gender
    own_hz = voice.pitch_hz or USUAL_HZ.get(voice.gender or "")
    return is_other, not voice.is_native, UNKNOWN_OCTAVES if own_hz is None else abs(math.log2(pitch_hz / own_hz))


def speaker_voices(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """The choices that name a speaker, as S1=pf_dora, as a setting, and the other choices, of languages."""
    by_speaker: dict[str, list[str]] = {}
    others = []
    for choice in given:
        name, has_name, voice = choice.partition("=")
        if has_name and SPEAKER_NAME.fullmatch(name.strip()):
            by_speaker.setdefault(name.strip(), []).append(voice.strip())
        else:
            others.append(choice)
    return [f"speakers.voices={json.dumps(by_speaker)}"] if by_speaker else [], others


def check_cast(config: Config) -> None:
    """Raise ConfigError if a voice of ``speakers.voices`` does not exist, or its speaker cannot."""
    speakers = config.speakers
    known_cast(config)
    for speaker, wanted in speakers.voices.items():
        for voice in wanted:
            named_voice(config, voice)
        if SPEAKER_NAME.fullmatch(speaker) and speakers.rttm is None and int(speaker[1:]) > speakers.most:
            raise ConfigError(
                f"a speaker with a voice must be one of S1 to S{speakers.most}, as speakers.count is "
                f"{speakers.count}; found {speaker}; give --speakers"
            )
