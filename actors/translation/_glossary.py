"""Glossary terms in translations.

Decoders here have no hard constraints, so a term is asked for in two soft ways: among more
candidates than usual, those that hold it come first; where none does, the sentence is translated
again with the term already in the target language, which a multilingual model copies. A sentence
that resists both keeps its best candidate: a wrong term is better than no translation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")

_SPACED = re.compile(r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""A letter or digit of a script that puts spaces between words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    source: str
    target: str


def terms_in(text: str, entries: Mapping[str, str]) -> tuple[Term, ...]:
    """The entries whose source occurs in the text as whole words, in any case.

    Where one lies within another ("ray" in "Ray Serve"), the longer one counts.
    """
    sources = tuple(sorted(entries, key=lambda source: (-len(source), source)))
    found = {sources[int(match.lastindex or 1) - 1] for match in _whole_words(sources).finditer(text)}
    return tuple(Term(source=source, target=entries[source]) for source in sources if source in found)


def with_targets(text: str, terms: Sequence[Term]) -> str:
    """The text with each term replaced by its translation."""
    pattern = _whole_words(tuple(term.source for term in terms))
    return pattern.sub(lambda match: terms[int(match.lastindex or 1) - 1].target, text)


def num_present(text: str, terms: Iterable[Term]) -> int:
    """Number of the terms that the translation holds."""
    return sum(_whole_words((term.target,)).search(text) is not None for term in terms)


def with_most_terms(candidates: Sequence[T], texts: Sequence[str], terms: Sequence[Term]) -> list[T]:
    """The candidates whose texts hold the most terms, in their order."""
    kept = [num_present(text, terms) for text in texts]
    return [candidate for candidate, num in zip(candidates, kept, strict=True) if num == max(kept)]


@lru_cache(maxsize=1024)
def _whole_words(terms: tuple[str, ...]) -> re.Pattern[str]:
    """Matches any of the terms; group n is the n-th."""
    return re.compile("|".join(f"({_whole_word(term)})" for term in terms) or r"(?!)", re.IGNORECASE)


def _whole_word(term: str) -> str:
    # Only where the term ends in a letter of a spaced script is there a boundary to ask for: "C++" has
    # none after it, and a Japanese word none at all.
    first = r"(?<!\w)" if _SPACED.match(term[0]) else ""
    last = r"(?!\w)" if _SPACED.match(term[-1]) else ""
    return f"{first}{re.escape(term)}{last}"
