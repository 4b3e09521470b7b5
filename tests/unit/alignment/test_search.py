from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.alignment.search import Floats, Positions, best_division, log_probability, step_costs, windows


@dataclass(frozen=True)
class Table:
    """Costs of every span and break, given outright."""

    spans: Floats
    breaks: Floats

    @property
    def num_spans(self) -> int:
        return len(self.spans)

    def span_costs(self, span: int, firsts: Positions, ends: Positions) -> Floats:
        costs: Floats = self.spans[span][np.ix_(firsts, ends)]
        return costs

    def break_costs(self, index: int, positions: Positions) -> Floats:
        costs: Floats = self.breaks[index, positions]
        return costs

    def cost(self, bounds: tuple[int, ...]) -> float:
        spans = sum(self.spans[span, first, end] for span, (first, end) in enumerate(itertools.pairwise(bounds)))
        return float(spans + sum(self.breaks[index, at] for index, at in enumerate(bounds[1:-1])))


@st.composite
def tables(draw: st.DrawFn) -> tuple[Table, int]:
    num_spans = draw(st.integers(2, 4))
    num_tokens = draw(st.integers(num_spans, 9))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spans = random.normal(size=(num_spans, num_tokens + 1, num_tokens + 1)) * 3
    return Table(spans=spans, breaks=random.normal(size=(num_spans - 1, num_tokens + 1)) * 3), num_tokens


def divisions(table: Table, num_tokens: int) -> list[tuple[int, ...]]:
    inner = itertools.combinations(range(1, num_tokens), table.num_spans - 1)
    return [(0, *breaks, num_tokens) for breaks in inner]


@given(tables())
def test_no_division_is_cheaper_and_confidences_are_shares_of_all(found: tuple[Table, int]) -> None:
    table, num_tokens = found
    everywhere = windows([num_tokens / 2] * (table.num_spans - 1), num_tokens, num_tokens)
    division = best_division(table, everywhere)
    costs = {bounds: table.cost(bounds) for bounds in divisions(table, num_tokens)}
    assert table.cost((0, *division.breaks, num_tokens)) == pytest.approx(min(costs.values()))
    total = sum(math.exp(-cost) for cost in costs.values())
    for index, at in enumerate(division.breaks, start=1):
        share = sum(math.exp(-cost) for bounds, cost in costs.items() if bounds[index] == at) / total
        assert division.confidences[index - 1] == pytest.approx(share)
    chosen = [np.array([at]) for at in division.breaks]
    best = math.exp(-min(costs.values())) / total
    assert math.exp(log_probability(step_costs(table, everywhere), everywhere, chosen)) == pytest.approx(best)


@given(st.data())
def test_every_window_lets_some_division_through(data: st.DataObject) -> None:
    num_tokens = data.draw(st.integers(2, 60))
    num_spans = data.draw(st.integers(2, min(12, num_tokens)))
    expected = sorted(data.draw(st.lists(st.floats(0, num_tokens), min_size=num_spans - 1, max_size=num_spans - 1)))
    positions = windows(expected, num_tokens, data.draw(st.integers(1, 10)))
    size = num_tokens + 1
    table = Table(spans=np.zeros((num_spans, size, size)), breaks=np.zeros((num_spans - 1, size)))
    breaks = best_division(table, positions).breaks
    assert all(first < end for first, end in itertools.pairwise((0, *breaks, num_tokens)))
    assert all(at in window for at, window in zip(breaks, positions[1:-1], strict=True))
