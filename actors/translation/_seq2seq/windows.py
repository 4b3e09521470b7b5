"""Text cut into the windows of a translator: a sentence each, of limited tokens."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence

from actors.sentences import OTHER_STOPS, pieces

_UNSPACED_END = re.compile(rf"(?<=[{OTHER_STOPS}])\s*(?=\S)")
_CLAUSE_END = re.compile(r"[,;:)\]—–،؛、，；：]+\s*")

TokenEnds = Callable[[str], Sequence[int]]
"""A function of a text: the end of each of its tokens, in characters."""


def windows(text: str, token_ends: TokenEnds, max_tokens: int) -> list[str]:
    """The text's sentences, in order, whitespace collapsed; those over ``max_tokens`` cut up further.

    NLLB was trained on single sentences: given two, it often translates one and stops (fairseq
    issue 5108). A long one is cut after a clause, else between words, else between tokens.
    """
    return [
        window
        for sentence in pieces(text, sys.maxsize)
        for part in _UNSPACED_END.split(sentence)
        for window in _shortened(part, token_ends, max_tokens)
    ]


def _shortened(text: str, token_ends: TokenEnds, max_tokens: int) -> Iterator[str]:
    rest = text
    while len(ends := token_ends(rest)) > max_tokens:
        # Each cut moves on by at least a character, whatever a token is.
        cut = _cut(rest, max(1, ends[max_tokens - 1]))
        yield rest[:cut].rstrip()
        rest = rest[cut:].lstrip()
    if rest:
        yield rest


def _cut(text: str, limit: int) -> int:
    """Position of the cut: after the last clause past a third of ``limit``, else the last word, else at the limit."""
    clauses = [end.end() for end in _CLAUSE_END.finditer(text, 0, limit)]
    if clauses and clauses[-1] > limit // 3:
        return clauses[-1]
    word_end = text.rfind(" ", 1, limit + 1)
    return word_end if word_end > 0 else limit
