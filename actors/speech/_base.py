"""What speech engines with planned lengths share: text is planned, a length chosen, then it is spoken.

shapes: tokens int64 (num_tokens,) · natural and chosen frames (num_tokens,) · samples float32 (num_samples,)
"""

from __future__ import annotations

import hashlib
import unicodedata
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from actors import languages
from actors.durations import fit_frames
from actors.engine import Engine, EngineConfig
from actors.errors import ConfigError, EngineError, ItemError
from actors.types import (
    Clip,
    ItemFailure,
    Plan,
    PlanChunk,
    PlanRequest,
    Samples,
    SpeechRequest,
    SynthesiseRequest,
)

if TYPE_CHECKING:
    import onnxruntime

Tokens: TypeAlias = npt.NDArray[np.int64]
Frames: TypeAlias = npt.NDArray[np.float32]
ChosenFrames: TypeAlias = npt.NDArray[np.int64]
Loaded = TypeVar("Loaded")

CHARACTERS_PER_S = 15.0
"""Pace of ordinary speech, to weigh a text before it is planned."""
PREROLL_S = 0.02
"""Kept before the first sound: soft consonants begin below the onset's threshold."""
ONSET_DB = -40.0
FADE_S = 0.005
PAUSE_S = 0.2
"""Between pieces spoken separately, beside the silence they keep at their ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """A voice and its calibration; the scales multiply the durations that its model predicts."""

    name: str
    languages: tuple[str, ...]
    """BCP-47."""
    gender: Literal["female", "male"] | None
    natural_scale: float
    """For the pace of a person, as far as the voice stays clear there (bench/bench_speech.py)."""
    floor: float
    """No faster: where the voice, or its listeners, would fail."""
    longest: float
    """No slower, so as not to drag: a judgement, not a measurement."""
    sample_hz: int
    frame_samples: int
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """How much silence a clip keeps at its ends, in frames.

    Models put up to a third of a second of silence around what they say and mumble when denied it.
    So each piece is spoken with the silence the model is used to (its context), and the clip is a
    window of that, which starts where the sound does.
    """

    lead: float
    """Kept of the tokens before the first phoneme."""
    last: float
    """Kept of the last phoneme."""
    tail: float
    """Kept of the tokens after it."""
    lead_context: int
    """Added to the first token, and dropped again."""
    last_context: int
    """Added to the last phoneme: Kokoro's kind hides the closing silence in it."""
    tail_context: int
    """Added to the last token."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Passage:
    """What the model speaks in one go."""

    tokens: Tokens
    voice: Voice


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TimedPassage:
    passage: Passage
    kept: ChosenFrames
    """Frames of each token that the clip keeps."""
    spoken: ChosenFrames
    """Frames of each token that the model speaks: ``kept`` and the silence around it."""


class SpeechConfig(EngineConfig):
    voice: str | None = None
    """Voice for requests that name none; None takes the first that speaks the request's language."""


class TwoStepSpeech(Engine[SpeechRequest, Plan | Clip]):
    """A speech engine whose requests are planned or spoken one at a time."""

    @abstractmethod
    def plan(self, request: PlanRequest) -> Plan:
        """Raises ItemError if the voice is unknown or the text holds nothing to say."""

    @abstractmethod
    def synthesise(self, request: SynthesiseRequest) -> Clip:
        """Raises ItemError if the plan or the length is not one of this engine's."""

    def run(self, batch: Sequence[SpeechRequest]) -> list[Plan | Clip | ItemFailure]:
        return [self._run_one(request) for request in batch]

    def _run_one(self, request: SpeechRequest) -> Plan | Clip | ItemFailure:
        try:
            return self.plan(request) if isinstance(request, PlanRequest) else self.synthesise(request)
        except ItemError as error:
            return ItemFailure(error=error)


class PlannedSpeech(TwoStepSpeech):
    """A speech engine that knows a text's length before speaking it and keeps the length it is asked for.

    Output depends on the plan and the length alone, never on the batch or on what was said before.
    """

    Config: ClassVar[type[EngineConfig]] = SpeechConfig
    config: SpeechConfig

    edges: ClassVar[Edges]
    plan_share: ClassVar[float]
    """CPU time of planning over that of speaking (bench/bench_speech.py)."""

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__(config)
        if config.voice is not None and config.voice not in self._voice_names():
            raise ConfigError(
                f"speech.options.voice must be one of {', '.join(self._voice_names())}; found {config.voice!r}"
            )

    @property
    @abstractmethod
    def voices(self) -> tuple[Voice, ...]:
        """The voices there are, best first; needs no load."""

    @abstractmethod
    def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
        """The pieces that the model speaks in one go, padding included."""

    @abstractmethod
    def is_silent(self, token: int) -> bool:
        """Whether a token is padding, a space or punctuation."""

    @abstractmethod
    def predict(self, tokens: Tokens, voice: Voice) -> Frames:
        """The model's own duration of each token, in frames."""

    @abstractmethod
    def speak(self, tokens: Tokens, frames: ChosenFrames, voice: Voice) -> Samples:
        """Exactly ``frames.sum() * voice.frame_samples`` samples."""

    # --- the engine's contract

    def supports(self, *asked: str) -> bool:
        (language,) = asked
        return languages.best_match(language, self._tags()) is not None

    def describe_languages(self) -> str:
        return ", ".join(self._tags())

    def cost(self, request: SpeechRequest) -> float:
        """Seconds of audio that cost as much to speak: its length, or a small share of it for a plan."""
        if isinstance(request, SynthesiseRequest):
            return request.duration_s
        return self.plan_share * max(1, len(request.text)) / CHARACTERS_PER_S

    # --- the two steps

    def plan(self, request: PlanRequest) -> Plan:
        """Raises ItemError if the voice is unknown or the text holds nothing to say."""
        passages = self._read(request)
        return self._planned(request, passages, [self.predict(piece.tokens, piece.voice) for piece in passages])

    def synthesise(self, request: SynthesiseRequest) -> Clip:
        """``duration_s`` to the nearest frame. Raises ItemError if it is out of the plan's range."""
        spoken = [
            self._window(piece, self.speak(piece.passage.tokens, piece.spoken, piece.passage.voice))
            for piece in self._timed(request)
        ]
        return Clip(samples=_unclipped(np.concatenate(spoken)), sample_hz=request.plan.sample_hz)

    def _read(self, request: PlanRequest) -> list[Passage]:
        voice = self.choose_voice(request.language, request.voice)
        # espeak reads lone punctuation by its name: "?!" would be spoken as "question mark".
        tokenised = self.tokenise(request.text, voice) if _has_words(request.text) else []
        pieces = [
            Passage(tokens=tokens, voice=voice) for tokens in tokenised if not all(map(self.is_silent, tokens.tolist()))
        ]
        if not pieces:
            raise ItemError(f"a text to speak must hold something that can be read aloud; found {request.text!r}")
        return pieces

    def _planned(self, request: PlanRequest, passages: Sequence[Passage], predicted: Sequence[Frames]) -> Plan:
        voice = passages[0].voice
        limited = [self._limit_edges(piece.tokens, own) for piece, own in zip(passages, predicted, strict=True)]
        for frames in limited[:-1]:
            frames[-1] += PAUSE_S * voice.sample_hz / voice.frame_samples
        own_frames = float(sum(frames.sum() for frames in limited))
        least_frames = sum(len(piece.tokens) for piece in passages)
        natural_s, shortest_s, longest_s = (
            max(least_frames, round(own_frames * scale)) * voice.frame_samples / voice.sample_hz
            for scale in (voice.natural_scale, voice.floor, voice.longest)
        )
        return Plan(
            engine=self._name(),
            voice=voice.name,
            language=request.language,
            text=request.text,
            chunks=tuple(
                PlanChunk(tokens=piece.tokens, frames=frames * np.float32(voice.natural_scale))
                for piece, frames in zip(passages, limited, strict=True)
            ),
            frame_samples=voice.frame_samples,
            sample_hz=voice.sample_hz,
            natural_s=natural_s,
            shortest_s=shortest_s,
            longest_s=longest_s,
            exact=True,
        )

    def _timed(self, request: SynthesiseRequest) -> list[TimedPassage]:
        plan = request.plan
        if plan.engine != self._name():
            raise ItemError(f"{self._name()} must be given its own plans; found one of {plan.engine}")
        frame_s = plan.frame_samples / plan.sample_hz
        if not plan.shortest_s - frame_s <= request.duration_s <= plan.longest_s + frame_s:
            raise ItemError(
                f"the length of this plan must be {plan.shortest_s:.2f} to {plan.longest_s:.2f} s; "
                f"found {request.duration_s:.2f} s; choose one in range and stretch the rest"
            )
        voice = self.choose_voice(plan.language, plan.voice)
        natural = np.concatenate([chunk.frames for chunk in plan.chunks])
        # The range above is kept to one frame: where it ends at one frame a token, that is one too few.
        frames = fit_frames(natural, max(natural.size, round(request.duration_s / frame_s)))
        ends = np.cumsum([len(chunk.tokens) for chunk in plan.chunks])[:-1]
        return [
            TimedPassage(
                passage=Passage(tokens=chunk.tokens, voice=voice),
                kept=kept,
                spoken=self._with_context(chunk.tokens, kept),
            )
            for chunk, kept in zip(plan.chunks, np.split(frames, ends), strict=True)
        ]

    # --- the ends of a passage

    def _limit_edges(self, tokens: Tokens, predicted: Frames) -> Frames:
        """Shorten the silence at the ends; pauses inside stay the model's."""
        first, last = self._sounding(tokens)
        frames = predicted.copy()
        _limit_sum(frames[:first], self.edges.lead)
        _limit_sum(frames[last : last + 1], self.edges.last)
        _limit_sum(frames[last + 1 :], self.edges.tail)
        return frames

    def _with_context(self, tokens: Tokens, kept: ChosenFrames) -> ChosenFrames:
        """More silence at the ends than the clip keeps; a token that sounds there is left as it is."""
        spoken = kept.copy()
        if self.is_silent(int(tokens[0])):
            spoken[0] += self.edges.lead_context
        spoken[self._sounding(tokens)[1]] += self.edges.last_context
        if self.is_silent(int(tokens[-1])):
            spoken[-1] += self.edges.tail_context
        return spoken

    def _window(self, piece: TimedPassage, samples: Samples) -> Samples:
        """``kept.sum()`` frames of what was spoken, from just before its first sound."""
        voice = piece.passage.voice
        wanted_samples = int(piece.spoken.sum()) * voice.frame_samples
        if len(samples) != wanted_samples:
            raise EngineError(f"{self._name()} must give {wanted_samples} samples, gave {len(samples)}")
        num_samples = int(piece.kept.sum()) * voice.frame_samples
        start = onset_samples(samples, voice.sample_hz) - round(PREROLL_S * voice.sample_hz)
        start = min(max(start, 0), len(samples) - num_samples)
        return _faded(samples[start : start + num_samples], voice.sample_hz)

    def _sounding(self, tokens: Tokens) -> tuple[int, int]:
        """Where the first and the last token that is heard stand."""
        heard = [index for index, token in enumerate(tokens.tolist()) if not self.is_silent(token)]
        return heard[0], heard[-1]

    # --- voices

    def choose_voice(self, language: str, name: str | None) -> Voice:
        """The named voice, else the configured one, else the first of the nearest language. Raises ItemError."""
        match = languages.best_match(language, self._tags())
        speakers = [voice for voice in self.voices if match in voice.languages]
        if not speakers:
            raise ItemError(f"{self._name()} must be asked for {self.describe_languages()}; found {language!r}")
        if name is None:
            configured = [voice for voice in speakers if voice.name == self.config.voice]
            return (configured or speakers)[0]
        named = next((voice for voice in self.voices if voice.name == name), None)
        if named is None:
            raise ItemError(f"a voice must be one of {self._name()}'s {', '.join(self._voice_names())}; found {name!r}")
        if languages.best_match(language, named.languages) is None:
            raise ItemError(
                f"voice {name} must be asked for {', '.join(named.languages)}; found {language!r}; "
                f"for that use {', '.join(voice.name for voice in speakers)}"
            )
        return named

    def _voice_names(self) -> list[str]:
        return [voice.name for voice in self.voices]

    def _tags(self) -> list[str]:
        return list(dict.fromkeys(tag for voice in self.voices for tag in voice.languages))

    def _name(self) -> str:
        return type(self).__module__.rsplit(".", 1)[-1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CutOnnx:
    """A loaded voice model, cut at its durations."""

    durations: onnxruntime.InferenceSession
    synthesis: onnxruntime.InferenceSession
    silent: frozenset[int]
    """Tokens that are padding, a space or punctuation."""


LoadedModel = TypeVar("LoadedModel", bound=CutOnnx)


class OnnxSpeech(PlannedSpeech, Generic[LoadedModel]):
    """``load`` of an engine of this kind sets ``_loaded``."""

    _loaded: LoadedModel | None = None

    def close(self) -> None:
        self._loaded = None

    @property
    def model(self) -> LoadedModel:
        return require_loaded(self._loaded, self._name())

    def is_silent(self, token: int) -> bool:
        return token in self.model.silent


def require_loaded(model: Loaded | None, engine: str) -> Loaded:
    if model is None:
        raise EngineError(f"engine {engine} must be loaded before it runs; call load first")
    return model


def seeded_rng(tokens: Tokens, voice: Voice) -> np.random.Generator:
    """Noise that is a function of what is said: the same on any replica and in any batch."""
    digest = hashlib.sha256(voice.name.encode() + tokens.astype("<i8").tobytes()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def onset_samples(samples: Samples, sample_hz: int) -> int:
    """Where the sound begins: the first 5 ms within ``ONSET_DB`` of the loudest 5 ms; 0 in silence."""
    step = sample_hz // 200
    energy = np.square(samples[: len(samples) // step * step].reshape(-1, step)).mean(axis=1)
    return int(np.argmax(energy >= energy.max(initial=0.0) * 10 ** (ONSET_DB / 10))) * step


def _has_words(text: str) -> bool:
    """Whether the text holds a letter, digit or symbol, by Unicode's categories."""
    return any(unicodedata.category(character)[0] in "LNS" for character in text)


def _faded(samples: Samples, sample_hz: int) -> Samples:
    """Ends ramped over ``FADE_S``, so that a cut in the noise floor does not click."""
    ramp = np.linspace(0.0, 1.0, round(FADE_S * sample_hz), dtype=np.float32)
    faded = samples.copy()
    faded[: len(ramp)] *= ramp
    faded[-len(ramp) :] *= ramp[::-1]
    return faded


def _limit_sum(frames: Frames, most: float) -> None:
    total = float(frames.sum())
    if total > most:
        frames *= np.float32(most / total)


def _unclipped(samples: Samples) -> Samples:
    """Attenuated as a whole if a peak passes full scale, so that nothing is cut off."""
    peak = float(np.abs(samples).max(initial=0.0))
    return samples if peak <= 1.0 else samples / np.float32(peak)
