"""Finds speech without words, and joins what is heard in parts of a window: pure, on times and words."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from actors.types import ASR_HZ, Samples, Span, TranscribedSegment, Transcript, Window, Word
from cluster.timing.grouping import SPEECH_TOLERANCE_S

LONGEST_WORD_S, LONGEST_LETTER_S = 0.6, 0.12
"""A word accounts for at most so much speech: aligners stretch the last word before a skipped sentence over it."""
MAX_GAP_S = 0.5
"""Speech without words on both sides of so short a pause is one stretch."""
PAD_S = 0.2
MIN_STRETCH_S = 1.0
STRETCH_PAUSE_S = 0.35
"""A speaker who changes the language pauses at least so long."""


def uncovered(window: Window, transcript: Transcript, min_s: float) -> list[Span]:
    """Stretches of the window with at least ``min_s`` of speech and no words, on the media timeline."""
    words = sorted(_covered(window, transcript), key=lambda span: span.start_s)
    rest = [piece for span in window.speech for piece in _without(span, words)]
    stretches: list[list[Span]] = []
    for piece in rest:
        if stretches and piece.start_s - stretches[-1][-1].end_s < MAX_GAP_S:
            stretches[-1].append(piece)
        else:
            stretches.append([piece])
    return [
        Span(start_s=pieces[0].start_s, end_s=pieces[-1].end_s)
        for pieces in stretches
        if sum(piece.duration_s for piece in pieces) >= min_s
    ]


def retry_spans(window: Window, span: Span) -> list[Span]:
    """The span to be heard by itself; its halves if it is nearly the whole window, which was heard already."""
    if span.duration_s < 0.9 * (window.end_s - window.start_s) - 2 * PAD_S:
        return [span]
    inside = [part for part in window.speech if span.start_s < part.end_s and part.start_s < span.end_s]
    pauses = [(after.start_s - before.end_s, before.end_s, after.start_s) for before, after in pairwise(inside)]
    if not pauses:
        middle_s = (span.start_s + span.end_s) / 2
        return [Span(start_s=span.start_s, end_s=middle_s), Span(start_s=middle_s, end_s=span.end_s)]
    _, end_s, start_s = max(pauses)
    return [Span(start_s=span.start_s, end_s=end_s), Span(start_s=start_s, end_s=span.end_s)]


def excerpt(window: Window, span: Span) -> tuple[float, Samples]:
    """The audio of a span with a little before and after it, and its start in seconds from the window's."""
    start = max(0, round((span.start_s - PAD_S - window.start_s) * ASR_HZ))
    end = min(len(window.samples), round((span.end_s + PAD_S - window.start_s) * ASR_HZ))
    return start / ASR_HZ, window.samples[start:end].copy()


def stretches_of(window: Window) -> list[Span]:
    """The window's speech between pauses, none shorter than a short sentence unless it is all there is."""
    stretches: list[Span] = []
    for span in window.speech:
        if stretches and (
            span.start_s - stretches[-1].end_s < STRETCH_PAUSE_S or stretches[-1].duration_s < MIN_STRETCH_S
        ):
            stretches[-1] = Span(start_s=stretches[-1].start_s, end_s=span.end_s)
        else:
            stretches.append(span)
    if len(stretches) > 1 and stretches[-1].duration_s < MIN_STRETCH_S:
        last = stretches.pop()
        stretches[-1] = Span(start_s=stretches[-1].start_s, end_s=last.end_s)
    return stretches


def shifted(transcript: Transcript, offset_s: float) -> list[TranscribedSegment]:
    """The segments of an excerpt's transcript, in seconds from the start of the window, with their language."""
    return [
        dataclasses.replace(
            segment,
            start_s=segment.start_s + offset_s,
            end_s=segment.end_s + offset_s,
            words=tuple(_moved(word, offset_s) for word in segment.words),
            language=segment.language or transcript.language,
        )
        for segment in transcript.segments
    ]


def with_segments(transcript: Transcript, extra: Iterable[TranscribedSegment], gap: Span) -> Transcript:
    """The transcript with what was heard in a gap of it; times are in seconds from the start of the window."""
    inside = [
        part
        for segment in extra
        if (part := _part(segment, [word for word in segment.words if _is_inside(word, gap)])) is not None
    ]
    if not inside:
        return transcript
    parts = [part for segment in transcript.segments for part in _split(segment, inside[0].start_s)]
    segments = tuple(sorted((*parts, *inside), key=lambda segment: segment.start_s))
    return dataclasses.replace(transcript, segments=segments)


def _covered(window: Window, transcript: Transcript) -> Iterator[Span]:
    for segment in transcript.segments:
        for word in segment.words:
            longest_s = LONGEST_WORD_S + LONGEST_LETTER_S * len(word.text.strip())
            end_s = min(word.end_s, word.start_s + longest_s)
            yield Span(
                start_s=window.start_s + word.start_s - SPEECH_TOLERANCE_S,
                end_s=window.start_s + end_s + SPEECH_TOLERANCE_S,
            )


def _without(span: Span, covered: Sequence[Span]) -> Iterator[Span]:
    """The parts of ``span`` outside of ``covered``, which is in order of start."""
    start_s = span.start_s
    for each in covered:
        if each.start_s >= span.end_s:
            break
        if each.start_s > start_s:
            yield Span(start_s=start_s, end_s=each.start_s)
        start_s = max(start_s, each.end_s)
    if start_s < span.end_s:
        yield Span(start_s=start_s, end_s=span.end_s)


def _is_inside(word: Word, gap: Span) -> bool:
    return gap.start_s <= (word.start_s + word.end_s) / 2 <= gap.end_s


def _split(segment: TranscribedSegment, at_s: float) -> list[TranscribedSegment]:
    """The segment; its words before and after ``at_s`` as two, if it has both."""
    parts = (
        _part(segment, [word for word in segment.words if word.start_s < at_s]),
        _part(segment, [word for word in segment.words if word.start_s >= at_s]),
    )
    return [part for part in parts if part is not None]


def _part(segment: TranscribedSegment, words: Sequence[Word]) -> TranscribedSegment | None:
    if not words:
        return None
    if len(words) == len(segment.words):
        return segment
    return dataclasses.replace(
        segment,
        start_s=words[0].start_s,
        end_s=words[-1].end_s,
        text="".join(word.text for word in words).strip(),
        words=tuple(words),
    )


def _moved(word: Word, by_s: float) -> Word:
    return dataclasses.replace(word, start_s=word.start_s + by_s, end_s=word.end_s + by_s)
