"""Subtitles in the place of models: the source's instead of transcription, the target's instead of translation."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from actors.types import ASR_HZ, Candidate, Samples, Segment, Span, Window
from cluster.cues import SpokenCue
from cluster.listening import SPEAKER, HeardUnit
from cluster.progress import Progress, Stage
from cluster.streams import closing
from cluster.translating import Utterance

MAX_CUE_SAMPLES = 30 * ASR_HZ
"""Of a longer cue, only so much is listened to for its loudness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CueListener:
    """Knows what is said, as a Listener finds out: from the subtitles of the source."""

    cues: Sequence[SpokenCue]
    language: str
    progress: Progress
    language_probability: float | None = None
    num_failed: int = 0

    async def segments(self, windows: AsyncIterator[Window]) -> AsyncIterator[tuple[Window, list[Segment]]]:
        """Each of ``cue_windows`` with its cue as the one segment, at the cue's own times."""
        async with closing(windows):
            async for window in windows:
                cue = self.cues[window.index]
                segment = Segment(
                    id=f"s{window.index:04d}",
                    start_s=cue.start_s,
                    end_s=cue.end_s,
                    text=cue.text,
                    language=self.language,
                    speaker=cue.speaker or SPEAKER,
                    words=(),
                    mean_log_probability=0.0,
                    no_speech_probability=0.0,
                )
                self.progress.advance(Stage.TRANSCRIBE, cue.end_s)
                yield window, [segment]


def cue_windows(audio: Iterable[Samples], cues: Sequence[SpokenCue]) -> Iterator[Window]:
    """The sound of each cue, in order; ``audio`` in blocks at ``ASR_HZ`` from t = 0. Memory is one cue and a block."""
    blocks = iter(audio)
    buffer, first = np.zeros(0, np.float32), 0
    for index, cue in enumerate(cues):
        begin = round(cue.start_s * ASR_HZ)
        end = min(round(cue.end_s * ASR_HZ), begin + MAX_CUE_SAMPLES)
        while first + len(buffer) < end and (block := next(blocks, None)) is not None:
            # Cues come in order of start: what lies before this one is not needed again.
            dropped = min(max(0, begin - first), len(buffer))
            buffer, first = np.concatenate((buffer[dropped:], block)), first + dropped
        yield Window(
            index=index,
            start_s=begin / ASR_HZ,
            samples=buffer[max(0, begin - first) : max(0, end - first)],
            speech=(Span(start_s=begin / ASR_HZ, end_s=end / ASR_HZ),),
            next_speech_s=None if index + 1 == len(cues) else cues[index + 1].start_s,
        )
    for _ in blocks:  # to its end, where damage shows
        pass


async def cue_utterances(
    heard: AsyncIterator[HeardUnit], cues: Sequence[SpokenCue], target: str, media_end_s: float, progress: Progress
) -> AsyncIterator[Utterance]:
    """The lines of ``target`` as its subtitles cut and time them; each leaves once what it replaces was heard."""
    waiting = deque(enumerate(cues))
    recent: list[HeardUnit] = []
    async with closing(heard):
        async for unit in heard:
            recent.append(unit)
            while waiting and waiting[0][1].end_s <= unit.unit.room_end_s:
                yield _utterance(cues, waiting.popleft()[0], recent, target, media_end_s)
            next_s = waiting[0][1].start_s if waiting else math.inf
            recent = [kept for kept in recent[:-1] if kept.unit.room_end_s > next_s] + recent[-1:]
            progress.advance(Stage.TRANSLATE, unit.unit.segments[-1].end_s, target)
    for index, _ in waiting:
        yield _utterance(cues, index, recent, target, media_end_s)


def _utterance(
    cues: Sequence[SpokenCue], index: int, units: Sequence[HeardUnit], target: str, media_end_s: float
) -> Utterance:
    cue = cues[index]
    said = [segment for heard in units for segment in heard.unit.segments if _overlap_s(segment, cue) > 0]
    unit = _nearest(units, cue)
    main = max(said, key=lambda segment: _overlap_s(segment, cue)) if said else None
    if main is None and unit is not None:
        main = unit.unit.segments[-1]
    return Utterance(
        id=f"{target}:c{index:04d}",
        unit_id="" if unit is None else unit.unit.id,
        segment=Segment(
            id="" if main is None else main.id,
            start_s=cue.start_s,
            end_s=cue.end_s,
            text=" ".join(segment.text for segment in said),
            language="und" if main is None else main.language,
            speaker=cue.speaker or (SPEAKER if main is None else main.speaker),
            words=(),
            mean_log_probability=0.0,
            no_speech_probability=0.0,
        ),
        target=target,
        room_end_s=media_end_s if index + 1 == len(cues) else cues[index + 1].start_s,
        source_lufs=None if unit is None else unit.source_lufs,
        reference=None if unit is None else unit.reference,
        candidates=(Candidate(text=cue.text, score=None),),
        flags=(),
        error=None,
    )


def _nearest(units: Sequence[HeardUnit], cue: SpokenCue) -> HeardUnit | None:
    return max(units, key=lambda heard: max(_overlap_s(segment, cue) for segment in heard.unit.segments), default=None)


def _overlap_s(segment: Segment, cue: SpokenCue) -> float:
    """Negative where they are apart: the distance."""
    return min(segment.end_s, cue.end_s) - max(segment.start_s, cue.start_s)
