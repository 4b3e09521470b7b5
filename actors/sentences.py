"""Sentence boundaries: one definition of full stops and abbreviations, and texts cut into pieces for a translator."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

STOPS = ".!?…"
"""Marks that end a sentence in Latin, Greek and Cyrillic scripts."""
OTHER_STOPS = "。！？｡।॥؟۔።፧។။༎։"
"""Marks that end a sentence in other scripts; several of them have no space after it."""
CLOSERS = "\"'”’»)]」』）"
"""Quotation marks and brackets that may follow the mark of a sentence's end."""

TITLES = "mr|mrs|ms|dr|prof|st|mt|gen|col|capt|rev|vs|fig|sr|sra|srta|dra|profa|av|exmo|exma"
"""English and Portuguese abbreviations that stand before a word, so that their full stop ends no sentence."""

_BEFORE_WORD = r"(?:^|[\s(\"'“‘«])"
_LATIN_SENTENCE_END = re.compile(rf"[{STOPS}]+[\"'”’»)\]]*\s+(?=\S)")
_SENTENCE_END = re.compile(rf"[{STOPS}{OTHER_STOPS}]+[{re.escape(CLOSERS)}]*$")
_CLAUSE_END = re.compile(r"[,;:)—–]\s+")
# Stored translations depend on where a text is cut: raise the translators' revision with any change here.
_TITLE_OR_INITIAL = re.compile(rf"{_BEFORE_WORD}(?:{TITLES}|\w)\.$", re.IGNORECASE)
# Without the next word's capital to tell, "etc." and "U.S." count as the middle of a sentence.
_ABBREVIATION = re.compile(rf"{_BEFORE_WORD}(?:{TITLES}|etc|(?:[a-z]\.)*[a-z])\.$", re.IGNORECASE)


def ends_sentence(text: str) -> bool:
    """True if the text ends with the end of a sentence, in any script; False after an abbreviation."""
    text = text.rstrip()
    return bool(_SENTENCE_END.search(text)) and not _ABBREVIATION.search(text)


def pieces(text: str, max_characters: int) -> list[str]:
    """The text's sentences, whitespace collapsed; longer ones cut at a clause, else a word, else anywhere.

    No character but whitespace is lost, and none is out of order. A cut inside a sentence costs a
    little quality; a model given too much drops the rest.
    """
    return [piece for sentence in _sentences(" ".join(text.split())) for piece in _shortened(sentence, max_characters)]


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for end in _LATIN_SENTENCE_END.finditer(text):
        before = text[start : end.end()].rstrip()
        if not text[end.end()].islower() and not _TITLE_OR_INITIAL.search(before):
            yield before
            start = end.end()
    if start < len(text):
        yield text[start:]


def _shortened(sentence: str, max_characters: int) -> Iterator[str]:
    rest = sentence
    while len(rest) > max_characters:
        cut = _cut(rest, max_characters)
        yield rest[:cut].rstrip()
        rest = rest[cut:].lstrip()
    if rest:
        yield rest


def _cut(text: str, max_characters: int) -> int:
    """Position of the cut: after the last clause past a third, else after the last word, else at a character."""
    clauses = [end.end() for end in _CLAUSE_END.finditer(text, 0, max_characters)]
    if clauses and clauses[-1] > max_characters // 3:
        return clauses[-1]
    word_end = text.rfind(" ", 1, max_characters + 1)
    if word_end > 0:
        return word_end
    cut = max_characters
    while cut > 1 and unicodedata.combining(text[cut]):
        cut -= 1
    return cut


_NEEDS_NO_STOP = frozenset(f"{STOPS}{OTHER_STOPS}{CLOSERS}:;,、，}}-—–")


def as_sentence(text: str) -> str:
    """The text with a capital and a full stop: without them, "banana" is translated as "a banana"."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in _NEEDS_NO_STOP else ".")
