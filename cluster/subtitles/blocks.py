"""Splits SubRip and WebVTT into cues, line by line, as players do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cluster.subtitles.cues import CueIssue, IssueKind, ShownCue
from cluster.subtitles.markup import subrip_turns, webvtt_turns
from cluster.subtitles.timecodes import looks_like_times, read_times

SIGNATURE = re.compile(r"[\ufeff\s]*WEBVTT", re.IGNORECASE)
"""Beginning of a WebVTT file, and of those that browsers refuse for the spelling of their first line."""


def webvtt_cues(text: str) -> Iterator[ShownCue | CueIssue]:
    """The cues of WebVTT text by the steps of its specification; invalid times are read leniently, and named."""
    for times, lines in _webvtt_blocks(text.split("\n")):
        yield from _cue(times, "\n".join(lines), "vtt")


def _webvtt_blocks(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each time line with the text below it; blocks without one are notes, styles, regions or the header."""
    block: list[str] = []
    times: str | None = None
    # The line of the signature is no part of any block, whatever stands behind it.
    below = lines[1:] if SIGNATURE.match(lines[0]) else lines
    for line in [*below, ""]:
        is_times = looks_like_times(line, "vtt")
        if not is_times and line:
            block.append(line)
            continue
        if times is not None:
            yield times, block
        # A name above the times belongs to the cue; longer blocks above them are none of its business.
        block, times = [], line if is_times else None


def subrip_cues(text: str) -> Iterator[ShownCue | CueIssue]:
    """The cues of SubRip text: each lasts until the next time line, without the number above that."""
    lines = text.split("\n")
    at = [index for index, line in enumerate(lines) if looks_like_times(line, "srt")]
    is_numbered = bool(at) and at[0] > 0 and lines[at[0] - 1].strip().isdecimal()
    for begin, following in zip(at, [*at[1:], len(lines)], strict=True):
        end = following
        if following < len(lines) and _is_number(lines, following - 1, begin, is_numbered=is_numbered):
            end = following - 1
        yield from _cue(lines[begin], "\n".join(lines[begin + 1 : end]), "srt")


def _is_number(lines: Sequence[str], index: int, begin: int, *, is_numbered: bool) -> bool:
    """The line numbers the next cue, rather than ending the text of the cue that begins at line ``begin``."""
    if index <= begin or not lines[index].strip().isdecimal():
        return False
    return is_numbered or not lines[index - 1].strip()


def _cue(times_line: str, text: str, form: str) -> Iterator[ShownCue | CueIssue]:
    times = read_times(times_line, form)
    turns = webvtt_turns(text) if form == "vtt" else subrip_turns(text)
    if not turns:
        return
    if times is None:
        yield CueIssue.of(IssueKind.NO_TIME, None, times_line)
        return
    start_s = max(0.0, times.start_s)
    if not times.is_valid:
        yield CueIssue.of(IssueKind.ODD_TIME, start_s, times_line)
    yield ShownCue(start_s=start_s, end_s=times.end_s, turns=turns, is_odd=not times.is_valid)
