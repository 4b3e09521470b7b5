"""Speech engines whose model works on many lines at once: what ``PlannedSpeech`` does, batch by batch."""

from __future__ import annotations

import functools
import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from actors.errors import ItemError
from actors.speech._base import (
    ChosenFrames,
    Frames,
    Passage,
    PlannedSpeech,
    TimedPassage,
    Tokens,
    Voice,
    _unclipped,
)
from actors.types import Clip, ItemFailure, Plan, PlanRequest, Samples, SpeechRequest, SynthesiseRequest

In = TypeVar("In")
Out = TypeVar("Out")
Made = TypeVar("Made")


class BatchedSpeech(PlannedSpeech):
    """Plans and speaks a batch in as few calls of the model as it allows.

    Output depends on the plan and the length alone, to the rounding of the model's arithmetic.
    """

    @abstractmethod
    def predict_batch(self, passages: Sequence[Passage]) -> list[Frames | ItemFailure]:
        """The model's own duration of each token, in frames, for each passage."""

    @abstractmethod
    def speak_batch(self, passages: Sequence[Passage], frames: Sequence[ChosenFrames]) -> list[Samples | ItemFailure]:
        """Exactly ``frames[i].sum() * frame_samples`` samples for each passage."""

    def predict(self, tokens: Tokens, voice: Voice) -> Frames:
        return _raised(self.predict_batch([Passage(tokens=tokens, voice=voice)])[0])

    def speak(self, tokens: Tokens, frames: ChosenFrames, voice: Voice) -> Samples:
        return _raised(self.speak_batch([Passage(tokens=tokens, voice=voice)], [frames])[0])

    def run(self, batch: Sequence[SpeechRequest]) -> list[Plan | Clip | ItemFailure]:
        plans = iter(self._plan_all([request for request in batch if isinstance(request, PlanRequest)]))
        clips = iter(self._speak_all([request for request in batch if not isinstance(request, PlanRequest)]))
        return [next(plans) if isinstance(request, PlanRequest) else next(clips) for request in batch]

    def _plan_all(self, requests: Sequence[PlanRequest]) -> list[Plan | ItemFailure]:
        read = [_attempt(self._read, request) for request in requests]
        predicted = iter(self.predict_batch(_flat(read)))
        return [
            _finished(passages, predicted, functools.partial(self._planned, request))
            for request, passages in zip(requests, read, strict=True)
        ]

    def _speak_all(self, requests: Sequence[SynthesiseRequest]) -> list[Clip | ItemFailure]:
        timed = [_attempt(self._timed, request) for request in requests]
        flat = _flat(timed)
        spoken = iter(self.speak_batch([piece.passage for piece in flat], [piece.spoken for piece in flat]))
        return [_finished(pieces, spoken, self._clip) for pieces in timed]

    def _clip(self, pieces: Sequence[TimedPassage], spoken: Sequence[Samples]) -> Clip:
        parts = [self._window(piece, samples) for piece, samples in zip(pieces, spoken, strict=True)]
        return Clip(samples=_unclipped(np.concatenate(parts)), sample_hz=pieces[0].passage.voice.sample_hz)


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _attempt(work: Callable[[In], Out], request: In) -> Out | ItemFailure:
    try:
        return work(request)
    except ItemError as error:
        return ItemFailure(error=error)


def _flat(results: Sequence[list[Out] | ItemFailure]) -> list[Out]:
    return [piece for pieces in results if not isinstance(pieces, ItemFailure) for piece in pieces]


def _finished(
    pieces: Sequence[In] | ItemFailure,
    results: Iterator[Out | ItemFailure],
    make: Callable[[Sequence[In], Sequence[Out]], Made],
) -> Made | ItemFailure:
    """What ``make`` makes of a request's pieces and their results, or the first failure among them."""
    if isinstance(pieces, ItemFailure):
        return pieces
    good: list[Out] = []
    failure: ItemFailure | None = None
    for result in itertools.islice(results, len(pieces)):
        if isinstance(result, ItemFailure):
            failure = failure or result
        else:
            good.append(result)
    return failure or make(pieces, good)


def _raised(result: Out | ItemFailure) -> Out:
    if isinstance(result, ItemFailure):
        raise result.error
    return result
