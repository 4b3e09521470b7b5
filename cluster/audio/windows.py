"""Cuts a stream of audio into windows for the transcriber: in silence, at most 30 s, the first one short.

``WindowPlanner`` decides from two numbers per chunk, the probability of speech and the loudness, and knows
no model and no audio. ``cut_windows`` feeds it and cuts out the windows that it plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from actors.types import ASR_HZ, Samples, Span, Window
from cluster.audio.config import WindowConfig
from cluster.audio.level import QuietLevel
from cluster.audio.vad import CHUNK_S, CHUNK_SAMPLES, VoiceActivity

BATCH_SAMPLES = 64 * CHUNK_SAMPLES
"""The detector runs on batches of this size, so that windows do not depend on the caller's blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWindow:
    """A window to be cut, in seconds from the start of the stream."""

    start_s: float
    end_s: float
    speech: tuple[Span, ...]
    next_speech_s: float | None


@dataclass(slots=True, kw_only=True)
class _Spans:
    """Speech spans in chunks, half-open. The last one may still be growing."""

    closed: list[tuple[int, int]] = field(default_factory=list)
    start: int | None = None
    """Start of the growing span."""
    quiet_from: int | None = None
    """First chunk since which the growing span has been below the exit threshold."""
    confirmed: bool = False
    """True once the growing span is long enough to be speech."""


class WindowPlanner:
    """Plans windows from chunks of ``CHUNK_S``. Memory: one window."""

    def __init__(self, config: WindowConfig) -> None:
        self._config = config
        self._min_speech = max(1, round(config.min_speech_s / CHUNK_S))
        self._min_silence = max(1, round(config.min_silence_s / CHUNK_S))
        self._max_pause = config.max_pause_s / CHUNK_S
        self._spans = _Spans()
        self._loudness: dict[int, float] = {}
        self._now = 0
        self._cut_s = 0.0
        self._is_first = True

    @property
    def needed_from_s(self) -> float:
        """Earliest start of all later windows: audio before it is no longer needed."""
        begin = self._spans.closed[0][0] if self._spans.closed else self._spans.start
        begin = self._now if begin is None else begin
        return max(self._cut_s, begin * CHUNK_S - self._config.pad_s)

    def push(self, probability: float, loudness_db: float) -> list[PlannedWindow]:
        """Add the next chunk; returns the windows that it completes, most of the time none."""
        spans, now = self._spans, self._now
        self._now += 1
        planned: list[PlannedWindow] = []
        if spans.start is None and probability >= self._config.threshold:
            spans.start, spans.quiet_from, spans.confirmed = now, None, False
        if spans.start is None:
            return planned
        self._loudness[now] = loudness_db
        self._track_quiet(probability, now)
        if spans.start is not None and not spans.confirmed and spans.quiet_from is None:
            spans.confirmed = self._now - spans.start >= self._min_speech
            if spans.confirmed and spans.closed and spans.start - spans.closed[-1][1] >= self._max_pause:
                planned.append(self._take(len(spans.closed)))
        while spans.start is not None and spans.confirmed and spans.quiet_from is None and self._overflows():
            planned.append(self._cut(spans.start))
        return planned

    def finish(self, end_s: float) -> list[PlannedWindow]:
        """The last window, if there is speech left; ``end_s`` is the length of the stream."""
        spans = self._spans
        if spans.start is not None and spans.confirmed:
            end = self._now if spans.quiet_from is None else spans.quiet_from
            spans.closed.append((spans.start, end))
        spans.start = None
        return [self._take(len(spans.closed), end_s)] if spans.closed else []

    def _track_quiet(self, probability: float, now: int) -> None:
        """Close the growing span once it has been quiet for long enough."""
        spans = self._spans
        if probability >= self._config.exit_threshold:
            spans.quiet_from = None
            return
        spans.quiet_from = now if spans.quiet_from is None else spans.quiet_from
        if now + 1 - spans.quiet_from < self._min_silence:
            return
        if spans.start is not None and spans.confirmed:
            spans.closed.append((spans.start, spans.quiet_from))
        spans.start = None
        self._forget()

    def _limits(self) -> tuple[int, int]:
        """Two lengths in chunks: from the first on a pause is looked for, the second is the maximum."""
        config = self._config
        target_s = config.first_target_s if self._is_first else config.target_s
        max_s = config.first_max_s if self._is_first else config.max_s
        return int(target_s / CHUNK_S), int((max_s - 2 * config.pad_s) / CHUNK_S)

    def _begin(self) -> int:
        spans = self._spans
        return spans.closed[0][0] if spans.closed or spans.start is None else spans.start

    def _overflows(self) -> bool:
        return self._now - self._begin() > self._limits()[1]

    def _cut(self, growing: int) -> PlannedWindow:
        """Cut at the longest pause past the target, else at a long one before it, else inside the growing span."""
        spans, begin = self._spans, self._begin()
        target, limit = self._limits()
        neighbours = enumerate(pairwise([*spans.closed, (growing, self._now)]), 1)
        pauses = [(after[0] - before[1], count, after[0]) for count, (before, after) in neighbours]
        late = [pause for pause in pauses if pause[2] - begin >= target]
        if late:
            return self._take(max(late)[1])
        if pauses and max(pauses)[0] >= 2 * self._min_silence:
            return self._take(max(pauses)[1])
        # No long pause: the growing span began before the target, so the quietest chunk is inside it.
        cut = min(range(begin + target, begin + limit + 1), key=lambda chunk: (self._smooth_loudness(chunk), -chunk))
        spans.closed.append((growing, cut))
        spans.start = cut
        return self._take(len(spans.closed))

    def _smooth_loudness(self, chunk: int) -> float:
        near = [self._loudness[at] for at in (chunk - 1, chunk, chunk + 1) if at in self._loudness]
        return sum(near) / len(near)

    def _take(self, count: int, stream_end_s: float | None = None) -> PlannedWindow:
        """A window of the first ``count`` closed spans; the others stay for the next one."""
        spans, pad_s = self._spans, self._config.pad_s
        taken, spans.closed = spans.closed[:count], spans.closed[count:]
        begin_s, end_s = taken[0][0] * CHUNK_S, taken[-1][1] * CHUNK_S
        next_chunk = spans.closed[0][0] if spans.closed else spans.start
        next_s = None if next_chunk is None else next_chunk * CHUNK_S
        bound_s = end_s + pad_s if next_s is None else min(end_s + pad_s, (end_s + next_s) / 2)
        if stream_end_s is not None:
            end_s, bound_s = min(end_s, stream_end_s), min(bound_s, stream_end_s)
        speech = [Span(start_s=start * CHUNK_S, end_s=min(end * CHUNK_S, end_s)) for start, end in taken]
        window = PlannedWindow(
            start_s=max(self._cut_s, begin_s - pad_s), end_s=bound_s, speech=tuple(speech), next_speech_s=next_s
        )
        self._cut_s, self._is_first = bound_s, False
        self._forget()
        return window

    def _forget(self) -> None:
        """Drop the loudness of chunks at which no cut can be any more."""
        start = self._spans.start
        self._loudness = {} if start is None else {at: db for at, db in self._loudness.items() if at >= start}


def cut_windows(blocks: Iterable[Samples], config: WindowConfig | None = None) -> Iterator[Window]:
    """Windows of speech in a stream of float32 (num_samples,) blocks, mono, at ``ASR_HZ``, from t = 0.

    They are in order, without overlap, at most ``max_s`` long, and together cover all speech.
    A window is yielded once the next speech begins or the stream ends. The sizes of the blocks do not
    change the result. Memory: one window and one batch. Raises EngineLoadError.
    """
    voice, level, planner = VoiceActivity(), QuietLevel(), WindowPlanner(config or WindowConfig())
    audio, offset, index, heard = np.zeros(0, np.float32), 0, 0, 0
    chunks, first_chunk = np.zeros(0, np.float32), 0
    for batch in _batches(blocks):
        audio = np.concatenate([audio, batch])
        heard += len(batch)
        probabilities = voice.probabilities(level.raised(batch))
        is_last = len(batch) < BATCH_SAMPLES
        if is_last:
            probabilities = np.concatenate([probabilities, voice.finish()])
        chunks = np.concatenate([chunks, probabilities])
        plans: list[PlannedWindow] = []
        for probability, loudness_db in zip(probabilities, _loudness_db(batch), strict=True):
            plans += planner.push(float(probability), float(loudness_db))
        plans += planner.finish(heard / ASR_HZ) if is_last else []
        for plan in plans:
            yield _window(plan, index, audio, offset, chunks, first_chunk)
            index += 1
        keep = max(offset, int(planner.needed_from_s * ASR_HZ) - 1)
        audio, offset = audio[keep - offset :], keep
        keep_chunk = max(first_chunk, keep // CHUNK_SAMPLES)
        chunks, first_chunk = chunks[keep_chunk - first_chunk :], keep_chunk


def _window(plan: PlannedWindow, index: int, audio: Samples, offset: int, chunks: Samples, first_chunk: int) -> Window:
    """The planned window of ``audio``, which begins at sample ``offset``; ``chunks`` are probabilities of speech."""
    start, end = round(plan.start_s * ASR_HZ), round(plan.end_s * ASR_HZ)
    # The window's frames need not begin with a chunk: each has the probability of the chunk at its middle.
    middles = np.arange(start + CHUNK_SAMPLES // 2, end + CHUNK_SAMPLES // 2, CHUNK_SAMPLES)
    at_middle = np.clip(middles // CHUNK_SAMPLES - first_chunk, 0, len(chunks) - 1)
    return Window(
        index=index,
        start_s=start / ASR_HZ,
        samples=audio[start - offset : end - offset].copy(),
        speech=plan.speech,
        next_speech_s=plan.next_speech_s,
        voice=chunks[at_middle],
    )


def _loudness_db(batch: Samples) -> Samples:
    """float32 (num_chunks,): RMS of each chunk in dB below full scale; the last chunk may be short."""
    padded = np.pad(batch, (0, -len(batch) % CHUNK_SAMPLES)).reshape(-1, CHUNK_SAMPLES)
    return np.asarray(10.0 * np.log10(np.mean(padded**2, axis=1) + 1e-10), np.float32)


def _batches(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """The same samples in batches of ``BATCH_SAMPLES``, then a shorter, maybe empty one."""
    parts: list[Samples] = []
    num = 0
    for block in blocks:
        parts.append(block)
        num += len(block)
        if num < BATCH_SAMPLES:
            continue
        joined = np.concatenate(parts)
        whole = len(joined) // BATCH_SAMPLES * BATCH_SAMPLES
        for start in range(0, whole, BATCH_SAMPLES):
            yield joined[start : start + BATCH_SAMPLES]
        parts, num = [joined[whole:]], len(joined) - whole
    yield np.concatenate(parts) if parts else np.zeros(0, np.float32)
