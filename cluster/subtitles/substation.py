"""Reads the spoken events of ASS and SSA: no comments, drawings, signs or karaoke."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.subtitles.cues import CueIssue, IssueKind, ShownCue
from cluster.subtitles.markup import ass_turns
from cluster.subtitles.timecodes import MAX_TIME_S

FIELDS = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text")
_TIME = re.compile(r"\s*(-?)(\d+):(\d{1,2}):(\d{1,2})(?:[.,:](\d{0,3}))?\s*", re.ASCII)
_KARAOKE = re.compile(r"\\[kK][fot]?\d")
_DRAWING = re.compile(r"\\p[1-9]")
_PLACED = re.compile(r"\\(?:pos|move|i?clip|org)\(")
_SONG_STYLE = re.compile(r"\b(?:op|ed|opening|ending|song|songs|lyrics?|kara|karaoke|romaji|insert)\b", re.IGNORECASE)
_SIGN_STYLE = re.compile(r"\b(?:signs?|titles?|credits?|typeset(?:ting)?|screen|caption|ts)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    start: str
    end: str
    style: str
    name: str
    effect: str
    text: str


def substation_cues(text: str) -> Iterator[ShownCue | CueIssue]:
    """Each event that is spoken, in the order of the file, and what was left out."""
    events = list(_events(text.split("\n")))
    # Where most events are placed, placing says nothing: some programs write a position for every line.
    placed = sum(bool(_PLACED.search(event.text)) for event in events)
    styles = Counter(event.style for event in events)
    main_style = styles.most_common(1)[0][0] if styles else ""
    for event in events:
        start_s, end_s = _seconds(event.start), _seconds(event.end)
        speaker = " ".join(event.name.split()) or None
        turns = ass_turns(event.text, speaker)
        is_drawing = _DRAWING.search(event.text) is not None
        if start_s is None or end_s is None:
            yield CueIssue.of(IssueKind.NO_TIME, start_s, f"{event.start} --> {event.end}")
        elif is_drawing or not turns:
            continue
        elif (kind := _unspoken(event, main_style, placing_tells=2 * placed < len(events))) is not None:
            yield CueIssue.of(kind, start_s, " ".join(turns[0].lines))
        else:
            yield ShownCue(start_s=max(0.0, start_s), end_s=end_s, turns=turns)


def _unspoken(event: _Event, main_style: str, *, placing_tells: bool) -> IssueKind | None:
    """The reason why the event is not said; None if it is."""
    style = event.style.replace("_", " ")
    effect = event.effect.strip().lower()
    if _KARAOKE.search(event.text) or _SONG_STYLE.search(style) or effect in ("fx", "karaoke"):
        return IssueKind.SONG
    if _SIGN_STYLE.search(style) or effect.startswith(("banner", "scroll")):
        return IssueKind.SIGN
    is_placed = placing_tells and _PLACED.search(event.text) is not None
    if is_placed and not (event.name.strip() and event.style == main_style):
        return IssueKind.SIGN
    return None


def _events(lines: Sequence[str]) -> Iterator[_Event]:
    """The dialogue lines, by the names that the format line gives to their fields."""
    fields: tuple[str, ...] = FIELDS
    is_inside = False
    for line in lines:
        head = line[:16].lstrip("\ufeff ").lower()
        if head.startswith("["):
            is_inside = head.startswith("[events]")
        elif is_inside and head.startswith("format:"):
            fields = tuple(name.strip().lower() for name in line.partition(":")[2].split(","))[:64]
        elif is_inside and head.startswith("dialogue:"):
            values = line.partition(":")[2].split(",", len(fields) - 1)
            found = dict(zip(fields, values, strict=False))
            if {"start", "end", "text"} <= set(found):
                rest = {name: found.get(name, "").strip() for name in ("style", "name", "effect")}
                yield _Event(start=found["start"].strip(), end=found["end"].strip(), text=found["text"], **rest)
            elif len(values) > 1:
                yield _Event(start=values[1].strip(), end="", style="", name="", effect="", text=line)


def _seconds(text: str) -> float | None:
    found = _TIME.fullmatch(text[:40])
    if found is None:
        return None
    seconds = min(int(found[2]) * 3600 + int(found[3]) * 60 + int(found[4]), int(MAX_TIME_S))
    value = seconds + int((found[5] or "0").ljust(3, "0")) / 1000
    return -value if found[1] else value
