"""A report's timeline: source speech above dubbed speech, wrapped into rows like text.

Positions are percentages of a row, so that the picture fits any window without being scaled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cluster.manifest import Manifest, SegmentRecord, UtteranceRecord
from cluster.report.figures import FitOutcome, outcome_of

# Each has six divisions of whole seconds. Short media get a short row, to fill the width.
ROW_LENGTHS_S = (6, 12, 30)
NUM_DIVISIONS = 6
LONG_MEDIA_S = 600
LONG_ROW_S = 60
# Narrower bars have no space for a letter.
MIN_LETTER_PERCENT = 3.0
LETTERS = {FitOutcome.FASTER: "F", FitOutcome.STRETCHED: "S", FitOutcome.CUT: "C"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One rectangle of one row, in percent of the row's length."""

    kind: str
    """source; and of a dub: room, slot, said, over (audio after the slot), kept, flag."""
    left: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineLine:
    """The part of a segment or utterance that lies in one row."""

    seek_s: float
    title: str
    """Tooltip."""
    outcome: FitOutcome | None
    """None for source speech."""
    letter: str | None
    marks: tuple[Mark, ...]
    """Drawn in this order."""

    @property
    def letter_left(self) -> float:
        return next(mark.left for mark in self.marks if mark.kind in ("said", "over"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineBand:
    language: str | None
    lines: tuple[TimelineLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    start_s: float
    ticks_s: tuple[float, ...]
    bands: tuple[TimelineBand, ...]
    """The source, then one for each target language."""
    past_end_percent: float
    """Part of the row after the end of the media."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    row_s: float
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    kind: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """A segment or utterance before it is cut into rows."""

    seek_s: float
    title: str
    outcome: FitOutcome | None
    stretches: tuple[_Stretch, ...]


def clock(seconds: float, digits: int = 0) -> str:
    """A media time for people: 0:07, 12:03.4, 1:02:03."""
    # Rounded first: 59.96 is 1:00.0, never 0:60.0.
    ticks = round(max(0.0, seconds) * 10**digits)
    whole, fraction = divmod(ticks, 10**digits)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    head = f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
    return f"{head}.{fraction:0{digits}d}" if digits else head


def timeline_of(manifest: Manifest) -> Timeline | None:
    """The timeline of a dub; None without speech."""
    if not manifest.segments:
        return None
    languages = [manifest.input.language, *(dub.language for dub in manifest.dubs)]
    items = [
        [_source_item(segment) for segment in manifest.segments],
        *([_dub_item(utterance) for utterance in dub.utterances] for dub in manifest.dubs),
    ]
    ends_s = [stretch.end_s for band in items for item in band for stretch in item.stretches]
    end_s = max(manifest.input.duration_s, *ends_s)
    row_s = _row_length_s(end_s)
    num_rows = max(1, math.ceil(end_s / row_s))
    bands = [_cut_into_rows(band, row_s, num_rows) for band in items]
    rows = []
    for index in range(num_rows):
        start_s = index * row_s
        rows.append(
            Row(
                start_s=start_s,
                ticks_s=tuple(start_s + row_s * tick / NUM_DIVISIONS for tick in range(NUM_DIVISIONS)),
                bands=tuple(
                    TimelineBand(language=language, lines=tuple(band[index]))
                    for language, band in zip(languages, bands, strict=True)
                ),
                past_end_percent=100 * max(0.0, start_s + row_s - end_s) / row_s,
            )
        )
    return Timeline(row_s=row_s, rows=tuple(rows))


def _row_length_s(end_s: float) -> float:
    if end_s > LONG_MEDIA_S:
        return LONG_ROW_S
    return next((length_s for length_s in ROW_LENGTHS_S if end_s <= length_s), ROW_LENGTHS_S[-1])


def _source_item(segment: SegmentRecord) -> _Item:
    return _Item(
        seek_s=segment.start_s,
        title=f"{segment.id} · {_times(segment.start_s, segment.end_s)}\n{segment.text}",
        outcome=None,
        stretches=(_Stretch(kind="source", start_s=segment.start_s, end_s=segment.end_s),),
    )


def _dub_item(utterance: UtteranceRecord) -> _Item:
    outcome = outcome_of(utterance)
    start_s, end_s = utterance.start_s, utterance.end_s
    slot_start_s, slot_end_s = utterance.slot_start_s, utterance.slot_end_s
    if outcome is FitOutcome.KEPT:
        stretches = [("kept", slot_start_s, slot_end_s)]
        flagged_s = slot_start_s, slot_end_s
    else:
        # A bar that starts in its own overflow has no part inside the slot.
        inside_end_s = max(start_s, min(end_s, slot_end_s))
        stretches = [
            ("room", slot_end_s, utterance.room_end_s),
            ("slot", slot_start_s, slot_end_s),
            ("said", start_s, inside_end_s),
            ("over", inside_end_s, end_s),
        ]
        flagged_s = start_s, end_s
    if utterance.needs_look:
        stretches.append(("flag", *flagged_s))
    facts = [utterance.id, _times(start_s, end_s), outcome.value]
    if utterance.rate is not None and outcome is not FitOutcome.KEPT:
        facts.append(f"rate {utterance.rate:.2f}")
    facts += [flag.value for flag in utterance.flags if flag.value != outcome.value]
    return _Item(
        seek_s=slot_start_s,
        title=f"{' · '.join(facts)}\n{utterance.text or utterance.source_text}",
        outcome=outcome,
        stretches=tuple(_Stretch(kind=kind, start_s=start, end_s=end) for kind, start, end in stretches),
    )


def _times(start_s: float, end_s: float) -> str:
    return f"{clock(start_s, 1)}–{clock(end_s, 1)}"


def _cut_into_rows(items: Iterable[_Item], row_s: float, num_rows: int) -> list[list[TimelineLine]]:
    rows: list[list[TimelineLine]] = [[] for _ in range(num_rows)]
    for item in items:
        marks_by_row: dict[int, list[Mark]] = {}
        for stretch in item.stretches:
            for row, mark in _cut(stretch, row_s, num_rows):
                marks_by_row.setdefault(row, []).append(mark)
        lettered = False
        for row, marks in sorted(marks_by_row.items()):
            letter = None if lettered or item.outcome is None else _letter(item.outcome, marks)
            lettered = lettered or letter is not None
            rows[row].append(
                TimelineLine(
                    seek_s=item.seek_s, title=item.title, outcome=item.outcome, letter=letter, marks=tuple(marks)
                )
            )
    return rows


def _cut(stretch: _Stretch, row_s: float, num_rows: int) -> Iterator[tuple[int, Mark]]:
    """The row and position of each part of a stretch; nothing for an empty stretch."""
    first = max(0, math.floor(stretch.start_s / row_s))
    for row in range(first, min(num_rows, math.ceil(stretch.end_s / row_s))):
        left_s = max(stretch.start_s, row * row_s) - row * row_s
        right_s = min(stretch.end_s, (row + 1) * row_s) - row * row_s
        if right_s > left_s:
            yield row, Mark(kind=stretch.kind, left=100 * left_s / row_s, width=100 * (right_s - left_s) / row_s)


def _letter(outcome: FitOutcome, marks: Sequence[Mark]) -> str | None:
    sounding = [mark.width for mark in marks if mark.kind in ("said", "over")]
    return LETTERS.get(outcome) if sum(sounding) >= MIN_LETTER_PERCENT else None
