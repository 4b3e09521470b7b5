"""Which words of a translation belong to which segment of its source.

A unit covers N timed segments; its translation is one text. Breaks 0 = b0 < … < bN = M over the
target's tokens minimise, summed over segments, a length term (l − e)²/e on characters (the squared
error over the expected value: Gale & Church, 1993, without their variance constant) and over breaks
a term of plausibility: a break after punctuation is likely, more so where the source has it too,
and one after a short word is not, for short words belong to what follows them (of, the, and; de, o, e).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Floats = npt.NDArray[np.float64]

STRONG = re.compile(r"[.!?…:;。！？；：]+[\"'”’»)\]」』）]*$")
WEAK = re.compile(r"[,،、，–—-]+[\"'”’»)\]」』）]*$")

# Scripts written without spaces: Thai, Lao, Myanmar, Khmer, kana and Han. A token is one character
# there, or a run of katakana, with what cannot stand alone: vowels and tone marks, a letter stacked
# below another, punctuation that closes. Elsewhere it is a word. A token keeps the space before it.
_UNSPACED = r"\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_OPENING = r"「『（《〈【“‘(\[«¿¡"
_VOWEL_BEFORE = r"\u0e40-\u0e44\u0ec0-\u0ec4"
_VOWEL_AFTER = r"\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3"
_STACKING = r"\u1039\u17d2"
_TOKEN = re.compile(
    rf"\s*(?:[{_OPENING}]*[{_VOWEL_BEFORE}]?(?:[\u30a1-\u30fc]+|[{_UNSPACED}])"
    rf"(?:[^\w\s{_OPENING}]|[{_VOWEL_AFTER}]|(?<=[{_STACKING}])\w)*"
    rf"|[^\s{_UNSPACED}]+|\S)"
)
_ENDS_UNSPACED = re.compile(rf"[{_UNSPACED}]$")


class AlignConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    length_weight: float = Field(default=1.0, ge=0)
    # In the units of the length term, characters. Chosen on the dev split of 74 talk-like sentences,
    # English to Portuguese; on its test split they take exact breaks from 49 % to 80 %.
    punctuation_weight: float = Field(default=10.0, ge=0)
    """Cost of a break where the target has no punctuation."""
    short_word_weight: float = Field(default=3.0, ge=0)
    """Further cost of such a break if it comes after a word of three letters or fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedSpan:
    """One segment's share of the translation."""

    text: str
    first_token: int
    end_token: int


def split_translation(source: Sequence[str], target: str, config: AlignConfig) -> list[AlignedSpan]:
    """One span per source segment text, in order; together they are the whole target.

    A target with fewer tokens than there are segments leaves the last spans empty.
    """
    tokens = tokenise(target)
    num_spans = min(len(source), max(1, len(tokens)))
    bounds = [0, *_best_breaks(source, tokens, num_spans, config), len(tokens)]
    bounds += [len(tokens)] * (len(source) - num_spans)
    return [
        AlignedSpan(text="".join(tokens[first:end]).strip(), first_token=first, end_token=end)
        for first, end in itertools.pairwise(bounds)
    ]


def tokenise(text: str) -> list[str]:
    """What a translation can be divided into, each with the space before it: joined by nothing, the text."""
    return _TOKEN.findall(text.strip())


def _best_breaks(source: Sequence[str], tokens: Sequence[str], num_spans: int, config: AlignConfig) -> list[int]:
    """The num_spans − 1 inner breaks of least cost, by dynamic programming: O(spans · tokens²)."""
    if num_spans == 1:
        return []
    offsets = np.cumsum([0, *map(len, tokens)], dtype=np.float64)
    # Segments that have no span of their own weigh on the last that has one.
    weights = [len(text) + 1 for text in source[: num_spans - 1]] + [sum(len(t) + 1 for t in source[num_spans - 1 :])]
    expected = np.array(weights) * offsets[-1] / sum(weights)
    # [end, first]: characters from token to token; every span has at least one token.
    lengths = offsets[:, None] - offsets[None, :]
    empty = np.triu(np.ones_like(lengths, dtype=bool))

    def length_costs(span: int) -> Floats:
        costs: Floats = config.length_weight * (lengths - expected[span]) ** 2 / expected[span]
        return np.where(empty, np.inf, costs)

    best = length_costs(0)[:, 0]
    choices = []
    for span in range(1, num_spans):
        costs = length_costs(span) + best + _break_costs(source[span - 1], tokens, config)
        choices.append(costs.argmin(axis=1))
        best = costs.min(axis=1)
    breaks = [len(tokens)]
    for choice in reversed(choices):
        breaks.append(int(choice[breaks[-1]]))
    return breaks[:0:-1]


def _break_costs(source_text: str, tokens: Sequence[str], config: AlignConfig) -> Floats:
    """float64 (num_tokens + 1,): what a break before each token costs; infinite at both ends."""
    inner = [_break_cost(source_text, last, following, config) for last, following in itertools.pairwise(tokens)]
    return np.array([np.inf, *inner, np.inf])


def _break_cost(source_text: str, last: str, following: str, config: AlignConfig) -> float:
    if STRONG.search(last):
        return 0.0
    if WEAK.search(last) or (_ENDS_UNSPACED.search(last) and following[0].isspace()):
        return 0.0 if WEAK.search(source_text) else 0.5 * config.punctuation_weight
    return config.punctuation_weight + (config.short_word_weight if len(last.strip()) <= 3 else 0.0)
