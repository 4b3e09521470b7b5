"""Text cut into pieces that a model trained on single sentences translates whole."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’»)\]]*\s+(?=\S)")
_CLAUSE_END = re.compile(r"[,;:)—–]\s+")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“‘«])(?:mr|mrs|ms|dr|prof|st|mt|gen|col|capt|rev|vs|fig|sr|sra|srta|dra|profa|av|exmo|exma|\w)\.$",
    re.IGNORECASE,
)
"""A word (or single letter, as in "J. Smith") whose full stop seldom ends a sentence. English and Portuguese."""


def pieces(text: str, max_characters: int) -> list[str]:
    """The text's sentences, whitespace collapsed; longer ones cut at a clause, else a word, else anywhere.

    No character but whitespace is lost, and none is out of order. A break inside a sentence costs a
    little quality; a model given too much drops the rest.
    """
    return [piece for sentence in _sentences(" ".join(text.split())) for piece in _shortened(sentence, max_characters)]


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for end in _SENTENCE_END.finditer(text):
        before = text[start : end.end()].rstrip()
        if not text[end.end()].islower() and not _ABBREVIATION.search(before):
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
    """Where to cut: after the last clause past a third, else after the last word, else between two characters."""
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
