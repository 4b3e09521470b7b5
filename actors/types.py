"""The records that flow from step to step: one type per step, complete when it is made.

Times named ``_s`` are float seconds on the media timeline (0 is the first presented moment of the
input), spans are half-open ``[start_s, end_s)``. Audio is float32 in [-1, 1].
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from actors.errors import ItemError

Samples: TypeAlias = npt.NDArray[np.float32]
"""float32 (num_samples,), mono, [-1, 1] unless a docstring says otherwise."""

Task = Literal["diarization", "transcription", "translation", "embedding", "speech"]
TASKS: tuple[Task, ...] = ("diarization", "transcription", "translation", "embedding", "speech")

ASR_HZ = 16_000
"""Sample rate of voice activity detection and transcription."""
VOICE_FRAME_SAMPLES = 512
"""Samples for which the voice detector (Silero) gives one probability, at ``ASR_HZ``."""

ADDED: Mapping[str, bool] = MappingProxyType({"added": True})
"""Metadata of a request's field that came after the first release: at its default, it does not count in store keys."""

TIME_DIGITS = 4
"""Media times are rounded to 0.1 ms when they are made: far below a frame, and equal when read back from text."""


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
    """Spans of detected speech inside this window, on the media timeline."""
    next_speech_s: float | None
    """Start of the next speech after this window; None if there is none."""
    voice: Samples | None = None
    """float32 (num_frames,): probability of speech in each ``VOICE_FRAME_SAMPLES``; None if it was not measured."""

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.samples) / ASR_HZ


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    text: str
    """The word with the space before it, if its script has one: concatenated words are the text."""
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Timed source speech of one speaker, as transcribed: a sentence, or a phrase between pauses."""

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
    """The translator's input: one sentence or more of one speaker, as consecutive segments."""

    id: str
    segments: tuple[Segment, ...]
    room_end_s: float
    """Latest end of the unit's dub: the start of the next speech, or the end of the media."""

    @property
    def text(self) -> str:
        """The segments' texts, joined by spaces if their script has any."""
        words = [word for segment in self.segments for word in segment.words]
        has_spaces = not words or any(word.text[:1].isspace() for word in words)
        return (" " if has_spaces else "").join(segment.text for segment in self.segments)

    @property
    def language(self) -> str:
        return self.segments[0].language

    @property
    def speaker(self) -> str:
        return self.segments[0].speaker


# --- diarization


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerTurn:
    """Speech of one speaker, on the media timeline."""

    start_s: float
    end_s: float
    speaker: str


MAX_PIECE_S = 1.5
"""Longest piece of speech of which a voice is described: long enough to know it, short enough to be of one speaker."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VoiceRequest:
    samples: Samples
    """float32 (num_samples,), mono, at ``ASR_HZ``."""
    pieces: tuple[Span, ...]
    """Stretches of speech, relative to the start of the samples, at most ``MAX_PIECE_S`` long; they may overlap."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VoicePrints:
    """The voice in each piece of a request."""

    vectors: npt.NDArray[np.float32]
    """float32 (num_pieces, dim), L2-normalised: near each other where the speaker is the same."""
    pitches_hz: npt.NDArray[np.float32]
    """float32 (num_pieces,): median pitch; NaN where too little is voiced."""


# --- transcription


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TranscribeRequest:
    samples: Samples
    """float32 (num_samples,), mono, at ``ASR_HZ``, at most 30 s."""
    language: str | None
    """BCP-47; None lets the engine detect it."""
    prompt: str = ""
    voice: Samples | None = None
    """float32 (num_frames,): probability of speech in each ``VOICE_FRAME_SAMPLES``, the last of which may be short.
    None lets the engine detect it."""


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
    language: str | None = None
    """BCP-47; None for the language of its transcript."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    language: str
    language_probability: float
    segments: tuple[TranscribedSegment, ...]
    language_probabilities: tuple[tuple[str, float], ...] = ()
    """(BCP-47, probability) of what the audio sounds like, likeliest first, also where the request named a language.
    Empty if nothing was said, or if the engine cannot tell."""


# --- translation


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslateRequest:
    text: str
    source_language: str
    target_language: str
    num_candidates: int = 1
    context: tuple[str, ...] = ()
    """Source texts spoken just before, the nearest last. Given to engines with ``reads_context`` alone."""
    duration_s: float | None = None
    """Seconds that the translation should take to say. Given to engines with ``reads_context`` alone."""


CERTAIN = 0.0
"""Score of a translation that was looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    text: str
    score: float | None
    """Mean log probability per token, higher is better; None where the engine gives none."""
    alignment: tuple[tuple[int, int, float], ...] | None = None
    """The model's attention: (source word, target word, weight), as indices into ``text.split()``. For a target
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
    """Also return the vectors of the text's tokens; an engine without them fails the item."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenVectors:
    """Vectors of a text's tokens, to embed any span of it: the L2-normalised mean of the span's vectors.

    A cumulative sum of ``vectors`` pools each of many spans in O(dim).
    """

    spans: npt.NDArray[np.int64]
    """int64 (num_tokens, 2): half-open ranges of characters of the text, none empty, in order, not overlapping.
    White space may lie between them; text beyond the engine's longest input has no tokens."""
    vectors: npt.NDArray[np.float32]
    """float32 (num_tokens, dim), not normalised."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedding:
    vector: npt.NDArray[np.float32]
    """float32 (dim,), L2-normalised."""
    tokens: TokenVectors | None = None
    """Present if requested by ``with_tokens``; the engine documents how they relate to ``vector``."""


# --- speech


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """A sample of a speaker's speech, for engines that clone the voice."""

    samples: Samples
    sample_hz: int
    key: str
    """Content address of the samples, to cache values that an engine derives from them."""


IPA_MARK = re.compile(r"\[\[(.*?)\]\]")
"""IPA inside a text to speak, as in ``a [[ʒif]]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    text: str
    """As it is read aloud; engines that take IPA find it in ``IPA_MARK``."""
    language: str
    voice: str | None = None
    """A voice of the engine; None takes the engine's voice for the language."""
    reference: Reference | None = None
    """Takes precedence over ``voice`` in engines that clone; other engines ignore it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanChunk:
    """A piece of the text that the model speaks in one call."""

    tokens: npt.NDArray[np.int64]
    """int64 (num_tokens,)"""
    frames: npt.NDArray[np.float32]
    """float32 (num_tokens,): natural duration of each token in frames, at the calibrated rate."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """Tokens and durations of an utterance, made before anything expensive runs.

    Any replica of the same engine and options can speak it.
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
    """Length at the voice's intelligibility floor: no shorter clip is made."""
    longest_s: float
    exact: bool
    """True if the clip has the chosen length; otherwise it has its own and must be stretched."""
    reference: Reference | None = None
    """The voice to be cloned, for engines that clone."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SynthesiseRequest:
    plan: Plan
    duration_s: float
    """Wanted length, ``plan.shortest_s`` to ``plan.longest_s``; kept to one frame if ``plan.exact``."""
    take: int = field(default=0, metadata=ADDED)
    """Each number gives the same words in sounds of its own, as another reading does."""


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
    """The result of an item that failed, in its place in a batch's results."""

    error: ItemError
