"""Single models for HTTP requests, on the same pools as dubs, so that they share batches."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import soxr

from actors import languages
from actors.engine import Engine, make_engine
from actors.errors import DubbingError, ItemError
from actors.sentences import pieces
from actors.spoken import has_words, spoken_form
from actors.types import (
    ASR_HZ,
    Candidate,
    Clip,
    Embedding,
    EmbedRequest,
    Plan,
    PlanRequest,
    Samples,
    SynthesiseRequest,
    Task,
    TranslateRequest,
    Translation,
    Word,
)
from cluster.audio.tempo import at_tempo
from cluster.audio.windows import cut_windows
from cluster.casting.voices import RegisteredVoice, all_voices, settled_stage, speech_stage, voices_for
from cluster.config.schema import Config, StageConfig
from cluster.media.probe import AudioTrack, MediaInfo
from cluster.media.sandbox import decode_audio, inspect
from cluster.media.tracks import choose_audio_track
from cluster.pools.cached_pool import PoolLike
from cluster.pools.pool_set import JobPool, PoolSet
from cluster.steps.progress import Progress
from cluster.steps.transcribe import Listener
from cluster.streams import closing, from_thread, ordered_map
from serve.inference.admission import AdmissionQueue, request_priority
from serve.inference.audio_stream import STREAM_HZ
from serve.inference.language_id import DetectedLanguage, detect_any, detectable, likely_language
from serve.inference.markup import word_vectors
from serve.settings import InferenceLimits
from serve.threads import Workers

DEFAULT_VOICE = "default"
"""Name that clients use for the voice of an engine that lists none."""
PIECE_CHARACTERS = 300
"""A text is spoken in sentences, or parts of this size, so that the first can be sent while the others are made."""
PIECES_AHEAD = 4
PAUSE_S = 0.2
"""Silence between sentences, in addition to what their clips begin and end with."""
AUDIBLE_STRETCH = 0.01
"""Relative difference to the wanted length below which a clip is not stretched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardSegment:
    """A transcribed segment. Its times are on the media timeline."""

    language: str
    language_probability: float
    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...]
    mean_log_probability: float
    no_speech_probability: float
    compression_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpokenPiece:
    """A part of a text and its sound; empty where there is nothing to say."""

    text: str
    samples: Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguagePair:
    source: str
    target: str


class Inference:
    """Calls single models of a dispatcher's pools. Methods raise ItemError for a request that cannot be served."""

    def __init__(
        self, config: Config, pools: PoolSet, limits: InferenceLimits | None = None, workers: Workers | None = None
    ) -> None:
        self.config = config
        self.limits = limits or InferenceLimits()
        self._pools = pools
        self._workers = workers or Workers()
        self.encoding = self._workers.encoding
        self._queues: dict[PoolLike, AdmissionQueue] = {}

    # --- speech

    @functools.cached_property
    def spoken_languages(self) -> tuple[str, ...]:
        """BCP-47 tags of the languages that have a voice."""
        speech = self.config.speech
        if speech.engine == "auto":
            return tuple(speech.by_language)
        engine = make_engine("speech", speech.engine, speech.options)
        return tuple(sorted(tag for tag in detectable() if engine.supports(tag)))

    def language_to_speak(self, text: str, language: str | None, among: Sequence[str] = ()) -> str:
        """``language`` if given, else the detected language of the text.

        It is one of ``among``, or of those that have a voice.
        """
        if language is not None:
            return languages.normalise(language)
        possible = among or self.spoken_languages
        found = likely_language(text, frozenset(map(languages.base, possible)))
        return found if found != "und" else possible[0]

    @functools.cached_property
    def voice_languages(self) -> dict[str, tuple[str, ...]]:
        """Languages by voice. Those of engines that take any voice are at ``DEFAULT_VOICE``."""
        found: dict[str, tuple[str, ...]] = {}
        for language in self.spoken_languages:
            for name in self.voices(language) or (DEFAULT_VOICE,):
                found[name] = (*found.get(name, ()), language)
        return found

    def voices(self, language: str) -> tuple[str, ...]:
        """Names of the voices for a language, best first; empty where the engine takes any voice."""
        return tuple(voice.id for voice in voices_for(self.config, language))

    @functools.cached_property
    def registered_voices(self) -> dict[str, RegisteredVoice]:
        """The voices whose engines say what they are, by name."""
        return {voice.id: voice for voice in all_voices(self.config)}

    async def can_speak(self, language: str, voice: str) -> bool:
        """Return True if the voice can be had on this node."""
        try:
            await settled_stage(self.config, language, voice)
        except DubbingError:
            return False
        return True

    async def speak(
        self, text: str, *, language: str, voice: str | None, speed: float, hz: int = STREAM_HZ
    ) -> AsyncIterator[Samples]:
        """float32 (num_samples,), mono, at ``hz``: one sentence at a time, as soon as it is ready."""
        async with closing(self.speak_pieces(text, language=language, voice=voice, speed=speed, hz=hz)) as spoken:
            async for piece in spoken:
                if len(piece.samples):
                    yield piece.samples

    async def speak_pieces(
        self, text: str, *, language: str, voice: str | None, speed: float, hz: int = STREAM_HZ
    ) -> AsyncIterator[SpokenPiece]:
        """The text in order, in sentences, each with its sound; pauses between them are pieces too."""
        if not has_words(text):
            raise _nothing_to_say(text)
        queue = await self._queue_of("speech", await settled_stage(self.config, language, voice))
        queue.check()
        pool = JobPool(queue, request_priority())

        async def spoken(piece: str) -> SpokenPiece:
            if not has_words(piece):  # only punctuation or symbols, between sentences that can be spoken
                return SpokenPiece(text=piece, samples=np.zeros(0, np.float32))
            request = PlanRequest(text=spoken_form(piece, language), language=language, voice=voice)
            plan: Plan = await pool.submit(request, order=_now_s())
            wanted_s = plan.natural_s / speed
            spoken_s = min(max(wanted_s, plan.shortest_s), plan.longest_s) if plan.exact else plan.natural_s
            clip: Clip = await pool.submit(SynthesiseRequest(plan=plan, duration_s=spoken_s), order=_now_s())
            length_s = wanted_s if plan.exact else clip.duration_s / speed
            return SpokenPiece(text=piece, samples=await asyncio.to_thread(_at_rate, clip, length_s, hz))

        pause = SpokenPiece(text=" ", samples=np.zeros(round(PAUSE_S * hz), np.float32))
        is_first = True
        async with closing(ordered_map(_each(pieces(text, PIECE_CHARACTERS)), spoken, PIECES_AHEAD)) as clips:
            async for piece in clips:
                if not is_first and len(piece.samples):
                    yield pause
                is_first = is_first and not len(piece.samples)
                yield piece

    # --- transcription

    async def open_audio(self, path: Path) -> tuple[MediaInfo, AudioTrack]:
        """Inspect a recording. Raises MediaError if it has no readable audio, or too much."""
        media = self.config.media.model_copy(
            update={"max_duration_s": min(self.config.media.max_duration_s, self.limits.max_audio_s)}
        )
        info = await self._workers.inspecting.run(inspect, path, media)
        return info, await self._workers.inspecting.run(choose_audio_track, info, None, media)

    async def transcribe(
        self, info: MediaInfo, track: AudioTrack, *, language: str | None, prompt: str = ""
    ) -> AsyncIterator[HeardSegment]:
        """Segments in order, each as soon as its window is transcribed."""
        config = self.config
        limit = config.pipeline.max_windows
        queue = await self._queue_of("transcription", config.transcription)
        queue.check()
        progress = Progress(job=info.path.name)
        listener = Listener(config, JobPool(queue, request_priority()), language, (), progress, prompt=prompt)
        audio = decode_audio(info, track, hz=ASR_HZ, channels="mono", config=config.media)
        windows = from_thread(cut_windows(audio, config.windows), limit)
        async with closing(ordered_map(listener.watch(windows), listener.transcribe, limit)) as heard:
            async for window, transcript in heard:
                for segment in transcript.segments:
                    yield HeardSegment(
                        language=segment.language or transcript.language,
                        language_probability=transcript.language_probability,
                        start_s=window.start_s + segment.start_s,
                        end_s=window.start_s + segment.end_s,
                        text=segment.text.strip(),
                        words=tuple(_shifted(word, window.start_s) for word in segment.words),
                        mean_log_probability=segment.mean_log_probability,
                        no_speech_probability=segment.no_speech_probability,
                        compression_ratio=segment.compression_ratio,
                    )

    # --- translation

    @functools.cached_property
    def _translator(self) -> Engine[Any, Any]:
        """The engine, only to ask for its languages. Its model is not loaded."""
        return self._engine("translation", self.config.translation)

    @functools.cached_property
    def language_pairs(self) -> tuple[LanguagePair, ...]:
        """Pairs that can be translated, among the languages that can be detected."""
        engine = self._translator
        known = sorted(detectable())
        return tuple(
            LanguagePair(source=source, target=target)
            for source in known
            for target in known
            if source != target and engine.supports(source, target)
        )

    @functools.cached_property
    def source_languages(self) -> frozenset[str]:
        """Languages without region, as in ``language_pairs``."""
        return frozenset(languages.base(pair.source) for pair in self.language_pairs)

    @functools.cached_property
    def target_languages(self) -> frozenset[str]:
        """Languages without region, as in ``language_pairs``."""
        return frozenset(languages.base(pair.target) for pair in self.language_pairs)

    async def detect(self, texts: Sequence[str]) -> list[list[DetectedLanguage]]:
        """Likely languages of each text, best first; of unsure ones, one that can be translated is first."""
        known = self.source_languages
        return await self._workers.detecting.run(lambda: [detect_any(text, known) for text in texts])

    def can_translate(self, source: str, target: str) -> bool:
        return bool(self._translator.supports(source, target))

    async def translate(
        self, texts: Sequence[str], *, source: str, target: str, num_candidates: int = 1
    ) -> list[Translation]:
        """Translations in order. A blank text is its own translation."""
        engine = self._translator
        if not engine.supports(source, target):
            raise ItemError(f"languages must be among {engine.describe_languages()}; found {source}→{target}")
        queue = await self._queue_of("translation", self.config.translation)
        requests = [
            TranslateRequest(text=text, source_language=source, target_language=target, num_candidates=num_candidates)
            for text in texts
            if text.strip()
        ]
        found = iter(await _submit_all(queue, requests))
        return [next(found) if text.strip() else _untranslated(text) for text in texts]

    # --- embedding

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 (num_texts, dim), L2-normalised."""
        queue = await self._queue_of("embedding", self.config.embedding)
        found: list[Embedding] = await _submit_all(queue, [EmbedRequest(text=text) for text in texts])
        return np.stack([embedding.vector for embedding in found])

    async def word_links(
        self, text: str, translation: str, *, source: str, target: str
    ) -> npt.NDArray[np.float32] | None:
        """float32 (num_words, num_translated_words), cosines; None where no embedder reads both languages."""
        embedder = self._engine("embedding", self.config.embedding)
        if not (embedder.supports(source) and embedder.supports(target)):
            return None
        queue = await self._queue_of("embedding", self.config.embedding)
        try:
            found = await _submit_all(
                queue, [EmbedRequest(text=each, with_tokens=True) for each in (text, translation)]
            )
        except DubbingError:  # tags are put by their place then
            return None
        theirs, ours = (
            word_vectors(each.tokens, each_text) for each, each_text in zip(found, (text, translation), strict=True)
        )
        return None if theirs is None or ours is None else theirs @ ours.T

    @property
    def embedding_name(self) -> str:
        return f"embedding/{self.config.embedding.engine}"

    def engine_names(self) -> list[str]:
        """All engines of this service, as task/engine."""
        speech = {speech_stage(self.config, language).engine for language in self.spoken_languages}
        return [
            f"transcription/{self.config.transcription.engine}",
            f"translation/{self.config.translation.engine}",
            self.embedding_name,
            *(f"speech/{name}" for name in sorted(speech)),
        ]

    async def check_room(self, task: Literal["translation", "embedding"]) -> None:
        """Raise CapacityError if a request would wait too long. Call it before the request's first text."""
        stage = self.config.translation if task == "translation" else self.config.embedding
        (await self._queue_of(task, stage)).check()

    def check_texts(self, texts: Sequence[str]) -> None:
        """Raise ItemError if there are too many texts for one request, or if they are too long."""
        if not 1 <= len(texts) <= self.limits.max_texts:
            raise ItemError(f"a request must hold 1 to {self.limits.max_texts} texts; found {len(texts)}")
        longest = max(map(len, texts))
        if longest > self.limits.max_text_characters:
            raise ItemError(f"a text must have at most {self.limits.max_text_characters} characters; found {longest}")
        total = sum(map(len, texts))
        if total > self.limits.max_total_characters:
            raise ItemError(
                f"a request must have at most {self.limits.max_total_characters} characters in all; found {total}"
            )

    async def _queue_of(self, task: Task, stage: StageConfig) -> AdmissionQueue:
        """The queue of a pool, which all requests share."""
        pool = (await self._pools.get(task, stage)).pool
        queue = self._queues.get(pool)
        if queue is None:
            queue = self._queues[pool] = AdmissionQueue(pool, self._engine(task, stage).cost, self.limits.max_wait_s)
        return queue

    def _engine(self, task: Task, stage: StageConfig) -> Engine[Any, Any]:
        return make_engine(task, stage.engine, stage.options)


async def _submit_all(queue: AdmissionQueue, requests: Sequence[Any]) -> list[Any]:
    """The answers in order. If one fails, the others are cancelled and its error is raised."""
    pool, due_s = JobPool(queue, request_priority()), _now_s()
    calls = [asyncio.ensure_future(pool.submit(request, order=due_s)) for request in requests]
    try:
        return await asyncio.gather(*calls)
    finally:
        for call in calls:
            call.cancel()


def _untranslated(text: str) -> Translation:
    return Translation(candidates=(Candidate(text=text, score=None),))


def _now_s() -> float:
    """The time now, so that a request is due at once. Dubs order their requests by the same clock."""
    return asyncio.get_running_loop().time()


async def _each(items: Iterable[str]) -> AsyncIterator[str]:
    for item in items:
        yield item


def _shifted(word: Word, by_s: float) -> Word:
    return Word(text=word.text, start_s=by_s + word.start_s, end_s=by_s + word.end_s, probability=word.probability)


def _nothing_to_say(text: str) -> ItemError:
    return ItemError(f"a text to speak must have something that can be read aloud; found {text[:80]!r}")


def _at_rate(clip: Clip, wanted_s: float, hz: int) -> Samples:
    samples = clip.samples
    factor = clip.duration_s / wanted_s
    if abs(factor - 1) > AUDIBLE_STRETCH:
        samples = at_tempo(clip, factor)
    resampled: Samples = np.asarray(soxr.resample(samples, clip.sample_hz, hz), np.float32)
    return resampled
