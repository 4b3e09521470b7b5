"""One model at a time, for requests that want no dub: on the pools that dub, so that batches are shared."""

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
from actors.errors import ItemError
from actors.sentences import pieces
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
from cluster.caching import PoolLike
from cluster.config import Config, StageConfig
from cluster.decoding import decode_audio
from cluster.inspection import inspect
from cluster.listening import Listener
from cluster.media import AudioTrack, MediaInfo
from cluster.pools import JobPool, Pools, speech_stage
from cluster.progress import Asker, Progress
from cluster.speaking import at_tempo
from cluster.streams import closing, from_thread, ordered_map
from cluster.tracks import choose_audio_track
from cluster.windows import cut_windows
from serve.audio_stream import STREAM_HZ
from serve.line import Line
from serve.settings import InferenceLimits
from serve.text_language import DetectedLanguage, detect, detectable

AT_ONCE = Asker(job="requests", priority=1)
"""Somebody waits for the answer: before dubs, which give way by their own rule."""

PIECE_CHARACTERS = 300
"""A text is spoken in sentences, or parts of this size: the first is heard while the others are made."""
PIECES_AHEAD = 4
PAUSE_S = 0.2
"""Between sentences, beside the silence they keep at their ends."""
AUDIBLE_STRETCH = 0.01
"""A length closer than this to the wanted one, as a share of it, is left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardSegment:
    """On the media timeline."""

    language: str
    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...]
    mean_log_probability: float
    no_speech_probability: float
    compression_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguagePair:
    source: str
    target: str


class Inference:
    """What a dispatcher's pools can do by themselves. Methods raise ItemError for a request that cannot be done."""

    def __init__(self, config: Config, pools: Pools, limits: InferenceLimits | None = None) -> None:
        self.config = config
        self.limits = limits or InferenceLimits()
        self._pools = pools
        self._lines: dict[PoolLike, Line] = {}

    # --- speech

    @functools.cached_property
    def spoken_languages(self) -> tuple[str, ...]:
        """BCP-47 tags there is a voice for."""
        speech = self.config.speech
        if speech.engine == "auto":
            return tuple(speech.by_language)
        engine = make_engine("speech", speech.engine, speech.options)
        return tuple(sorted(tag for tag in detectable() if engine.supports(tag)))

    def language_to_speak(self, text: str, language: str | None) -> str:
        """``language``, else the one the text is in, of those there is a voice for."""
        if language is not None:
            return languages.normalise(language)
        found = detect(text, frozenset(map(languages.base, self.spoken_languages)))[0].language
        return found if found != "und" else self.spoken_languages[0]

    async def speak(self, text: str, *, language: str, voice: str | None, speed: float) -> AsyncIterator[Samples]:
        """float32 (num_samples,), mono, at ``STREAM_HZ``: a sentence at a time, as it is ready."""
        line = await self._line("speech", speech_stage(self.config, language))
        line.check()
        pool = JobPool(line, AT_ONCE)

        async def spoken(piece: str) -> Samples | None:
            try:
                plan: Plan = await pool.submit(PlanRequest(text=piece, language=language, voice=voice), order=_now_s())
            except ItemError:
                if any(character.isalnum() for character in piece):
                    raise
                return None  # a mark or symbol by itself, between sentences that can be read aloud
            wanted_s = plan.natural_s / speed
            spoken_s = min(max(wanted_s, plan.shortest_s), plan.longest_s) if plan.exact else plan.natural_s
            clip: Clip = await pool.submit(SynthesiseRequest(plan=plan, duration_s=spoken_s), order=_now_s())
            return await asyncio.to_thread(_at_stream_rate, clip, wanted_s if plan.exact else clip.duration_s / speed)

        is_silent = True
        async with closing(ordered_map(_each(pieces(text, PIECE_CHARACTERS)), spoken, PIECES_AHEAD)) as clips:
            async for samples in clips:
                if samples is None:
                    continue
                if not is_silent:
                    yield np.zeros(round(PAUSE_S * STREAM_HZ), np.float32)
                is_silent = False
                yield samples
        if is_silent:
            raise ItemError(f"a text to speak must hold something that can be read aloud; found {text[:80]!r}")

    # --- transcription

    async def open_audio(self, path: Path) -> tuple[MediaInfo, AudioTrack]:
        """Raises MediaError if the file holds no audio that can be read, or too much."""
        media = self.config.media.model_copy(
            update={"max_duration_s": min(self.config.media.max_duration_s, self.limits.max_audio_s)}
        )
        info = await asyncio.to_thread(inspect, path, media)
        return info, await asyncio.to_thread(choose_audio_track, info, None, media)

    async def transcribe(
        self, info: MediaInfo, track: AudioTrack, *, language: str | None, prompt: str = ""
    ) -> AsyncIterator[HeardSegment]:
        """Segments in order, each as soon as its window has been heard."""
        config = self.config
        limit = config.pipeline.max_windows
        line = await self._line("transcription", config.transcription)
        line.check()
        progress = Progress(job=info.path.name)
        listener = Listener(config, JobPool(line, AT_ONCE), language, (), progress, prompt=prompt)
        audio = decode_audio(info, track, hz=ASR_HZ, channels="mono", config=config.media)
        windows = from_thread(cut_windows(audio, config.windows), limit)
        async with closing(ordered_map(listener.watch(windows), listener.transcribe, limit)) as heard:
            async for window, transcript in heard:
                for segment in transcript.segments:
                    yield HeardSegment(
                        language=transcript.language,
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
        """Never loaded here: it knows its languages."""
        return self._engine("translation", self.config.translation)

    @functools.cached_property
    def language_pairs(self) -> tuple[LanguagePair, ...]:
        """What can be translated, as far as languages can be told apart by their text."""
        engine = self._translator
        known = sorted(detectable())
        return tuple(
            LanguagePair(source=source, target=target)
            for source in known
            for target in known
            if source != target and engine.supports(source, target)
        )

    def detect(self, text: str) -> list[DetectedLanguage]:
        """Languages that the text may be in, best first, of those that can be translated."""
        return detect(text, frozenset(pair.source for pair in self.language_pairs))

    async def translate(
        self, texts: Sequence[str], *, source: str, target: str, num_candidates: int = 1
    ) -> list[Translation]:
        """In order. A blank text is its own translation."""
        engine = self._translator
        if not engine.supports(source, target):
            raise ItemError(f"languages must be among {engine.describe_languages()}; found {source}→{target}")
        line = await self._line("translation", self.config.translation)
        requests = [
            TranslateRequest(text=text, source_language=source, target_language=target, num_candidates=num_candidates)
            for text in texts
            if text.strip()
        ]
        found = iter(await _submit_all(line, requests))
        return [next(found) if text.strip() else _untranslated(text) for text in texts]

    # --- embedding

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 (num_texts, dim), L2-normalised."""
        line = await self._line("embedding", self.config.embedding)
        found: list[Embedding] = await _submit_all(line, [EmbedRequest(text=text) for text in texts])
        return np.stack([embedding.vector for embedding in found])

    @property
    def embedding_name(self) -> str:
        return f"embedding/{self.config.embedding.engine}"

    def engine_names(self) -> list[str]:
        """task/engine of everything that answers here."""
        speech = {speech_stage(self.config, language).engine for language in self.spoken_languages}
        return [
            f"transcription/{self.config.transcription.engine}",
            f"translation/{self.config.translation.engine}",
            self.embedding_name,
            *(f"speech/{name}" for name in sorted(speech)),
        ]

    async def check_room(self, task: Literal["translation", "embedding"]) -> None:
        """Before a request's texts are asked for. Raises CapacityError if their turn would come too late."""
        stage = self.config.translation if task == "translation" else self.config.embedding
        (await self._line(task, stage)).check()

    def check_texts(self, texts: Sequence[str]) -> None:
        """Raise ItemError if these are more, or longer, than one request may hold."""
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

    async def _line(self, task: Task, stage: StageConfig) -> Line:
        """The one of this pool, whoever asks."""
        pool = (await self._pools.get(task, stage)).behind
        line = self._lines.get(pool)
        if line is None:
            line = self._lines[pool] = Line(pool, self._engine(task, stage).cost, self.limits.max_wait_s)
        return line

    def _engine(self, task: Task, stage: StageConfig) -> Engine[Any, Any]:
        return make_engine(task, stage.engine, stage.options)


async def _submit_all(line: Line, requests: Sequence[Any]) -> list[Any]:
    """In order; should one fail, the others are given up and its error is raised."""
    pool, due_s = JobPool(line, AT_ONCE), _now_s()
    calls = [asyncio.ensure_future(pool.submit(request, order=due_s)) for request in requests]
    try:
        return await asyncio.gather(*calls)
    finally:
        for call in calls:
            call.cancel()


def _untranslated(text: str) -> Translation:
    return Translation(candidates=(Candidate(text=text, score=None),))


def _now_s() -> float:
    """Due at once: by the clock that orders dubbing's requests too."""
    return asyncio.get_running_loop().time()


async def _each(items: Iterable[str]) -> AsyncIterator[str]:
    for item in items:
        yield item


def _shifted(word: Word, by_s: float) -> Word:
    return Word(text=word.text, start_s=by_s + word.start_s, end_s=by_s + word.end_s, probability=word.probability)


def _at_stream_rate(clip: Clip, wanted_s: float) -> Samples:
    samples = clip.samples
    factor = clip.duration_s / wanted_s
    if abs(factor - 1) > AUDIBLE_STRETCH:
        samples = at_tempo(clip, factor)
    resampled: Samples = np.asarray(soxr.resample(samples, clip.sample_hz, STREAM_HZ), np.float32)
    return resampled
