"""The records that flow from step to step: one type per step, nothing filled in later.

Times named ``_s`` are float seconds on the media timeline (0 is the first presented moment of the
input), spans are half-open ``[start_s, end_s)``. Audio is float32 in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from actors.errors import ItemError

Samples: TypeAlias = npt.NDArray[np.float32]
"""float32 (num_samples,), mono, [-1, 1] unless a docstring says otherwise."""

Task = Literal["transcription", "translation", "embedding", "speech"]
TASKS: tuple[Task, ...] = ("transcription", "translation", "embedding", "speech")

ASR_HZ = 16_000
"""Sample rate of everything that listens: voice activity detection and transcription."""


TIME_DIGITS = 4
"""Media times are rounded to 0.1 ms where they arise: far under a frame, and the same again when read from text."""


def media_time(seconds: float) -> float:
    return round(seconds, TIME_DIGITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """A stretch of one input's audio, cut in silence, at most the transcriber's 30 s long."""

    index: int
    start_s: float
    samples: Samples
    """float32 (num_samples,), mono, at ``ASR_HZ``."""
    speech: tuple[Span, ...]
    """Where the voice detector heard speech, on the media timeline, inside this window."""
    next_speech_s: float | None
    """Where speech begins after this window; None if it never does."""

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.samples) / ASR_HZ


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    text: str
    """With the space before it, where its script has one: joined by nothing, words are the text."""
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Timed source speech of one speaker, as heard: a sentence, or a phrase between pauses."""

    id: str
    start_s: float
    end_s: float
    text: str
    language: str
    speaker: str
    words: tuple[Word, ...]
    mean_log_probability: float
    no_speech_probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What the translator is given: one sentence or more, of one speaker, as consecutive segments."""

    id: str
    segments: tuple[Segment, ...]
    room_end_s: float
    """Until when this speaker's dub may sound: the next speech, or the end of the media."""

    @property
    def text(self) -> str:
        """Its segments' texts, with spaces between them where their script has any."""
        words = [word for segment in self.segments for word in segment.words]
        has_spaces = not words or any(word.text[:1].isspace() for word in words)
        return (" " if has_spaces else "").join(segment.text for segment in self.segments)

    @property
    def language(self) -> str:
        return self.segments[0].language

    @property
    def speaker(self) -> str:
        return self.segments[0].speaker


# --- transcription


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TranscribeRequest:
    samples: Samples
    """float32 (num_samples,), mono, at ``ASR_HZ``, at most 30 s."""
    language: str | None
    """BCP-47; None lets the engine detect it."""
    prompt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscribedSegment:
    """Times are relative to the start of the request's samples."""

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...]
    mean_log_probability: float
    no_speech_probability: float
    compression_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    language: str
    language_probability: float
    segments: tuple[TranscribedSegment, ...]


# --- translation


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslateRequest:
    text: str
    source_language: str
    target_language: str
    num_candidates: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    text: str
    score: float | None
    """Mean log probability per token, higher is better; None where the engine gives none."""
    alignment: tuple[tuple[int, int, float], ...] | None = None
    """What the model looked at: (source word, target word, weight), words being ``text.split()``. For a target
    word the weights of its source words add up to at most 1. None where the engine gives none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    candidates: tuple[Candidate, ...]
    """Best first; at least one, at most ``num_candidates``."""


# --- embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    text: str
    with_tokens: bool = False
    """Also give the vectors of its tokens; an engine that has none fails the item."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenVectors:
    """A text read once, of which any span may be pooled: the L2-normalised mean of its tokens' vectors.

    A cumulative sum of ``vectors`` pools each of many spans in O(dim).
    """

    spans: npt.NDArray[np.int64]
    """int64 (num_tokens, 2): half-open ranges of characters of the text, none empty, in order, not overlapping.
    White space may lie between them; what the engine did not read, past its longest text, has none."""
    vectors: npt.NDArray[np.float32]
    """float32 (num_tokens, dim), not normalised."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedding:
    vector: npt.NDArray[np.float32]
    """float32 (dim,), L2-normalised."""
    tokens: TokenVectors | None = None
    """Where asked for by ``with_tokens``; the engine says how they relate to ``vector``."""


# --- speech


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """A sample of somebody's speech, for engines that clone the voice."""

    samples: Samples
    sample_hz: int
    key: str
    """Content address: what an engine derives from the samples is cached by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    text: str
    language: str
    voice: str | None = None
    """A voice the engine knows; None takes the engine's voice for the language."""
    reference: Reference | None = None
    """Takes precedence over ``voice`` in engines that clone; the others have no use for it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanChunk:
    """One piece the model speaks in one go."""

    tokens: npt.NDArray[np.int64]
    """int64 (num_tokens,)"""
    frames: npt.NDArray[np.float32]
    """float32 (num_tokens,): natural duration of each token in frames, at the calibrated rate."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What would be said, and how long it takes, before anything expensive runs.

    ``synthesise`` of the same engine and options speaks it on any replica.
    """

    engine: str
    voice: str
    language: str
    text: str
    chunks: tuple[PlanChunk, ...]
    frame_samples: int
    sample_hz: int
    natural_s: float
    """Length at the voice's calibrated rate."""
    shortest_s: float
    """The voice's intelligibility floor: no faster plan is spoken."""
    longest_s: float
    exact: bool
    """Whether ``synthesise`` gives the chosen length; else it speaks naturally and must be stretched."""
    reference: Reference | None = None
    """The voice to be cloned, where the engine clones."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SynthesiseRequest:
    plan: Plan
    duration_s: float
    """Wanted length, ``plan.shortest_s`` to ``plan.longest_s``; kept to one frame if ``plan.exact``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    samples: Samples
    sample_hz: int

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_hz


SpeechRequest: TypeAlias = PlanRequest | SynthesiseRequest


# --- batches


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFailure:
    """Stands in a batch's results where one item failed."""

    error: ItemError
