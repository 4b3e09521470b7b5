"""Cue times: the line with the arrow, read strictly where it is valid and leniently where it is not."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_TIMING_CHARS = 256
"""A time line is judged by its first characters, so that no line costs more than they do."""
MAX_TIME_S = 1e7

_BLANK = "[ \t\f]*"
_SUBRIP = r"(?P<hours>\d{1,2}):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)[,.](?P<fraction>\d{3})"
_WEBVTT = r"(?:(?P<hours>\d+):)?(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)\.(?P<fraction>\d{3})"
_STRICT = {
    form: re.compile(rf"{_BLANK}(?P<sign>){time}(?!\d){_BLANK}", re.ASCII)
    for form, time in (("srt", _SUBRIP), ("vtt", _WEBVTT))
}
"""Format → its valid times; SubRip's as most programs write them."""

_PART = r"\s*:\s*"
_LENIENT = re.compile(
    rf"\s*(?P<sign>[-\u2212]?)\s*(?:(?P<hours>\d+){_PART})?(?P<minutes>\d+){_PART}(?P<seconds>\d{{1,3}})"
    r"(?:\s*[.,]\s*(?P<fraction>\d*+))?(?![\d:])",
    re.ASCII,
)
# Nothing stands close behind: of "0:0x:04.000" no part is the time.
_LENIENT_END = re.compile(rf"{_LENIENT.pattern}(?=\s|\Z)", re.ASCII)
_ARROW = re.compile(r"\s*(?:-{1,3} ?>|[\u2013\u2014]>|\u2192)")
# Clock times and nothing else; from three colons on they are two times.
_ONLY_TIMES = re.compile(r"[\s\d:.,;<>\u2192\u2013\u2014-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class CueTimes:
    """The times of one cue, in seconds; perhaps negative, or in the wrong order."""

    start_s: float
    end_s: float
    is_valid: bool
    """Its format allows them as they are written."""


def looks_like_times(line: str, form: str) -> bool:
    """A line that gives times, or tries to, and is never text. In WebVTT every arrow is one."""
    if form == "vtt":
        return "-->" in line
    start = line[:MAX_TIMING_CHARS]
    if "-->" in start:
        before = start.partition("-->")[0].strip()
        return not before or before[-1] in "0123456789:.,;"
    if (found := _LENIENT.match(start)) is not None and _ARROW.match(start, found.end()) is not None:
        return True
    return start.count(":") >= 3 and len(line) <= MAX_TIMING_CHARS and _ONLY_TIMES.fullmatch(start) is not None


def read_times(line: str, form: str) -> CueTimes | None:
    """The times of a line that looks like them; None if they cannot be read."""
    head = line[:MAX_TIMING_CHARS]
    strict = _STRICT[form]
    start = strict.match(head) or _LENIENT.match(head)
    arrow = None if start is None else _ARROW.match(head, start.end())
    if start is None or arrow is None:
        return None
    end = strict.match(head, arrow.end()) or _LENIENT_END.match(head, arrow.end())
    if end is None:
        return None
    is_valid = start.re is strict and arrow[0] == "-->" and end.re is strict
    return CueTimes(start_s=_seconds(start), end_s=_seconds(end), is_valid=is_valid)


def _seconds(found: re.Match[str]) -> float:
    fraction = (found["fraction"] or "")[:3].ljust(3, "0")
    seconds = int(found["hours"] or 0) * 3600 + int(found["minutes"]) * 60 + int(found["seconds"])
    value = min(float(min(seconds, int(MAX_TIME_S))) + int(fraction) / 1000, MAX_TIME_S)
    return round(-value if found["sign"] else value, 3)


def clock(seconds: float) -> str:
    """The time as H:MM:SS.mmm."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(abs(milliseconds), 60_000)
    sign = "-" if milliseconds < 0 else ""
    return f"{sign}{minutes // 60}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
