"""A transcriber behind OpenAI's endpoint, ``POST /v1/audio/transcriptions``: whisper servers, another raydub.

The dub takes its times from words, so the server must answer ``verbose_json`` with word times. Those come without
spaces and often without punctuation: each word is found again in its segment's text.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import BaseModel, Field

from actors import languages
from actors.engine import EngineConfig
from actors.errors import ConfigError, ItemError
from actors.remote import Answer, Body, RemoteApi, RemoteConfig, RemoteEngine, TransientError, parsed
from actors.transcription._audio import check_audio
from actors.transcription._whisper.level import levelled
from actors.transcription._whisper.words import compression_ratio
from actors.types import ASR_HZ, Samples, TranscribedSegment, TranscribeRequest, Transcript, Word
from actors.wav import wav_file

SHORTEST_S = 0.1
"""Shorter audio is refused by OpenAI, and holds no word."""
SHORTEST_WORD_S = 0.02
"""Servers round times, down to words of no length."""
UNDETERMINED = "und"
_MARKS = re.compile(r"^\W+|\W+$")


class OpenAIAudioConfig(RemoteConfig):
    initial_prompt: str = Field(default="", max_length=2000)
    """Text to condition every window on: it sets spelling and style. A request's own prompt follows it."""
    no_speech_threshold: float = Field(default=0.6, ge=0.0, le=1.0)
    """Segments are dropped if the server says that they are silence with more than this probability, and is unsure of
    their words (``log_probability_threshold``)."""
    log_probability_threshold: float = Field(default=-1.0, le=0.0)
    """Mean log probability under which a segment's words are unsure."""


class _Word(BaseModel):
    word: str
    start: float = Field(ge=0, allow_inf_nan=False)
    end: float = Field(ge=0, allow_inf_nan=False)
    probability: float | None = Field(default=None, ge=0, le=1)


class _Segment(BaseModel):
    start: float = Field(ge=0, allow_inf_nan=False)
    end: float = Field(ge=0, allow_inf_nan=False)
    text: str
    avg_logprob: float = Field(default=0.0, le=0, allow_inf_nan=False)
    no_speech_prob: float = Field(default=0.0, ge=0, le=1)
    words: list[_Word] | None = None
    """Present if the server puts words into their segments."""


class _Recording(BaseModel):
    language: str | None = None
    segments: list[_Segment] | None = None
    words: list[_Word] | None = None
    text: str = ""


class Engine(RemoteEngine[TranscribeRequest, Transcript]):
    """Transcripts with word times; ``cost`` is seconds of audio."""

    Config: ClassVar[type[EngineConfig]] = OpenAIAudioConfig
    config: OpenAIAudioConfig

    def supports(self, *asked: str) -> bool:
        (language,) = asked
        return self.is_trusted_with(language)

    def describe_languages(self) -> str:
        return ", ".join(self.config.languages) or "any language"

    def cost(self, request: TranscribeRequest) -> float:
        return max(SHORTEST_S, len(request.samples) / ASR_HZ)

    def answer(self, api: RemoteApi, request: TranscribeRequest, until_s: float) -> Transcript:
        check_audio(request.samples)
        if request.language is not None and not self.supports(request.language):
            raise ItemError(f"the language must be {self.describe_languages()}; found {request.language!r}")
        if len(request.samples) < SHORTEST_S * ASR_HZ:
            return _nothing_said(request.language)
        body = Body(form=self._form(request), files={"file": ("window.wav", _wave(request.samples), "audio/wav")})
        return api.post(
            "audio/transcriptions", lambda _: body, lambda answer: self._transcript(answer, request), until_s
        )

    def _form(self, request: TranscribeRequest) -> dict[str, object]:
        form: dict[str, object] = {
            "model": self.config.model,
            "response_format": "verbose_json",
            "timestamp_granularities[]": ["word", "segment"],
        }
        if request.language is not None:
            form["language"] = languages.base(request.language)
        if prompt := f"{self.config.initial_prompt} {request.prompt}".strip():
            form["prompt"] = prompt
        return {**form, **self.config.extra_body}

    def _transcript(self, answer: Answer, request: TranscribeRequest) -> Transcript:
        recording = parsed(_Recording, answer.content)
        segments = recording.segments
        if segments is None:
            if recording.text.strip():
                raise ItemError("the server must answer verbose_json with segments; it answered text alone")
            segments = []
        segments = [each for each in segments if any(map(str.isalnum, each.text)) and not self._is_silence(each)]
        if segments and not recording.words and not any(each.words for each in segments):
            raise ItemError(
                "the server must answer with the times of words (timestamp_granularities[]=word); it gave none: "
                "choose a server and model that can, as a dub is timed by its words"
            )
        timed = _timed(segments, recording.words or [], len(request.samples) / ASR_HZ)
        if not timed:
            return _nothing_said(request.language)
        language = request.language or _tag(recording.language)
        return Transcript(language=language, language_probability=float(language != UNDETERMINED), segments=timed)

    def _is_silence(self, segment: _Segment) -> bool:
        return (
            segment.no_speech_prob > self.config.no_speech_threshold
            and segment.avg_logprob <= self.config.log_probability_threshold
        )


def _nothing_said(language: str | None) -> Transcript:
    if language is None:
        return Transcript(language=UNDETERMINED, language_probability=0.0, segments=())
    return Transcript(language=language, language_probability=1.0, segments=())


def _tag(language: str | None) -> str:
    """The tag of a language that a server names in English or by code. Raises TransientError."""
    try:
        return UNDETERMINED if language is None else languages.named(language)
    except ConfigError as error:
        raise TransientError(f"its answer must name a language; {error.message}") from error


def _wave(samples: Samples) -> bytes:
    """A WAV file; quiet windows are raised, as those of a local whisper are."""
    return wav_file(levelled(samples).clip(-1.0, 1.0) * 32767, ASR_HZ)


# --- words


def _timed(segments: Sequence[_Segment], words: Sequence[_Word], duration_s: float) -> tuple[TranscribedSegment, ...]:
    """The segments with words that have length, follow one another and end by ``duration_s``."""
    found: list[TranscribedSegment] = []
    clock_s = 0.0
    for segment, own in zip(segments, _shared_out(segments, words), strict=True):
        likely = math.exp(segment.avg_logprob)
        texts = word_texts(segment.text, [word.word for word in own])
        spoken = _in_order(
            [
                Word(text=text, start_s=word.start, end_s=word.end, probability=word.probability or likely)
                for text, word in zip(texts, own, strict=True)
            ],
            clock_s,
            duration_s,
        )
        if not any(character.isalnum() for word in spoken for character in word.text):
            continue
        clock_s = spoken[-1].end_s
        text = "".join(word.text for word in spoken).strip()
        found.append(
            TranscribedSegment(
                start_s=spoken[0].start_s,
                end_s=clock_s,
                text=text,
                words=tuple(spoken),
                mean_log_probability=segment.avg_logprob,
                no_speech_probability=segment.no_speech_prob,
                compression_ratio=compression_ratio(text),
            )
        )
    return tuple(found)


def _shared_out(segments: Sequence[_Segment], words: Sequence[_Word]) -> Iterator[list[_Word]]:
    """Each segment's words, by time; one for the whole segment where none lies in it."""
    rest = list(words)
    for number, segment in enumerate(segments):
        is_last = number == len(segments) - 1
        own = [word for word in segment.words or () if word.word.strip()]
        while rest and (is_last or (rest[0].start + rest[0].end) / 2 < segment.end):
            word = rest.pop(0)
            own += [word] if word.word.strip() and not segment.words else []
        yield own or [_Word(word=segment.text, start=segment.start, end=segment.end)]


def word_texts(text: str, words: Sequence[str]) -> list[str]:
    """The text cut into its words, spaces and punctuation included: joined, they are the text.

    A word that is not in the text, as a server may spell numbers in two ways, cannot tell where it is cut: then the
    words are taken as they are, with a space before each in a text that has any.
    """
    folded = _folded(text)
    cuts = []
    at = 0
    for word in words:
        bare = _folded(_MARKS.sub("", word.strip()) or word.strip())
        start = folded.find(bare, at)
        if start < 0:
            gap = " " if " " in text.strip() else ""
            return [f"{gap}{each.strip()}" for each in words]
        at_space = max(text.rfind(" ", at, start), text.rfind("\n", at, start))
        cuts.append(start if at_space < 0 else at_space)
        at = start + len(bare)
    ends = [*cuts[1:], len(text)]
    starts = [0, *cuts[1:]]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)][: len(words)]


def _folded(text: str) -> str:
    """The text without capitals, character by character: "ß", which is longer without, stays."""
    return "".join(low if len(low := character.casefold()) == 1 else character for character in text)


def _in_order(words: Sequence[Word], clock_s: float, duration_s: float) -> list[Word]:
    """The words, moved apart where their times overlap; one without room joins the word before it."""
    found: list[Word] = []
    for word in words:
        start_s = max(word.start_s, clock_s)
        end_s = min(max(word.end_s, start_s + SHORTEST_WORD_S), duration_s)
        if not word.text.strip() or start_s >= end_s:
            if found:
                found[-1] = dataclasses.replace(found[-1], text=found[-1].text + word.text)
            continue
        found.append(dataclasses.replace(word, start_s=start_s, end_s=end_s))
        clock_s = end_s
    return found
