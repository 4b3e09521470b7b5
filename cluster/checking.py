"""Listening to what was dubbed: each line is heard again, compared with its source and translated back.

Runs beside the dub, in the same pools and behind its work: no line waits for its check, and none fails by it.
What could not be measured says why.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import numpy as np
import soxr

from actors.engine import make_engine
from actors.errors import DubbingError
from actors.types import (
    ASR_HZ,
    Clip,
    Samples,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
    Word,
)
from cluster.config import Config
from cluster.meaning import Meaning
from cluster.pools import Pools
from cluster.progress import Progress
from cluster.quality import Measure, Metric, Verdict, chrf, is_sampled, measured, unmeasured, word_error_rate
from cluster.sentences import as_sentence
from cluster.speaking import Ahead, Speaker, Spoken
from cluster.streams import closing

log = logging.getLogger(__name__)

MAX_WINDOW_S = 28.0
"""Lines are heard together: the transcriber takes as long for one as for 30 s of them."""
GAP_S = 1.0
"""Silence between two lines of a window: a word belongs to the line that it is nearest to."""
BEHIND_S = 60.0
"""How much later than the line itself its check is due."""


class Checker:
    """Checks lines of one language; what it finds is complete once the task group has ended."""

    def __init__(self, config: Config, pools: Pools, target: str, progress: Progress, group: asyncio.TaskGroup) -> None:
        self._config = config
        self._pools = pools
        self._target = target
        self._progress = progress
        self._group = group
        # Never loaded here: they know which languages they work on.
        self._hears = make_engine("transcription", config.transcription.engine, config.transcription.options)
        self._translates = make_engine("translation", config.translation.engine, config.translation.options)
        self._window: list[Spoken] = []
        self._window_s = 0.0
        self.found: dict[str, list[Measure]] = {}
        """Utterance id → its measures; of lines that were checked."""

    async def beside(self, spoken: AsyncIterator[Spoken]) -> AsyncIterator[Spoken]:
        """The same lines; checks of those that are to be checked begin behind them."""
        async with closing(spoken):
            async for line in spoken:
                if line.clip is not None and self._is_due(line) and line.utterance.id not in self.found:
                    self._group.create_task(_unfailing(self._compare(line)))
                    self._join(line, line.clip)
                yield line
        self._flush()

    async def check(self, line: Spoken) -> list[Measure]:
        """All of one line, heard alone and at once."""
        due_s = self._progress.due_s(line.utterance.segment.start_s)
        error_rate = await self._hear([line], due_s)
        return [*error_rate, *await self._likeness(line, due_s), await self._back(line, due_s)]

    def _is_due(self, line: Spoken) -> bool:
        quality = self._config.quality
        if quality.check == "sampled":
            return is_sampled(line.utterance.id, line.utterance.segment.text, quality.sample_share)
        return quality.check == "all"

    def note(self, line: Spoken, measures: Sequence[Measure]) -> None:
        self.found.setdefault(line.utterance.id, []).extend(measures)

    # --- meaning and words

    async def _compare(self, line: Spoken) -> None:
        due_s = self._progress.due_s(line.utterance.segment.start_s) + BEHIND_S
        self.note(line, [*await self._likeness(line, due_s), await self._back(line, due_s)])

    async def _likeness(self, line: Spoken, due_s: float) -> list[Measure]:
        segment = line.utterance.segment
        pool = await self._pools.get("embedding", self._config.embedding, self._progress.asker)
        meaning = Meaning(self._config, pool)
        if not meaning.reads(segment.language, self._target):
            return [unmeasured(Metric.COSINE, f"no embedding of both {segment.language} and {self._target}")]
        try:
            [cosine] = await meaning.cosines(segment.text, [line.text], due_s)
        except DubbingError as error:
            return [unmeasured(Metric.COSINE, error.message)]
        if cosine is None:
            return [unmeasured(Metric.COSINE, "the embedding failed on one of the texts")]
        return [measured(Metric.COSINE, cosine, self._config.quality)]

    async def _back(self, line: Spoken, due_s: float) -> Measure:
        segment = line.utterance.segment
        if not self._translates.supports(self._target, segment.language):
            return unmeasured(Metric.BACK_CHRF, f"no translation from {self._target} into {segment.language}")
        request = TranslateRequest(
            text=as_sentence(line.text), source_language=self._target, target_language=segment.language
        )
        pool = await self._pools.get("translation", self._config.translation, self._progress.asker)
        try:
            back: Translation = await pool.submit(request, order=due_s)
        except DubbingError as error:
            return unmeasured(Metric.BACK_CHRF, error.message)
        return measured(Metric.BACK_CHRF, chrf(back.candidates[0].text, segment.text), self._config.quality)

    # --- sound

    def _join(self, line: Spoken, clip: Clip) -> None:
        length_s = clip.duration_s + GAP_S
        if self._window and self._window_s + length_s > MAX_WINDOW_S:
            self._flush()
        self._window.append(line)
        self._window_s += length_s

    def _flush(self) -> None:
        if self._window:
            self._group.create_task(_unfailing(self._hear_window(self._window)))
        self._window, self._window_s = [], 0.0

    async def _hear_window(self, lines: Sequence[Spoken]) -> None:
        due_s = self._progress.due_s(lines[-1].utterance.segment.start_s) + BEHIND_S
        for line, measure in zip(lines, await self._hear(lines, due_s), strict=True):
            self.note(line, [measure])

    async def _hear(self, lines: Sequence[Spoken], due_s: float) -> list[Measure]:
        """The error rate of each line, heard in one window."""
        clips = [line.clip for line in lines if line.clip is not None]
        if not self._hears.supports(self._target):
            return [unmeasured(Metric.WER, f"no transcription of {self._target}") for _ in lines]
        if sum(clip.duration_s + GAP_S for clip in clips) > 30.0:
            return [unmeasured(Metric.WER, "longer than the transcriber's 30 s") for _ in lines]
        samples = await asyncio.to_thread(joined, clips)
        request = TranscribeRequest(samples=samples, language=self._target)
        pool = await self._pools.get("transcription", self._config.transcription, self._progress.asker)
        try:
            transcript: Transcript = await pool.submit(request, order=due_s)
        except DubbingError as error:
            return [unmeasured(Metric.WER, error.message) for _ in lines]
        words = [word for segment in transcript.segments for word in segment.words]
        heard = shared_out(words, [clip.duration_s for clip in clips])
        return [self._error_rate(line.text, text) for line, text in zip(lines, heard, strict=True)]

    def _error_rate(self, said: str, heard: str) -> Measure:
        rate = word_error_rate(said, heard, self._target)
        if rate is None:
            return unmeasured(Metric.WER, "the line has no words")
        return measured(Metric.WER, rate, self._config.quality)


async def _unfailing(check: Coroutine[Any, Any, None]) -> None:
    """A check that breaks is a defect, and no reason to lose the video."""
    try:
        await check
    except Exception:
        log.exception("a check of dubbed lines must not break; their measures are missing")


class Retry:
    """A closed loop: a line that fails its check is said by its next candidate, and the better of both stays."""

    def __init__(self, speaker: Speaker, checker: Checker) -> None:
        self._speaker = speaker
        self._checker = checker

    async def speak(self, ahead: Ahead) -> Spoken:
        line, _ = ahead
        spoken = await self._speaker.speak(ahead)
        if spoken.clip is None or not line.others:
            return spoken
        measures = await self._checker.check(spoken)
        if num_failed(measures) > 0 and (other := await self._speaker.speak_other(line, spoken)) is not None:
            again = await self._checker.check(other)
            if (num_failed(again), _error_rate_of(again)) < (num_failed(measures), _error_rate_of(measures)):
                spoken, measures = other, again
        self._checker.note(spoken, measures)
        return spoken


def num_failed(measures: Sequence[Measure]) -> int:
    return sum(measure.verdict is Verdict.FAIL for measure in measures)


def _error_rate_of(measures: Sequence[Measure]) -> float:
    found = [measure.value for measure in measures if measure.metric is Metric.WER and measure.value is not None]
    return found[0] if found else math.inf


def joined(clips: Sequence[Clip]) -> Samples:
    """One after another, each with the gap's silence behind it; at ``ASR_HZ``."""
    silence = np.zeros(round(GAP_S * ASR_HZ), np.float32)
    parts: list[Samples] = []
    for clip in clips:
        samples = np.asarray(soxr.resample(clip.samples, clip.sample_hz, ASR_HZ), np.float32)
        wanted = round(clip.duration_s * ASR_HZ)
        parts += [np.pad(samples[:wanted], (0, max(0, wanted - len(samples)))), silence]
    return np.concatenate(parts)


def shared_out(words: Sequence[Word], durations_s: Sequence[float]) -> list[str]:
    """What was heard of each clip of a window: a word belongs to the clip that its middle is nearest to."""
    texts = [""] * len(durations_s)
    starts_s = np.cumsum([0.0, *(duration_s + GAP_S for duration_s in durations_s)])[:-1]
    ends_s = starts_s + np.asarray(durations_s)
    for word in words:
        middle_s = (word.start_s + word.end_s) / 2
        distance_s = np.maximum(starts_s - middle_s, middle_s - ends_s)
        texts[int(distance_s.argmin())] += word.text
    return texts
