"""The silence at both ends of a passage: planned, spoken, and cut down to a clip that starts with its sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from actors.speech._planned.model import ChosenFrames, Frames
from actors.speech._planned.voices import Context
from actors.types import Samples

PREROLL_S = 0.02
"""Kept before the first sound: soft consonants begin below the onset's threshold."""
ONSET_DB = -40.0
FADE_S = 0.005

Mask = npt.NDArray[np.bool_]
"""bool (num_tokens,)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """The silence that a model needs, and a clip keeps, at the ends of a passage; all in frames.

    Models put up to a third of a second of silence around speech and mumble when denied it. So each
    passage is spoken with the silence the model is used to (its context), and the clip is a window of
    that, which starts where the sound does.
    """

    lead: float
    """Most that is kept of the tokens before the first phoneme."""
    last: float
    """Most that is kept of the last phoneme."""
    tail: float
    """Most that is kept of the tokens after it."""
    context: Context
    """Dropped again from the clip, of voices that have none of their own."""
    tail_context: int
    """Added to the last token."""

    def limit(self, predicted: Frames, silent: Mask) -> Frames:
        """Durations with less silence at the ends; pauses inside stay the model's."""
        first, last = _first_and_last_sound(silent)
        frames = predicted.copy()
        _limit_sum(frames[:first], self.lead)
        _limit_sum(frames[last : last + 1], self.last)
        _limit_sum(frames[last + 1 :], self.tail)
        return frames

    def add_context(self, kept: ChosenFrames, silent: Mask, context: Context | None = None) -> ChosenFrames:
        """Durations with more silence at the ends than the clip keeps; a token that sounds there is left as it is.

        ``context`` is the voice's own, if it has one.
        """
        context = context or self.context
        spoken = kept.copy()
        if silent[0]:
            spoken[0] += context.lead
        spoken[_first_and_last_sound(silent)[1]] += context.last
        if silent[-1]:
            spoken[-1] += self.tail_context
        return spoken


def clip_window(samples: Samples, num_samples: int, sample_hz: int) -> Samples:
    """``num_samples`` of a passage from just before its first sound, faded at both ends."""
    start = onset_samples(samples, sample_hz) - round(PREROLL_S * sample_hz)
    start = min(max(start, 0), len(samples) - num_samples)
    return _faded(samples[start : start + num_samples], sample_hz)


def onset_samples(samples: Samples, sample_hz: int) -> int:
    """Start of the sound: the first 5 ms within ``ONSET_DB`` of the loudest 5 ms; 0 in silence."""
    step = sample_hz // 200
    energy = np.square(samples[: len(samples) // step * step].reshape(-1, step)).mean(axis=1)
    return int(np.argmax(energy >= energy.max(initial=0.0) * 10 ** (ONSET_DB / 10))) * step


def _first_and_last_sound(silent: Mask) -> tuple[int, int]:
    sounding = np.flatnonzero(~silent)
    return int(sounding[0]), int(sounding[-1])


def _faded(samples: Samples, sample_hz: int) -> Samples:
    """The samples with both ends ramped over ``FADE_S``, so that a cut in the noise floor does not click."""
    ramp = np.linspace(0.0, 1.0, round(FADE_S * sample_hz), dtype=np.float32)
    faded = samples.copy()
    faded[: len(ramp)] *= ramp
    faded[-len(ramp) :] *= ramp[::-1]
    return faded


def _limit_sum(frames: Frames, most: float) -> None:
    total = float(frames.sum())
    if total > most:
        frames *= np.float32(most / total)
