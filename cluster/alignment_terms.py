"""What a division of a translation costs: every term as a function of where its breaks are.

Terms over spans are differences of sums up to a token (late pooling: a text is read once, and any span
of it pooled in O(dim)), so a window of breaks costs no more than its own size.

Shapes: M = tokens of the target, n = tokens of the source, N = spans, dim = of the embedding. An edge
is a position before, between or after tokens: there are M + 1.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from actors.types import TokenVectors
from cluster.alignment_inputs import AlignConfig, AlignTask, Evidence, Link
from cluster.break_words import STRONG, WEAK, ends_in_mark, plain, word_odds
from cluster.tokens import is_phrase_space, token_spans

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Float = TypeVar("Float", bound=np.floating)
Ranges = Sequence[tuple[int, int]]
SpanCost = Callable[[int, Ints, Ints], Floats]
"""Of a span's number, first and end edges: float64 (num_firsts, num_ends)."""

SHARPNESS = 15.0
"""Of the softmax over cosines by which words correspond. Found on the dev split of the gold, between 5 and 20."""
TRIGRAM_SHARPNESS = 6.0
"""Of the softmax over shares of trigrams by which a token is in one segment's translation rather than another's."""
TIME_SCALE = 8.0
"""Candidates are ranked by the same penalty on exceeded time: 8 · max(0, ln(predicted / slot))²."""
SHORT_WORD = 3
DOUBTFUL_MARK = 0.25
"""Share of an unmarked break's cost, for one after a comma that the source lacks."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Terms:
    """All terms, weighed."""

    num_spans: int
    expected_breaks: tuple[float, ...]
    """Edges where length alone expects the inner breaks."""
    spans: tuple[SpanCost, ...]
    breaks: Floats
    """float64 (N − 1, M + 1)"""

    def span_costs(self, span: int, firsts: Ints, ends: Ints) -> Floats:
        return sum((cost(span, firsts, ends) for cost in self.spans), np.zeros((len(firsts), len(ends))))

    def break_costs(self, index: int, positions: Ints) -> Floats:
        costs: Floats = self.breaks[index, positions]
        return costs


def build_terms(
    task: AlignTask, tokens: Sequence[str], num_spans: int, evidence: Evidence, config: AlignConfig
) -> tuple[Terms, str]:
    """The terms of the configured strategy for which there is evidence, and what to call the method."""
    shares = source_shares(task, num_spans)
    expected = np.array([_width(task.source[first:end]) + 1 for first, end in shares], dtype=np.float64)
    widths = np.cumsum([0, *map(_width, tokens)], dtype=np.float64)
    expected *= widths[-1] / expected.sum()
    spans: list[SpanCost] = []
    breaks = np.zeros((num_spans - 1, len(tokens) + 1))
    method = "length"
    if config.strategy != "length" and evidence.source is not None and evidence.target is not None:
        method = config.strategy
        meaning = Meaning(task, shares, evidence.source, evidence.target)
        spans += [_weighed(config.span_weight, meaning.span_cost)]
        spans += [_weighed(config.word_weight, _assigned(meaning.word_shares()))]
        breaks += config.edge_weight * meaning.edge_costs()
    if method != "semantic":
        spans += [_weighed(config.length_weight, _length_cost(widths, expected))]
        breaks += pause_costs(task, tokens, shares, config)
        if task.rooms_s is not None:
            rooms_s = [*task.rooms_s[: num_spans - 1], sum(task.rooms_s[num_spans - 1 :])]
            spans += [_weighed(config.time_weight, _time_cost(widths, rooms_s, config.characters_per_s))]
    if config.strategy == "hybrid" and evidence.links is not None:
        spans += [_weighed(config.link_weight, _assigned(link_shares(task, shares, evidence.links)))]
        method += "+links"
    elif config.strategy == "hybrid" and evidence.translations is not None:
        parts = [*evidence.translations[: num_spans - 1], " ".join(evidence.translations[num_spans - 1 :])]
        spans += [_weighed(config.translation_weight, _assigned(translation_shares(task.target, parts)))]
        method += "+translations"
    inner = np.interp(np.cumsum(expected)[:-1], widths, np.arange(len(widths)))
    terms = Terms(num_spans=num_spans, expected_breaks=tuple(inner), spans=tuple(spans), breaks=breaks)
    return terms, method


def source_shares(task: AlignTask, num_spans: int) -> list[tuple[int, int]]:
    """Ranges of characters of the source, one per span; the last takes the segments that have none of their own."""
    starts, position = [], 0
    for segment in task.segments:
        position = task.source.index(segment, position)
        starts.append(position)
        position += len(segment)
    return list(itertools.pairwise([*starts[:num_spans], len(task.source)]))


def _weighed(weight: float, cost: SpanCost) -> SpanCost:
    return lambda span, firsts, ends: weight * cost(span, firsts, ends)


def _assigned(shares: Floats) -> SpanCost:
    """Minus what of the tokens in a range belongs to the span, of float64 (M, N): how much each token does."""
    sums = _from_zero(shares)
    return lambda span, firsts, ends: sums[firsts, span][:, None] - sums[ends, span][None, :]


# --- length and time


def _width(text: str) -> int:
    """In characters; a Chinese, Japanese or Korean one takes about the time of two Latin ones."""
    return len(text) + sum(unicodedata.east_asian_width(character) in "WF" for character in text)


def _length_cost(widths: Floats, expected: Floats) -> SpanCost:
    def cost(span: int, firsts: Ints, ends: Ints) -> Floats:
        """The squared error over the expected value: Gale & Church, 1993, without their variance constant."""
        result: Floats = (widths[None, ends] - widths[firsts, None] - expected[span]) ** 2 / expected[span]
        return result

    return cost


def _time_cost(widths: Floats, rooms_s: Sequence[float], characters_per_s: float) -> SpanCost:
    # Where the whole is too long for its time, no span is to suffer more than the others.
    rate = max(characters_per_s, widths[-1] / max(1e-3, sum(rooms_s)))

    def cost(span: int, firsts: Ints, ends: Ints) -> Floats:
        predicted_s = (widths[None, ends] - widths[firsts, None]) / rate
        excess = np.log(np.maximum(predicted_s, 1e-3) / max(1e-3, rooms_s[span]))
        result: Floats = TIME_SCALE * np.maximum(0.0, excess) ** 2
        return result

    return cost


# --- meaning


class Meaning:
    """Source and target in one space of vectors, each centred on its mean: what all its words share tells nothing."""

    def __init__(self, task: AlignTask, shares: Ranges, source: TokenVectors, target: TokenVectors) -> None:
        source_words = token_spans(task.source)
        word_starts = [first for first, _ in source_words]
        self._firsts = np.searchsorted(word_starts, [first for first, _ in shares])
        self._num_spans = len(shares)
        self._source = _pooled(source, task.source, [*word_starts, len(task.source)])
        self._target = _pooled(
            target, task.target, [*(first for first, _ in token_spans(task.target)), len(task.target)]
        )
        bounds = [*self._firsts, len(source_words)]
        self._segments = _normalised(np.diff(self._source[bounds], axis=0))
        """(N, dim)"""
        words = _normalised(np.diff(self._target, axis=0)) @ _normalised(np.diff(self._source, axis=0)).T
        self._cosines = words.astype(np.float64)
        """(M, n): of a target's word with a source's"""
        self._segment_of = np.repeat(np.eye(self._num_spans), np.diff(bounds), axis=0)
        """(n, N)"""

    def span_cost(self, span: int, firsts: Ints, ends: Ints) -> Floats:
        """1 − cosine of the segment and each range of the target."""
        sums = self._target[ends][None] - self._target[firsts][:, None]
        lengths = np.sqrt(np.einsum("fed,fed->fe", sums, sums))
        cost: Floats = 1.0 - (sums @ self._segments[span]) / np.maximum(lengths, 1e-9)
        return cost

    def word_shares(self) -> Floats:
        """(M, N): of words that find each other, from both sides (Jalili Sabet et al., 2020), in which segment."""
        exponents = np.exp(SHARPNESS * (self._cosines - 1.0))
        mutual = exponents**2 / exponents.sum(axis=0, keepdims=True) / exponents.sum(axis=1, keepdims=True)
        shares: Floats = mutual @ self._segment_of
        return shares

    def edge_costs(self) -> Floats:
        """(N − 1, M + 1): minus the cosines of the words before a break with those before the source's, and after."""
        costs = np.zeros((self._num_spans - 1, len(self._target)))
        for index, first in enumerate(self._firsts[1:]):
            if 0 < first < self._cosines.shape[1]:
                costs[index, 1:-1] = -(self._cosines[:-1, first - 1] + self._cosines[1:, first])
        return costs


def _pooled(tokens: TokenVectors, text: str, edges: Sequence[int]) -> npt.NDArray[np.float32]:
    """float32 (num_edges, dim): the sum, centred, of the vectors of the characters before each edge.

    A model's token that an edge divides counts by the share of its characters.
    """
    if not len(tokens.spans):
        return np.zeros((len(edges), tokens.vectors.shape[1]), dtype=np.float32)
    vectors = tokens.vectors - tokens.vectors.mean(axis=0)
    sums = _from_zero(vectors)
    positions = np.array(edges)
    index = np.minimum(np.searchsorted(tokens.spans[:, 1], positions), len(vectors) - 1)
    starts, ends = tokens.spans[index].T
    starts = np.minimum(_after_spaces(text)[starts], ends)
    share = np.clip((positions - starts) / np.maximum(ends - starts, 1), 0.0, 1.0)[:, None]
    pooled: npt.NDArray[np.float32] = (sums[index] + share * vectors[index]).astype(np.float32)
    return pooled


def _after_spaces(text: str) -> Ints:
    """int64 (num_characters,): the first at or after each that is no space. Models count spaces to the word after."""
    solid = [index if not character.isspace() else len(text) for index, character in enumerate(text)]
    return np.minimum.accumulate(np.array(solid, dtype=np.int64)[::-1])[::-1]


def _from_zero(values: npt.NDArray[Float]) -> npt.NDArray[Float]:
    """Cumulative sums over the first axis, from nothing to all."""
    return np.concatenate((np.zeros_like(values[:1]), np.cumsum(values, axis=0)))


def _normalised(rows: npt.NDArray[Float]) -> npt.NDArray[Float]:
    unit: npt.NDArray[Float] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return unit


# --- what the translator tells


def link_shares(task: AlignTask, shares: Ranges, links: Sequence[Link]) -> Floats:
    """(M, N): how much of each token the translator made of each segment."""
    source_words, target_words = _words(task.source), _words(task.target)
    segments = _overlap(source_words, shares)
    made = np.zeros((len(target_words), len(shares)))
    for source_word, target_word, weight in links:
        if source_word < len(source_words) and target_word < len(target_words):
            made[target_word] += weight * segments[source_word]
    return _overlap(target_words, token_spans(task.target)).T @ made


def _words(text: str) -> list[tuple[int, int]]:
    """Ranges of characters of ``text.split()``."""
    words, position = [], 0
    for word in text.split():
        first = text.index(word, position)
        position = first + len(word)
        words.append((first, position))
    return words


def _overlap(ranges: Ranges, others: Ranges) -> Floats:
    """(num_ranges, num_others): which share of each range lies in each other."""
    firsts, ends = np.array(ranges, dtype=np.float64).reshape(-1, 2).T
    other_firsts, other_ends = np.array(others, dtype=np.float64).reshape(-1, 2).T
    common = np.minimum(ends[:, None], other_ends) - np.maximum(firsts[:, None], other_firsts)
    result: Floats = np.maximum(common, 0.0) / np.maximum(ends - firsts, 1.0)[:, None]
    return result


def translation_shares(target: str, parts: Sequence[str]) -> Floats:
    """(M, N): how far the trigrams of each token stand in the translation of one segment rather than another's."""
    known = [set(_trigrams(_flat(part))) for part in parts]
    text = _flat(target)
    # _flat puts one character before the text: a token's neighbours are in its range too.
    tokens = [set(_trigrams(text[first : end + 2])) for first, end in token_spans(target)]
    found = np.array([[len(token & part) / max(1, len(token)) for part in known] for token in tokens])
    likely = np.exp(TRIGRAM_SHARPNESS * (found - 1.0))
    shares: Floats = likely / likely.sum(axis=1, keepdims=True) * found.max(axis=1, keepdims=True)
    return shares


def _flat(text: str) -> str:
    """In lower case, one space for each character that is part of no word, and one around."""
    return "".join([" ", *(_lower(each) if unicodedata.category(each)[0] in "LMN" else " " for each in text), " "])


def _lower(character: str) -> str:
    lower = character.lower()
    return lower if len(lower) == 1 else character  # İ becomes two: positions would shift


def _trigrams(text: str) -> list[str]:
    return [text[index : index + 3] for index in range(len(text) - 2)]


# --- pauses


def pause_costs(task: AlignTask, tokens: Sequence[str], shares: Ranges, config: AlignConfig) -> Floats:
    """(N − 1, M + 1): how implausible a pause is before each token, given the end of each segment."""
    odds = word_odds(task.language)
    unmarked, doubtful = np.zeros(len(tokens) + 1), np.zeros(len(tokens) + 1)
    for edge, (last, following) in enumerate(itertools.pairwise(tokens), start=1):
        if STRONG.search(last):
            continue
        if WEAK.search(last) or is_phrase_space(last, following):
            doubtful[edge] = DOUBTFUL_MARK * config.unmarked_weight
            continue
        word, next_word = plain(last), plain(following)
        unmarked[edge] = (
            config.unmarked_weight
            - config.odds_after_weight * odds.get(word, (0.0, 0.0))[0]
            - config.odds_before_weight * odds.get(next_word, (0.0, 0.0))[1]
            + (config.short_word_weight if len(word) <= SHORT_WORD else 0.0)
        )
    marked = [ends_in_mark(task.source[first:end].rstrip()) for first, end in shares[:-1]]
    return np.stack([unmarked if is_marked else unmarked + doubtful for is_marked in marked])
