"""Hearing the source: windows are transcribed, and what was heard is grouped into units to translate.

A window that cannot be transcribed keeps its original sound, and is counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

import numpy as np

from actors import languages
from actors.errors import ConfigError, ItemError, ReplicaLostError
from actors.types import (
    ASR_HZ,
    Reference,
    Samples,
    Segment,
    Span,
    TranscribeRequest,
    Transcript,
    Unit,
    Window,
)
from cluster.config import Config
from cluster.grouping import Grouper, segments_of
from cluster.logs import log_context
from cluster.loudness import SpeechLoudness
from cluster.pools import JobPool, check_languages
from cluster.progress import Progress, Stage
from cluster.streams import closing

log = logging.getLogger(__name__)

SPEAKER = "speaker0"
"""Everybody, until speakers are told apart."""

SURE_OF_LANGUAGE = 0.6
"""Probability from which one window decides. Whisper-base gives 0.9 and more on a sentence, 0.2 on one word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardUnit:
    """A unit, and how loud its speaker has been up to its end."""

    unit: Unit
    source_lufs: float | None
    reference: Reference | None = None
    """The speaker's voice, where it is to be cloned."""


class Listener:
    """Transcribes windows; where no language is given, the first that are heard decide for all.

    A window that leaves the language in doubt (one word, some music) does not decide alone: it waits
    for those behind it, and is transcribed again if they know better.
    """

    def __init__(
        self,
        config: Config,
        pool: JobPool,
        language: str | None,
        targets: tuple[str, ...],
        progress: Progress,
        *,
        own_text: Collection[str] = (),
        prompt: str = "",
    ) -> None:
        self._config = config
        self._pool = pool
        self._targets = targets
        self._own_text = own_text
        self._progress = progress
        self._prompt = prompt
        self._voting = asyncio.Lock()
        self._decided = asyncio.Event()
        self._failure: Exception | None = None
        self._votes: list[Transcript] = []
        self._num_since_first_vote = 0
        self.language = language
        self.language_probability: float | None = None
        self.num_failed = 0
        """Windows that could not be transcribed, and keep their original sound."""

    async def watch(self, windows: AsyncIterator[Window]) -> AsyncIterator[Window]:
        """The same windows; should their source fail, none waits any longer for those behind it."""
        try:
            async with closing(windows):
                async for window in windows:
                    yield window
        except Exception as error:
            self._fail(error)
            raise

    async def transcribe(self, window: Window) -> tuple[Window, Transcript]:
        """Raises ConfigError if the detected language is not one the other engines can work on."""
        transcript = None
        if self.language is None:
            async with self._voting:  # windows come in order, and vote in order
                if self.language is None:
                    transcript = await self._hear_and_vote(window)
            if transcript is None or transcript.segments:
                await self._decided.wait()
            if self._failure is not None:
                raise self._failure
        if transcript is None or (transcript.segments and transcript.language != self.language):
            transcript = await self._submit(window)
        self._progress.advance(Stage.TRANSCRIBE, window.end_s)
        return window, transcript

    async def _hear_and_vote(self, window: Window) -> Transcript:
        try:
            transcript = await self._submit(window)
            self._vote(transcript, is_last=window.next_speech_s is None)
        except Exception as error:
            self._fail(error)
            raise
        return transcript

    def _fail(self, error: Exception) -> None:
        # Results are taken in order: a window before this one that waited on would hide the error for ever.
        self._failure = error
        self._decided.set()

    def _vote(self, transcript: Transcript, *, is_last: bool) -> None:
        if transcript.segments:
            self._votes.append(transcript)
        if not self._votes:
            return
        self._num_since_first_vote += 1
        best = max(self._votes, key=lambda vote: vote.language_probability)
        # As many windows as may be under way: while the first waits for a decision, no more will come.
        is_full = self._num_since_first_vote == self._config.pipeline.max_windows
        if best.language_probability >= SURE_OF_LANGUAGE or is_full or is_last:
            self._check(best)
            self.language, self.language_probability = best.language, best.language_probability
            self._decided.set()

    def _check(self, transcript: Transcript) -> None:
        for target in self._targets:
            if languages.same(transcript.language, target):
                raise ConfigError(
                    f"--to must differ from the language spoken, which sounds like {transcript.language} (probability "
                    f"{transcript.language_probability:.2f}); found {target}; if that is wrong, give --from"
                )
        check_languages(self._config, transcript.language, self._targets, own_text=self._own_text)

    async def _submit(self, window: Window) -> Transcript:
        request = TranscribeRequest(samples=window.samples, language=self.language, prompt=self._prompt)
        try:
            transcript: Transcript = await self._pool.submit(request, order=self._progress.due_s(window.start_s))
        except (ItemError, ReplicaLostError) as error:
            self.num_failed += 1
            with log_context(stage=self._pool.name):
                log.warning(
                    "window not transcribed index=%d start_s=%.2f error=%s", window.index, window.start_s, error
                )
            return Transcript(language=self.language or "und", language_probability=0.0, segments=())
        return transcript


async def heard_segments(
    heard: AsyncIterator[tuple[Window, Transcript]], config: Config
) -> AsyncIterator[tuple[Window, list[Segment]]]:
    async with closing(heard):
        async for window, transcript in heard:
            yield window, segments_of(window, transcript, SPEAKER, config.grouping)


async def group_units(
    heard: AsyncIterator[tuple[Window, list[Segment]]], config: Config, media_end_s: float
) -> AsyncIterator[HeardUnit]:
    """Units in order, each as soon as its sentence has ended."""
    grouper = Grouper(config.grouping, media_end_s)
    loudness = SpeechLoudness(ASR_HZ)
    voice = ReferenceVoice(config.speech.clone_reference_s) if config.speech.clone else None

    def as_heard(unit: Unit) -> HeardUnit:
        return HeardUnit(unit=unit, source_lufs=loudness.lufs(), reference=None if voice is None else voice.reference())

    async with closing(heard):
        async for window, segments in heard:
            for span in window.speech:
                loudness.feed(samples_of(window, span))
                if voice is not None:
                    voice.hear(samples_of(window, span))
            starts: list[float | None] = [*(segment.start_s for segment in segments[1:]), window.next_speech_s]
            units = [
                unit
                for segment, next_start_s in zip(segments, starts, strict=False)
                for unit in grouper.push(segment, next_start_s)
            ]
            if window.next_speech_s is not None:
                units += grouper.wait(window.next_speech_s + config.windows.max_s)
            for unit in units:
                yield as_heard(unit)
    for unit in grouper.flush():
        yield as_heard(unit)


class ReferenceVoice:
    """A speaker's first seconds of speech, to clone the voice from; fixed once they are long enough."""

    def __init__(self, wanted_s: float) -> None:
        self._wanted_samples = round(wanted_s * ASR_HZ)
        self._heard = np.zeros(0, np.float32)
        self._reference: Reference | None = None

    def hear(self, samples: Samples) -> None:
        missing = self._wanted_samples - len(self._heard)
        if missing > 0:
            self._heard = np.concatenate((self._heard, samples[:missing]))
            self._reference = None

    @property
    def is_whole(self) -> bool:
        return len(self._heard) == self._wanted_samples

    def reference(self) -> Reference | None:
        """None until anything was heard."""
        if self._reference is None and len(self._heard):
            key = hashlib.sha256(self._heard.tobytes()).hexdigest()
            self._reference = Reference(samples=self._heard, sample_hz=ASR_HZ, key=key)
        return self._reference


def samples_of(window: Window, span: Span) -> Samples:
    first, end = (max(0, round((edge_s - window.start_s) * ASR_HZ)) for edge_s in (span.start_s, span.end_s))
    return window.samples[first:end]
