"""Plausibility of pauses in a text: after punctuation, and beside some words rather than others.

``breaks.json`` holds, per language, log odds ratios to the language's average word of a mark after a
word and before it; ``bench/learn_breaks.py`` made it.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Mapping

from actors import languages
from actors.sentences import CLOSERS, OTHER_STOPS, STOPS

STRONG = re.compile(rf"[{STOPS}{OTHER_STOPS}:;；：؛]+[{re.escape(CLOSERS)}]*$")
WEAK = re.compile(rf"[,،、，–—-]+[{re.escape(CLOSERS)}]*$")
_NOT_WORD = re.compile(r"[^\w'’]|_")

Odds = tuple[float, float]


def plain(token: str) -> str:
    """The bare word of a token, in lower case; empty if it has none."""
    return _NOT_WORD.sub("", token).lower()


def ends_in_mark(token: str) -> bool:
    return bool(STRONG.search(token) or WEAK.search(token))


def word_odds(language: str) -> Mapping[str, Odds]:
    """Word → log odds ratios of a break after it, and before it; empty for a language nothing is known of."""
    table = _table()
    match = languages.best_match(language, table)
    return {} if match is None else table[match]


@functools.cache
def _table() -> Mapping[str, Mapping[str, Odds]]:
    text = importlib.resources.files("cluster.alignment").joinpath("breaks.json").read_text(encoding="utf-8")
    return {
        language: {word: (odds[0], odds[1]) for word, odds in words.items()}
        for language, words in json.loads(text).items()
    }
