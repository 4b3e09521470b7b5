"""Subtitles in place of models: the source's instead of transcription, the target's instead of translation."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from actors.types import ASR_HZ, Candidate, Samples, Segment, Span, Window
from cluster.flags import Flag
from cluster.speakers.turns import ONLY_SPEAKER, main_speaker
from cluster.steps.diarize import spoken_windows
from cluster.steps.doubt import left_untranslated
from cluster.steps.group import group_units
from cluster.steps.progress import Progress, Stage
from cluster.steps.records import HeardUnit, HearingNotes, SpokenWindow, Utterance
from cluster.steps.source import DubContext
from cluster.streams import closing, from_thread
from cluster.subtitles.cues import SpokenCue
from cluster.subtitles.records import GivenSubtitlesRecord

MAX_CUE_SAMPLES = 30 * ASR_HZ
"""The loudness of a longer cue is measured on its first part only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtitleSource:
    """Takes the speech of the input from its subtitles, instead of listening."""

    cues: Sequence[SpokenCue]
    language: str
    cues_by_target: Mapping[str, Sequence[SpokenCue]] = field(default_factory=dict)
    """Subtitles of targets, which need no translation."""
    language_probability: float | None = None
    num_failed: int = 0
    damaged: bool = False
    notes: HearingNotes = field(default_factory=HearingNotes)
    given_subtitles: tuple[GivenSubtitlesRecord, ...] = ()
    only: Collection[str] = ()

    def units(self, audio: Iterator[Samples], context: DubContext) -> AsyncIterator[HeardUnit]:
        """Each cue as a segment, grouped into units; ``audio`` is listened to for loudness and voice."""
        windows = from_thread(cue_windows(audio, self.cues), context.config.pipeline.max_windows)
        spoken = spoken_windows(windows, context)
        units = group_units(self.segments(spoken, context.progress), context.config, context.media_end_s)
        return self._flagged(units)

    async def _flagged(self, units: AsyncIterator[HeardUnit]) -> AsyncIterator[HeardUnit]:
        """The units, with a flag at each segment of which the times are not those of the file."""
        retimed = {_segment_id(index) for index, cue in enumerate(self.cues) if cue.is_retimed}
        async with closing(units):
            async for heard in units:
                ids = [segment.id for segment in heard.unit.segments if segment.id in retimed]
                yield dataclasses.replace(heard, segment_flags=dict.fromkeys(ids, (Flag.RETIMED,)))

    def lines(
        self, units: AsyncIterator[HeardUnit], target: str, context: DubContext
    ) -> AsyncIterator[Utterance] | None:
        """The lines of a target that has subtitles."""
        return brought_lines(self.cues_by_target, units, target, context)

    async def segments(
        self, windows: AsyncIterator[SpokenWindow], progress: Progress
    ) -> AsyncIterator[tuple[SpokenWindow, list[Segment]]]:
        """Each of ``cue_windows`` with its cue as the one segment, at the cue's own times.

        It is said by the speaker that the cue names, or else by the one heard most of the time.
        """
        async with closing(windows):
            async for spoken in windows:
                cue = self.cues[spoken.window.index]
                heard = main_speaker(spoken.turns, cue.start_s, cue.end_s)
                named = spoken if cue.speaker is None else _all_said_by(cue.speaker, spoken)
                segment = Segment(
                    id=_segment_id(spoken.window.index),
                    start_s=cue.start_s,
                    end_s=cue.end_s,
                    text=cue.text,
                    language=self.language,
                    speaker=cue.speaker or heard,
                    words=(),
                    mean_log_probability=0.0,
                    no_speech_probability=0.0,
                )
                progress.advance(Stage.TRANSCRIBE, cue.end_s)
                yield named, [segment]


def _all_said_by(speaker: str, spoken: SpokenWindow) -> SpokenWindow:
    """The window with its turns given to the speaker that the cue names, whose loudness it shows."""
    turns = [dataclasses.replace(turn, speaker=speaker) for turn in spoken.turns]
    return dataclasses.replace(spoken, turns=turns)


def _segment_id(index: int) -> str:
    return f"s{index:04d}"


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


def brought_lines(
    cues_by_target: Mapping[str, Sequence[SpokenCue]],
    units: AsyncIterator[HeardUnit],
    target: str,
    context: DubContext,
) -> AsyncIterator[Utterance] | None:
    """The lines of ``target`` by its subtitles; None if it has none."""
    cues = cues_by_target.get(target)
    return None if cues is None else cue_utterances(units, cues, target, context.media_end_s, context.progress)


async def cue_utterances(
    heard: AsyncIterator[HeardUnit], cues: Sequence[SpokenCue], target: str, media_end_s: float, progress: Progress
) -> AsyncIterator[Utterance]:
    """The lines of ``target`` as its subtitles cut and time them, each as soon as the speech it replaces was heard."""
    waiting = deque(enumerate(cues))
    recent: list[HeardUnit] = []
    async with closing(heard):
        async for unit in heard:
            recent.append(unit)
            while waiting and waiting[0][1].end_s <= unit.unit.room_end_s:
                yield await _doubted(_utterance(cues, waiting.popleft()[0], recent, target, media_end_s))
            next_s = waiting[0][1].start_s if waiting else math.inf
            recent = [kept for kept in recent[:-1] if kept.unit.room_end_s > next_s] + recent[-1:]
            progress.advance(Stage.TRANSLATE, unit.unit.segments[-1].end_s, target)
    for index, _ in waiting:
        yield await _doubted(_utterance(cues, index, recent, target, media_end_s))


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
            speaker=cue.speaker or (ONLY_SPEAKER if main is None else main.speaker),
            words=(),
            mean_log_probability=0.0,
            no_speech_probability=0.0,
        ),
        target=target,
        room_end_s=media_end_s if index + 1 == len(cues) else cues[index + 1].start_s,
        source_lufs=None if unit is None else unit.source_lufs,
        pitch_hz=None if unit is None else unit.pitch_hz,
        reference=None if unit is None else unit.reference,
        candidates=(Candidate(text=cue.text, score=None),),
        flags=(Flag.RETIMED,) if cue.is_retimed else (),
        error=None,
    )


async def _doubted(line: Utterance) -> Utterance:
    """The line, flagged if its words are those of the source: a file in the wrong language is said all the same."""
    said, language = line.segment.text, line.segment.language
    doubt = await asyncio.to_thread(left_untranslated, said, line.candidates[0].text, language, line.target)
    if doubt is None:
        return line
    return dataclasses.replace(line, flags=(*line.flags, doubt.flag), doubt=doubt.reason)


def _nearest(units: Sequence[HeardUnit], cue: SpokenCue) -> HeardUnit | None:
    return max(units, key=lambda heard: max(_overlap_s(segment, cue) for segment in heard.unit.segments), default=None)


def _overlap_s(segment: Segment, cue: SpokenCue) -> float:
    """Seconds that both share; if they are apart, the negative distance."""
    return min(segment.end_s, cue.end_s) - max(segment.start_s, cue.start_s)
