"""Voices with their calibration, and choosing one for a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from actors import languages
from actors.errors import ItemError

UNCALIBRATED_SHORTEST = 0.8
LONGEST = 1.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Frames of silence with which a voice is spoken, beyond those that a clip keeps."""

    lead: int
    """Added to the first token."""
    last: int
    """Added to the last phoneme: models of Kokoro's kind put the closing silence into it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """A voice and its calibration; the scales multiply the durations that its model predicts."""

    name: str
    languages: tuple[str, ...]
    """BCP-47 tags."""
    gender: Literal["female", "male"] | None
    natural_scale: float
    """The pace of a person, as far as the voice stays clear at it (bench/bench_speech.py)."""
    shortest_scale: float
    """Intelligibility floor: at a smaller scale the voice, or its listeners, would fail."""
    longest_scale: float
    """Slowest pace that does not drag: a judgement, not a measurement."""
    sample_hz: int
    frame_samples: int
    licence: str
    is_native: bool = True
    """False for a voice made for another language, which reads this one with an accent."""
    context: Context | None = None
    """In place of its engine's, ``Edges.context``: with more silence than the voice is used to, its model hums there.
    None takes the engine's."""


def uncalibrated_voice(
    *, name: str, languages: tuple[str, ...], natural_scale: float, sample_hz: int, frame_samples: int, licence: str
) -> Voice:
    """A voice of unknown gender with cautious limits, for a model that was never measured."""
    return Voice(
        name=name,
        languages=languages,
        gender=None,
        natural_scale=natural_scale,
        shortest_scale=min(UNCALIBRATED_SHORTEST, natural_scale),
        longest_scale=max(LONGEST, natural_scale),
        sample_hz=sample_hz,
        frame_samples=frame_samples,
        licence=licence,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceCatalogue:
    """The voices of an engine, best first."""

    engine: str
    voices: Sequence[Voice]
    default: str | None
    """Name of the voice for requests without one; None takes the first of the request's language."""

    @property
    def names(self) -> list[str]:
        return [voice.name for voice in self.voices]

    @property
    def languages(self) -> list[str]:
        return list(dict.fromkeys(tag for voice in self.voices for tag in voice.languages))

    def choose(self, language: str, name: str | None) -> Voice:
        """The named voice, else the default one, else the first of the nearest language.

        The voice is returned with its language nearest to ``language`` alone. Raises ItemError.
        """
        match = languages.best_match(language, self.languages)
        speakers = [voice for voice in self.voices if match in voice.languages]
        if not speakers:
            raise ItemError(f"{self.engine} must be asked for {', '.join(self.languages)}; found {language!r}")
        if name is None:
            chosen = next((voice for voice in speakers if voice.name == self.default), speakers[0])
        else:
            chosen = self._named(name)
        nearest = languages.best_match(language, chosen.languages)
        if nearest is None:
            raise ItemError(
                f"voice {name} must be asked for {', '.join(chosen.languages)}; found {language!r}; "
                f"for that use {', '.join(voice.name for voice in speakers)}"
            )
        return replace(chosen, languages=(nearest,))

    def _named(self, name: str) -> Voice:
        named = next((voice for voice in self.voices if voice.name == name), None)
        if named is None:
            raise ItemError(f"a voice must be one of {self.engine}'s {', '.join(self.names)}; found {name!r}")
        return named
