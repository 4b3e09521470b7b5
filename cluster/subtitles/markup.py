"""Removes the markup of cue text: tags, styles and escapes. Every scan is linear in its text."""

from __future__ import annotations

import html
import re

from cluster.subtitles.cues import Turn

# A tag that is never closed takes the rest of the cue, as the WebVTT parser says: so each character is read once.
_VTT_TAG = re.compile(r"<([^>]*)(?:>|\Z)")
_VOICE = re.compile(r"v(?:\.\S*)?\s+(.+)", re.DOTALL)
_SRT_TAG = re.compile(r"</?[a-zA-Z][^<>\n]*>")
_BREAK = re.compile(r"<[bB][rR] ?/?>")
_ENTITY = re.compile(r"&(?:[a-zA-Z]{2,8}|#\d{1,7});", re.ASCII)
# Python refuses to read longer numbers.
_HUGE_NUMBER = re.compile(r"&#\d{8,};?", re.ASCII)


def webvtt_turns(text: str) -> tuple[Turn, ...]:
    """The cue's text by voice tags; one turn without a speaker if it has none."""
    pieces: list[tuple[str | None, list[str]]] = [(None, [])]
    at = 0
    for tag in _VTT_TAG.finditer(text):
        pieces[-1][1].append(text[at : tag.start()])
        at = tag.end()
        if (voice := _VOICE.fullmatch(tag[1])) is not None:
            pieces.append((" ".join(_unescaped(voice[1]).split()) or None, []))
        elif tag[1] == "/v":
            pieces.append((None, []))
    pieces[-1][1].append(text[at:])
    return tuple(turn for speaker, parts in pieces for turn in _turns(_unescaped("".join(parts)), speaker))


def subrip_turns(text: str) -> tuple[Turn, ...]:
    """The cue's text without HTML tags and ASS overrides, which SubRip files hold as well."""
    plain = _SRT_TAG.sub("", _BREAK.sub("\n", without_overrides(text))).replace(r"\N", "\n").replace(r"\h", " ")
    plain = _ENTITY.sub(lambda entity: html.unescape(entity[0]), plain)
    return _turns(plain)


def ass_turns(text: str, speaker: str | None) -> tuple[Turn, ...]:
    plain = without_overrides(text).replace(r"\N", "\n").replace(r"\n", "\n").replace(r"\h", " ")
    return _turns(plain, speaker)


def without_overrides(text: str) -> str:
    """The text without anything in braces."""
    kept, at = [], 0
    while (begin := text.find("{", at)) >= 0 and (end := text.find("}", begin)) >= 0:
        kept.append(text[at:begin])
        at = end + 1
    return "".join(kept) + text[at:]


def _turns(text: str, speaker: str | None = None) -> tuple[Turn, ...]:
    """One turn; none if no line of the text has a character that can be read."""
    lines = (" ".join(line.replace("\N{REPLACEMENT CHARACTER}", "").split()) for line in text.split("\n"))
    read = tuple(line for line in lines if line)
    return (Turn(speaker=speaker, lines=read),) if read else ()


def _unescaped(text: str) -> str:
    return html.unescape(_HUGE_NUMBER.sub("\N{REPLACEMENT CHARACTER}", text))
