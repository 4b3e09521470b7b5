"""Lays out cues for reading, and writes them as SubRip and WebVTT."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import pysubs2

from actors.text_width import is_wide, num_wide
from cluster.subtitles.config import SubtitleConfig

WORD_JOINER = "\u2060"
"""An invisible character that breaks up text which a player would take for markup: SubRip has no escapes."""

SUBRIP_MARKUP = re.compile(r"<(?=\s*/?\s*[a-zA-Z])|\{(?=\\)|--(?=>)")
LINE_CODES = re.compile(r"\\(?=[hnN])")
"""pysubs2 reads \\n and \\h in any text as line break and space."""

SHORTEST_S = 0.001
"""Resolution of SubRip and WebVTT; shorter cues would have no length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """Text on screen over ``[start_s, end_s)`` of the media timeline; plain text, no markup."""

    start_s: float
    end_s: float
    text: str


def lay_out(cues: Iterable[Cue], config: SubtitleConfig | None = None) -> tuple[Cue, ...]:
    """Cues in order, without overlap, wrapped; a long cue is split, and its time divided by text length.

    Where two overlap, the earlier one ends when the later begins. Cues without text or time are left out.
    """
    config = config or SubtitleConfig()
    ordered = sorted((cue for cue in cues if cue.text.split()), key=lambda cue: (cue.start_s, cue.end_s))
    laid_out: list[Cue] = []
    for at, cue in enumerate(ordered):
        end_s = min([cue.end_s, *(later.start_s for later in ordered[at + 1 : at + 2])])
        start_s = max(0.0, cue.start_s)
        if end_s - start_s >= SHORTEST_S:
            laid_out += _screens(start_s, end_s, cue.text, config)
        elif at + 1 < len(ordered):
            # Two cues that begin together share one place on screen: neither text may vanish.
            later = ordered[at + 1]
            joined = f"{cue.text} {later.text}"
            ordered[at + 1] = Cue(start_s=later.start_s, end_s=max(cue.end_s, later.end_s), text=joined)
    return tuple(laid_out)


def render(cues: Sequence[Cue], form: Literal["srt", "vtt"]) -> str:
    """The whole file as text, to be saved as UTF-8. ``cues`` must be laid out by ``lay_out``."""
    subs = pysubs2.SSAFile()
    for cue in cues:
        text = html.escape(cue.text, quote=False) if form == "vtt" else subrip_text(cue.text)
        text = LINE_CODES.sub(lambda match: match[0] + WORD_JOINER, text).replace("\n", r"\N")
        subs.append(pysubs2.SSAEvent(start=round(cue.start_s * 1000), end=round(cue.end_s * 1000), text=text))
    # Tags are kept, not interpreted: to pysubs2 everything in braces is one, and the text is plain.
    return subs.to_string(form, keep_ssa_tags=True)


def subrip_text(text: str) -> str:
    """The text, changed so that no SubRip player takes part of it for markup."""
    return SUBRIP_MARKUP.sub(lambda match: match[0] + WORD_JOINER, text)


def wrap(text: str, config: SubtitleConfig) -> list[list[str]]:
    """The text as screens of lines; lines of one screen are of similar length."""
    lines = _fill(_pieces(text, config.max_line_chars), config.max_line_chars)
    num_screens = -(-len(lines) // config.max_lines)
    if num_screens == 0:
        return []
    if num_screens == 1:
        return [_balanced(" ".join(text.split()), len(lines), config.max_line_chars)]
    per_screen = [len(lines) * at // num_screens for at in range(num_screens + 1)]
    return [lines[start:end] for start, end in pairwise(per_screen)]


def _screens(start_s: float, end_s: float, text: str, config: SubtitleConfig) -> list[Cue]:
    screens = ["\n".join(lines) for lines in wrap(text, config)]
    lengths = [_width(screen) for screen in screens]
    bounds_s = [start_s + (end_s - start_s) * sum(lengths[:at]) / sum(lengths) for at in range(len(screens) + 1)]
    bounds_s[-1] = end_s
    return [
        Cue(start_s=begin_s, end_s=stop_s, text=screen)
        for (begin_s, stop_s), screen in zip(pairwise(bounds_s), screens, strict=True)
        if stop_s > begin_s
    ]


def _width(text: str) -> int:
    """Columns on screen; never 0, so that time can be shared by it."""
    marks = sum(unicodedata.combining(char) != 0 for char in text)
    return max(1, len(text) + num_wide(text) - marks)


def _pieces(text: str, max_chars: int) -> list[tuple[str, str]]:
    """Unbreakable pieces of the text, each with its separator from the next ("" inside East Asian text)."""
    pieces: list[tuple[str, str]] = []
    for word in text.split():
        part = ""
        for char in word:
            breaks = bool(part) and unicodedata.combining(char) == 0
            breaks = breaks and (is_wide(part[-1]) or _width(part + char) > max_chars)
            if breaks and not unicodedata.category(char).startswith("P"):
                pieces.append((part, ""))
                part = ""
            part += char
        pieces.append((part, " "))
    return pieces


def _fill(pieces: Sequence[tuple[str, str]], max_chars: int) -> list[str]:
    """Lines of at most ``max_chars`` columns, each as full as it can be."""
    lines: list[str] = []
    line = gap = ""
    for piece, after in pieces:
        if line and _width(line + gap + piece) > max_chars:
            lines.append(line)
            line = ""
        line = line + gap + piece if line else piece
        gap = after
    return [*lines, line] if line else lines


def _balanced(text: str, num_lines: int, max_chars: int) -> list[str]:
    """The text on ``num_lines`` lines by the narrowest width that allows it."""
    for width in range(max(1, _width(text) // num_lines), max_chars):
        pieces = _pieces(text, max_chars)
        lines = _fill(pieces, width)
        if len(lines) <= num_lines and all(_width(line) <= max_chars for line in lines):
            return lines
    return _fill(_pieces(text, max_chars), max_chars)
