"""Rolling captions: lines that stay on screen while the next one appears are said once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from cluster.subtitles.cues import CueIssue, IssueKind, ShownCue, Turn

TOUCHING_S = 0.1
"""Longest pause between two cues of one rolling caption."""
BRIDGE_S = 0.1
"""Longest cue that only carries a line over to the next; nobody can say anything in it."""
MIN_SHARE = 0.3
"""Share of the touching cues that repeat lines, from which a file is a rolling caption."""
MAX_LINES = 8
"""Lines compared per cue."""


def without_repeats(cues: Sequence[ShownCue]) -> tuple[list[ShownCue], list[CueIssue]]:
    """The cues, in order of start, each with only what it adds; the same cues where the file does not roll."""
    repeated = [_num_repeated(before, cue) for before, cue in zip([None, *cues], cues, strict=False)]
    touching = [index for index in range(1, len(cues)) if _touches(cues[index - 1], cues[index])]
    rolling = sum(_rolls(cues[index], repeated[index]) for index in touching)
    if rolling < 2 or rolling < MIN_SHARE * len(touching):
        return list(cues), []
    kept: list[ShownCue] = []
    issues = []
    for cue, count in zip(cues, repeated, strict=True):
        if not count:
            kept.append(cue)
            continue
        [turn] = cue.turns
        issues.append(CueIssue.of(IssueKind.ROLLING, cue.start_s, " ".join(turn.lines[:count])))
        if count < len(turn.lines):
            kept.append(dataclasses.replace(cue, turns=(Turn(speaker=turn.speaker, lines=turn.lines[count:]),)))
        elif kept:
            kept[-1] = dataclasses.replace(kept[-1], end_s=max(kept[-1].end_s, cue.end_s))
    return kept, issues


def _rolls(cue: ShownCue, num_repeated: int) -> bool:
    """A cue that repeats lines and adds one, or that is too short to be said."""
    return num_repeated > 0 and (num_repeated < len(cue.turns[0].lines) or cue.end_s - cue.start_s <= BRIDGE_S)


def _touches(before: ShownCue, cue: ShownCue) -> bool:
    return abs(cue.start_s - before.end_s) <= TOUCHING_S


def _num_repeated(before: ShownCue | None, cue: ShownCue) -> int:
    """Lines at the cue's top that stood at the bottom of the cue just before."""
    if before is None or not _touches(before, cue) or len(before.turns) != 1 or len(cue.turns) != 1:
        return 0
    shown, now = before.turns[0].lines[-MAX_LINES:], cue.turns[0].lines[:MAX_LINES]
    return next((n for n in range(min(len(shown), len(now)), 0, -1) if shown[-n:] == now[:n]), 0)
