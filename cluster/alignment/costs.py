"""The cost of dividing a translation: every term as a function of the positions of its breaks.

Shapes: M = tokens of the target, N = spans. An edge is a position before, between or after tokens: there are M + 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from actors.text_width import num_wide
from cluster.alignment.config import AlignConfig
from cluster.alignment.inputs import AlignTask, Evidence
from cluster.alignment.pauses import STRONG, WEAK, ends_in_mark, plain, word_odds
from cluster.alignment.scores import (
    Floats,
    Ints,
    Ranges,
    SemanticScores,
    link_shares,
    source_shares,
    sums_from_zero,
    translation_shares,
)
from cluster.alignment.tokens import is_phrase_space

SpanCost = Callable[[int, Ints, Ints], Floats]
"""Cost, float64 (num_firsts, num_ends), of each range as a span: (span, first edges, end edges) → costs."""

TIME_SCALE = 8.0
"""Candidates are ranked by the same penalty on exceeded time: 8 · max(0, ln(predicted / slot))²."""
SHORT_WORD = 3
DOUBTFUL_MARK = 0.25
"""Share of an unmarked break's cost, for one after a comma that the source lacks."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Terms:
    """All weighted cost terms of one task."""

    num_spans: int
    expected_breaks: tuple[float, ...]
    """Edges at which length alone expects the inner breaks."""
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
    """The terms of the configured strategy for which there is evidence, and the name of the resulting method."""
    shares = source_shares(task, num_spans)
    expected = np.array([_width(task.source[first:end]) + 1 for first, end in shares], dtype=np.float64)
    widths = np.cumsum([0, *map(_width, tokens)], dtype=np.float64)
    expected *= widths[-1] / expected.sum()
    spans: list[SpanCost] = []
    breaks = np.zeros((num_spans - 1, len(tokens) + 1))
    method = "length"
    if config.strategy != "length" and evidence.source is not None and evidence.target is not None:
        method = config.strategy
        semantic = SemanticScores(task, shares, evidence.source, evidence.target)
        spans += [_weighed(config.span_weight, _distance(semantic))]
        spans += [_weighed(config.word_weight, _assigned(semantic.word_shares()))]
        breaks -= config.edge_weight * semantic.edge_cosines()
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


def _weighed(weight: float, cost: SpanCost) -> SpanCost:
    return lambda span, firsts, ends: weight * cost(span, firsts, ends)


def _assigned(shares: Floats) -> SpanCost:
    """Minus the sum over a range of the tokens' shares in the span; ``shares`` is float64 (M, N)."""
    sums = sums_from_zero(shares)
    return lambda span, firsts, ends: sums[firsts, span][:, None] - sums[ends, span][None, :]


def _distance(semantic: SemanticScores) -> SpanCost:
    return lambda span, firsts, ends: 1.0 - semantic.cosines(span, firsts, ends)


# --- length and time


def _width(text: str) -> int:
    """Length in characters; a Chinese, Japanese or Korean one takes about the time of two Latin ones."""
    return len(text) + num_wide(text)


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


# --- pauses


def pause_costs(task: AlignTask, tokens: Sequence[str], shares: Ranges, config: AlignConfig) -> Floats:
    """(N − 1, M + 1): implausibility of a pause before each token, given the end of each segment."""
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
