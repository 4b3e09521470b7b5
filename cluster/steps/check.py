"""Checks dubbed lines: each is transcribed again, compared with its source and translated back.

Checks run beside the dub, in the same pools and behind its work: no line waits for its check, and none fails by it.
A measure that could not be taken says why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import numpy as np
import soxr

from actors.engine import make_engine
from actors.errors import DubbingError
from actors.sentences import as_sentence
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
from cluster.config.schema import Config
from cluster.pools.pool_set import PoolSet
from cluster.quality import Measure, Metric, chrf, heard_measures, is_sampled, measured, unmeasured
from cluster.steps.progress import Progress
from cluster.steps.records import Spoken
from cluster.steps.similarity import SimilarityScorer
from cluster.streams import closing
from cluster.tracing.spans import span

log = logging.getLogger(__name__)

MAX_WINDOW_S = 28.0
"""Length of a window of lines that are transcribed together: the transcriber pads a single one to 30 s."""
LEAD_S = 0.5
"""Silence before the first clip: whisper mishears a short phrase that begins with its window."""
GAP_S = 1.0
"""Silence between two lines of a window: a word belongs to the line that it is nearest to."""
BEHIND_S = 60.0
"""Delay of a check's due time after its line's."""


class Checker:
    """Checks lines of one language; ``found`` is complete once the task group has ended."""

    def __init__(
        self, config: Config, pools: PoolSet, target: str, progress: Progress, group: asyncio.TaskGroup
    ) -> None:
        self._config = config
        self._pools = pools
        self._target = target
        self._progress = progress
        self._group = group
        # Never loaded here: only asked which languages they support.
        self._hears = make_engine("transcription", config.transcription.engine, config.transcription.options)
        self._translates = make_engine("translation", config.translation.engine, config.translation.options)
        self._window: list[Spoken] = []
        self._window_s = LEAD_S
        self.found: dict[str, list[Measure]] = {}
        """Utterance id → its measures, for lines that were checked."""

    async def beside(self, spoken: AsyncIterator[Spoken]) -> AsyncIterator[Spoken]:
        """Pass the lines on, and start checks of those that are to be checked."""
        async with closing(spoken):
            async for line in spoken:
                if line.clip is not None and self._is_due(line) and line.utterance.id not in self.found:
                    self._group.create_task(_unfailing(self._compare(line)))
                    self._join(line, line.clip)
                yield line
        self._flush()

    async def check(self, line: Spoken) -> list[Measure]:
        """All measures of one line, transcribed alone and at once."""
        due_s = self._progress.due_s(line.utterance.segment.start_s)
        [heard] = await self._hear([line], due_s)
        return [*heard, *await self._likeness(line, due_s), await self._back(line, due_s)]

    def _is_due(self, line: Spoken) -> bool:
        quality = self._config.quality
        if quality.check == "sampled":
            return is_sampled(line.utterance.id, line.utterance.segment.text, quality.sample_share)
        return quality.check == "all"

    def note(self, line: Spoken, measures: Sequence[Measure]) -> None:
        self.found.setdefault(line.utterance.id, []).extend(measures)

    # --- similarity and words

    async def _compare(self, line: Spoken) -> None:
        due_s = self._progress.due_s(line.utterance.segment.start_s) + BEHIND_S
        with span("check", item=line.utterance.id, branch=self._target):
            self.note(line, [*await self._likeness(line, due_s), await self._back(line, due_s)])

    async def _likeness(self, line: Spoken, due_s: float) -> list[Measure]:
        segment = line.utterance.segment
        pool = await self._pools.get("embedding", self._config.embedding, self._progress.job_priority)
        similarity = SimilarityScorer(self._config, pool)
        if not similarity.reads(segment.language, self._target):
            return [unmeasured(Metric.COSINE, f"no embedding of both {segment.language} and {self._target}")]
        try:
            [cosine] = await similarity.cosines(segment.text, [line.text], due_s)
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
        pool = await self._pools.get("translation", self._config.translation, self._progress.job_priority)
        try:
            back: Translation = await pool.submit(request, order=due_s)
        except DubbingError as error:
            return unmeasured(Metric.BACK_CHRF, error.message)
        value = await asyncio.to_thread(chrf, back.candidates[0].text, segment.text)
        return measured(Metric.BACK_CHRF, value, self._config.quality)

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
        self._window, self._window_s = [], LEAD_S

    async def _hear_window(self, lines: Sequence[Spoken]) -> None:
        due_s = self._progress.due_s(lines[-1].utterance.segment.start_s) + BEHIND_S
        with span("check", item=lines[0].utterance.id, branch=self._target):
            heard = await self._hear(lines, due_s)
        for line, measures in zip(lines, heard, strict=True):
            self.note(line, measures)

    async def _hear(self, lines: Sequence[Spoken], due_s: float) -> list[list[Measure]]:
        """The errors of each line, heard in one window."""
        clips = [line.clip for line in lines if line.clip is not None]
        if not self._hears.supports(self._target):
            return [_unheard(f"no transcription of {self._target}") for _ in lines]
        if LEAD_S + sum(clip.duration_s + GAP_S for clip in clips) > 30.0:
            return [_unheard("longer than the transcriber's 30 s") for _ in lines]
        samples = await asyncio.to_thread(joined, clips)
        request = TranscribeRequest(samples=samples, language=self._target)
        pool = await self._pools.get("transcription", self._config.transcription, self._progress.job_priority)
        try:
            transcript: Transcript = await pool.submit(request, order=due_s)
        except DubbingError as error:
            return [_unheard(error.message) for _ in lines]
        words = [word for segment in transcript.segments for word in segment.words]
        heard = shared_out(words, [clip.duration_s for clip in clips])
        return await asyncio.to_thread(self._measures, lines, heard)

    def _measures(self, lines: Sequence[Spoken], heard: Sequence[str]) -> list[list[Measure]]:
        config = self._config.quality
        return [heard_measures(line.text, text, self._target, config) for line, text in zip(lines, heard, strict=True)]


def _unheard(why: str) -> list[Measure]:
    return [unmeasured(metric, why) for metric in (Metric.WER, Metric.CER)]


async def _unfailing(check: Coroutine[Any, Any, None]) -> None:
    """A check that breaks is a defect, and no reason to lose the video."""
    try:
        await check
    except Exception:
        log.exception("a check of dubbed lines must not break; their measures are missing")


def joined(clips: Sequence[Clip]) -> Samples:
    """The clips in a row after a lead of silence, each with the gap's silence after it; at ``ASR_HZ``."""
    silence = np.zeros(round(GAP_S * ASR_HZ), np.float32)
    parts: list[Samples] = [np.zeros(round(LEAD_S * ASR_HZ), np.float32)]
    for clip in clips:
        samples = np.asarray(soxr.resample(clip.samples, clip.sample_hz, ASR_HZ), np.float32)
        wanted = round(clip.duration_s * ASR_HZ)
        parts += [np.pad(samples[:wanted], (0, max(0, wanted - len(samples)))), silence]
    return np.concatenate(parts)


def shared_out(words: Sequence[Word], durations_s: Sequence[float]) -> list[str]:
    """Transcribed text of each clip of a window: a word belongs to the clip that its middle is nearest to."""
    texts = [""] * len(durations_s)
    starts_s = np.cumsum([LEAD_S, *(duration_s + GAP_S for duration_s in durations_s)])[:-1]
    ends_s = starts_s + np.asarray(durations_s)
    for word in words:
        middle_s = (word.start_s + word.end_s) / 2
        distance_s = np.maximum(starts_s - middle_s, middle_s - ends_s)
        texts[int(distance_s.argmin())] += word.text
    return texts
