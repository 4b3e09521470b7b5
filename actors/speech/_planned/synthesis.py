"""Planning and speaking a batch of requests in as few calls of the model as it allows."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from actors.durations import fit_frames
from actors.errors import EngineError, ItemError
from actors.speech._planned.edges import Edges, Mask, clip_window
from actors.speech._planned.model import ChosenFrames, Frames, Passage, SpeechModel, Tokens, attempt
from actors.speech._planned.voices import Voice, VoiceCatalogue
from actors.types import Clip, ItemFailure, Plan, PlanChunk, PlanRequest, Samples, SpeechRequest, SynthesiseRequest

PAUSE_S = 0.2
"""Pause between passages, beside the silence they keep at their ends."""

In = TypeVar("In")
Out = TypeVar("Out")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TimedPassage:
    """A passage with the chosen durations of its tokens."""

    passage: Passage
    kept: ChosenFrames
    """Frames of each token that the clip keeps."""
    spoken: ChosenFrames
    """Frames of each token that the model speaks: ``kept`` and the silence around it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Synthesis:
    """Plans texts and speaks plans with one loaded model.

    Output depends on the plan, the length and the take alone, to the rounding of the model's arithmetic; never on
    the batch or on earlier requests.
    """

    model: SpeechModel
    voices: VoiceCatalogue
    edges: Edges

    def run(self, batch: Sequence[SpeechRequest]) -> list[Plan | Clip | ItemFailure]:
        """One result or ItemFailure per request, in order."""
        plans = iter(self._plan([request for request in batch if isinstance(request, PlanRequest)]))
        clips = iter(self._speak([request for request in batch if not isinstance(request, PlanRequest)]))
        return [next(plans) if isinstance(request, PlanRequest) else next(clips) for request in batch]

    def _plan(self, requests: Sequence[PlanRequest]) -> list[Plan | ItemFailure]:
        read = [attempt(self._read, request) for request in requests]
        predicted = iter(self.model.predict(_flat(read)))
        return [
            _combined(passages, predicted, functools.partial(self._plan_of, request))
            for request, passages in zip(requests, read, strict=True)
        ]

    def _speak(self, requests: Sequence[SynthesiseRequest]) -> list[Clip | ItemFailure]:
        timed = [attempt(self._timed, request) for request in requests]
        flat = _flat(timed)
        spoken = iter(self.model.speak([piece.passage for piece in flat], [piece.spoken for piece in flat]))
        return [_combined(pieces, spoken, self._clip) for pieces in timed]

    # --- text to plan

    def _read(self, request: PlanRequest) -> list[Passage]:
        """Passages of the text. Raises ItemError if the voice is unknown or the text has nothing to say."""
        voice = self.voices.choose(request.language, request.voice)
        # espeak reads lone punctuation by its name: "?!" would be spoken as "question mark".
        tokenised = self.model.tokenise(request.text, voice) if _has_words(request.text) else []
        passages = [Passage(tokens=tokens, voice=voice) for tokens in tokenised if not self._is_silent(tokens).all()]
        if not passages:
            raise ItemError(f"a text to speak must hold something that can be read aloud; found {request.text!r}")
        return passages

    def _plan_of(self, request: PlanRequest, passages: Sequence[Passage], predicted: Sequence[Frames]) -> Plan:
        voice = passages[0].voice
        limited = [
            self.edges.limit(frames, self._is_silent(passage.tokens))
            for passage, frames in zip(passages, predicted, strict=True)
        ]
        for frames in limited[:-1]:
            frames[-1] += PAUSE_S * voice.sample_hz / voice.frame_samples
        natural_s, shortest_s, longest_s = _lengths_s(passages, limited, voice)
        return Plan(
            engine=self.voices.engine,
            voice=voice.name,
            language=request.language,
            text=request.text,
            chunks=tuple(
                PlanChunk(tokens=passage.tokens, frames=frames * np.float32(voice.natural_scale))
                for passage, frames in zip(passages, limited, strict=True)
            ),
            frame_samples=voice.frame_samples,
            sample_hz=voice.sample_hz,
            natural_s=natural_s,
            shortest_s=shortest_s,
            longest_s=longest_s,
            exact=True,
        )

    # --- plan to clip

    def _timed(self, request: SynthesiseRequest) -> list[TimedPassage]:
        """Passages with durations that sum to the wanted length. Raises ItemError if that is out of range."""
        plan = request.plan
        if plan.engine != self.voices.engine:
            raise ItemError(f"{self.voices.engine} must be given its own plans; found one of {plan.engine}")
        frame_s = plan.frame_samples / plan.sample_hz
        if not plan.shortest_s - frame_s <= request.duration_s <= plan.longest_s + frame_s:
            raise ItemError(
                f"the length of this plan must be {plan.shortest_s:.2f} to {plan.longest_s:.2f} s; "
                f"found {request.duration_s:.2f} s; choose one in range and stretch the rest"
            )
        voice = self.voices.choose(plan.language, plan.voice)
        natural = np.concatenate([chunk.frames for chunk in plan.chunks])
        # The range above is kept to one frame: where it ends at one frame a token, that is one too few.
        frames = fit_frames(natural, max(natural.size, round(request.duration_s / frame_s)))
        ends = np.cumsum([len(chunk.tokens) for chunk in plan.chunks])[:-1]
        return [
            TimedPassage(
                passage=Passage(tokens=chunk.tokens, voice=voice, take=request.take),
                kept=kept,
                spoken=self.edges.add_context(kept, self._is_silent(chunk.tokens), voice.context),
            )
            for chunk, kept in zip(plan.chunks, np.split(frames, ends), strict=True)
        ]

    def _clip(self, pieces: Sequence[TimedPassage], spoken: Sequence[Samples]) -> Clip:
        parts = [self._window(piece, samples) for piece, samples in zip(pieces, spoken, strict=True)]
        return Clip(samples=_unclipped(np.concatenate(parts)), sample_hz=pieces[0].passage.voice.sample_hz)

    def _window(self, piece: TimedPassage, samples: Samples) -> Samples:
        """``kept.sum()`` frames of the spoken samples."""
        voice = piece.passage.voice
        wanted_samples = int(piece.spoken.sum()) * voice.frame_samples
        if len(samples) != wanted_samples:
            raise EngineError(f"{self.voices.engine} must give {wanted_samples} samples, gave {len(samples)}")
        return clip_window(samples, int(piece.kept.sum()) * voice.frame_samples, voice.sample_hz)

    def _is_silent(self, tokens: Tokens) -> Mask:
        silent = self.model.silent
        return np.array([token in silent for token in tokens.tolist()], dtype=np.bool_)


def _lengths_s(passages: Sequence[Passage], frames: Sequence[Frames], voice: Voice) -> tuple[float, float, float]:
    """Natural, shortest and longest length; none leaves a token less than one frame."""
    own_frames = float(sum(each.sum() for each in frames))
    least_frames = sum(len(passage.tokens) for passage in passages)
    natural_s, shortest_s, longest_s = (
        max(least_frames, round(own_frames * scale)) * voice.frame_samples / voice.sample_hz
        for scale in (voice.natural_scale, voice.shortest_scale, voice.longest_scale)
    )
    return natural_s, shortest_s, longest_s


def _has_words(text: str) -> bool:
    """True if the text holds a letter, digit or symbol, by Unicode's categories."""
    return any(unicodedata.category(character)[0] in "LNS" for character in text)


def _unclipped(samples: Samples) -> Samples:
    """The samples, attenuated as a whole if a peak passes full scale, so that nothing is cut off."""
    peak = float(np.abs(samples).max(initial=0.0))
    return samples if peak <= 1.0 else samples / np.float32(peak)


def _flat(results: Sequence[list[Out] | ItemFailure]) -> list[Out]:
    return [piece for pieces in results if not isinstance(pieces, ItemFailure) for piece in pieces]


def _combined(
    pieces: Sequence[In] | ItemFailure,
    results: Iterator[Out | ItemFailure],
    combine: Callable[[Sequence[In], Sequence[Out]], Made],
) -> Made | ItemFailure:
    """One request's pieces and their results combined, or the first failure among them."""
    if isinstance(pieces, ItemFailure):
        return pieces
    good: list[Out] = []
    failure: ItemFailure | None = None
    for result in itertools.islice(results, len(pieces)):
        if isinstance(result, ItemFailure):
            failure = failure or result
        else:
            good.append(result)
    return failure or combine(pieces, good)
