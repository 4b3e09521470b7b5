"""Repairs the times of cues: none past the end, none without length, none over another. Never refuses one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from cluster.subtitles.cues import CueIssue, IssueKind, SpokenCue
from cluster.subtitles.timecodes import clock

ABUTTING_S = 0.1
"""Longest overlap that is no issue; the earlier cue is then cut where the later begins."""
MIN_CUE_S = 0.05
"""Shortest time that a cue keeps; one without it is said after the one before, or not at all."""
MAX_JOINED_CHARS = 500
"""Longest text of cues that are joined, as there is no time to put one after the other."""
CHARS_PER_S = 15.0
"""Reading speed, for cues whose times have no length."""
CALM_CHARS_PER_S = 10.0
"""Speed at which a cue is said at ease: a longer one gives way to the cue that begins over it."""


def repaired(cues: Sequence[SpokenCue], media_end_s: float) -> tuple[tuple[SpokenCue, ...], list[CueIssue]]:
    """The cues in order of start, each after the one before, and what had to be done for that."""
    issues: list[CueIssue] = []
    inside = _inside(sorted(cues, key=lambda cue: cue.start_s), media_end_s, issues)
    return _apart(_once(inside, issues), media_end_s, issues), issues


def _inside(cues: Sequence[SpokenCue], media_end_s: float, issues: list[CueIssue]) -> list[SpokenCue]:
    """The cues that begin before the media ends, each with a length."""
    kept = []
    for index, cue in enumerate(cues):
        if cue.start_s >= media_end_s:
            issues.append(_issue(IssueKind.PAST_END, cue))
            continue
        if cue.end_s <= cue.start_s:
            issues.append(_issue(IssueKind.NO_LENGTH, cue))
            wanted_s = cue.start_s + max(1.0, len(cue.text) / CHARS_PER_S)
            later = [each.start_s for each in cues[index + 1 : index + 9] if each.start_s > cue.start_s]
            end_s = max(min([wanted_s, *later]), cue.start_s + MIN_CUE_S)
            cue = dataclasses.replace(cue, end_s=end_s, is_retimed=True)
        kept.append(dataclasses.replace(cue, end_s=min(cue.end_s, media_end_s)))
    return kept


def _once(cues: Sequence[SpokenCue], issues: list[CueIssue]) -> list[SpokenCue]:
    """The cues without those whose words another says at the same time, as layers do."""
    kept: list[SpokenCue] = []
    index_of: dict[str, int] = {}
    for cue in cues:
        words = cue.text.casefold()
        same = index_of.get(words)
        if same is not None and cue.start_s < kept[same].end_s - ABUTTING_S:
            issues.append(_issue(IssueKind.DOUBLED, cue))
            kept[same] = dataclasses.replace(kept[same], end_s=max(kept[same].end_s, cue.end_s))
            continue
        index_of[words] = len(kept)
        kept.append(cue)
    return kept


def _apart(cues: Sequence[SpokenCue], media_end_s: float, issues: list[CueIssue]) -> tuple[SpokenCue, ...]:
    """The cues one after the other; where two overlap, the time that both have is shared by their lengths."""
    kept: list[SpokenCue] = []
    for cue in cues:
        before = kept[-1] if kept else None
        if before is None or cue.start_s >= before.end_s:
            kept.append(cue)
            continue
        if before.end_s - cue.start_s <= ABUTTING_S and cue.start_s - before.start_s >= MIN_CUE_S:
            kept[-1] = dataclasses.replace(before, end_s=cue.start_s)
            kept.append(cue)
            continue
        shared = _shared(before, cue, media_end_s)
        issues.append(_issue(IssueKind.OVERLAP if shared else IssueKind.CROWDED, cue))
        kept[-1:] = shared or [before]
    return tuple(kept)


def _shared(before: SpokenCue, cue: SpokenCue, media_end_s: float) -> list[SpokenCue]:
    """Both cues over the time of both: as one that says all the words where it is short; none if that is too long.

    The later one keeps its start as far as the earlier can be said before it, and then its end as well.
    """
    end_s = max(before.end_s, cue.end_s)
    share = len(before.text) / (len(before.text) + len(cue.text))
    border_s = before.start_s + min((end_s - before.start_s) * share, len(before.text) / CALM_CHARS_PER_S)
    border_s = round(min(max(border_s, cue.start_s), before.end_s), 3)
    is_unmoved = border_s == cue.start_s
    end_s = cue.end_s if is_unmoved else end_s
    if border_s - before.start_s < MIN_CUE_S or end_s - border_s < MIN_CUE_S:
        if len(before.text) + len(cue.text) > MAX_JOINED_CHARS:
            return []
        end_s = min(before.start_s + max(end_s - before.start_s, MIN_CUE_S), media_end_s)
        text = f"{before.text} {cue.text}"
        return [dataclasses.replace(before, end_s=end_s, text=text, is_retimed=True)]
    return [
        dataclasses.replace(before, end_s=border_s, is_retimed=True),
        cue if is_unmoved else dataclasses.replace(cue, start_s=border_s, end_s=end_s, is_retimed=True),
    ]


def _issue(kind: IssueKind, cue: SpokenCue) -> CueIssue:
    return CueIssue.of(kind, cue.start_s, f"{clock(cue.start_s)} --> {clock(cue.end_s)} {cue.text}")
