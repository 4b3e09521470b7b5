"""The records of a subtitle file that was read: its cues, and what was repaired or left out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class IssueKind(StrEnum):
    """A kind of imperfection in a subtitle file, and how it was met."""

    ODD_TIME = "odd_time"
    """A time that its format does not allow, read as players read it."""
    NO_TIME = "no_time"
    """Left out: its time line cannot be read."""
    PAST_END = "past_end"
    """Left out: it begins after the end of the media."""
    NO_LENGTH = "no_length"
    """A cue that ends when it begins, or before: given the time that it takes to say."""
    OVERLAP = "overlap"
    """Cues over each other: cut or moved so that one follows the other."""
    CROWDED = "crowded"
    """Left out: too many other cues stand at its time."""
    DOUBLED = "doubled"
    """Left out: the same words stand in another cue at the same time."""
    ROLLING = "rolling"
    """Words of the cue before, still on screen, are said once."""
    SIGN = "sign"
    """Left out: writing in the picture, or a drawing."""
    SONG = "song"
    """Left out: karaoke or lyrics, which keep their original sound."""
    SOUND = "sound"
    """Not said: a description of a sound, which is kept."""
    LABEL = "label"
    """Not said: the name of a speaker, kept as such."""


HARMLESS = frozenset({IssueKind.SOUND, IssueKind.LABEL, IssueKind.ROLLING})
"""Ordinary captions hold these; the others raise a flag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CueIssue:
    """One imperfection."""

    kind: IssueKind
    start_s: float | None
    """Start of its cue; None if that cannot be read."""
    text: str
    """The words or the time line concerned, at most 200 characters."""

    @classmethod
    def of(cls, kind: IssueKind, start_s: float | None, text: str) -> CueIssue:
        return cls(kind=kind, start_s=start_s, text=" ".join(text[:200].split()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Lines of one speaker within a cue, without markup."""

    speaker: str | None
    """From an ASS name or a WebVTT voice tag."""
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCue:
    """Text that the file shows over ``[start_s, end_s)``, before its words are told from the rest."""

    start_s: float
    end_s: float
    turns: tuple[Turn, ...]
    """Never empty."""
    is_odd: bool = False
    """Its times are not valid as they are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenCue:
    """One speaker's text over ``[start_s, end_s)`` of the media timeline."""

    start_s: float
    end_s: float
    text: str
    """One line, no markup, never empty."""
    speaker: str | None
    """From an ASS name, a WebVTT voice tag or a label ("JOHN:")."""
    is_retimed: bool = False
    """Its times are not those of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtitleFile:
    """A subtitle file as it was read."""

    name: str
    form: str
    """SubRip, WebVTT, ASS or SSA."""
    encoding: str
    is_encoding_doubtful: bool
    cues: tuple[SpokenCue, ...]
    """In order of start, none over another."""
    issues: tuple[CueIssue, ...]
