"""Finds the cheapest division of a text into spans, and the confidence of each of its breaks.

Break k of N − 1 is looked for in a window of positions; O(N · W²). The same pass that finds the best
division adds up exp(−cost) over all of them, forwards and backwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]


class Costs(Protocol):
    """The costs of dividing a text into ``num_spans``."""

    @property
    def num_spans(self) -> int: ...

    def span_costs(self, span: int, firsts: Positions, ends: Positions) -> Floats:
        """float64 (num_firsts, num_ends): cost of each range as this span."""
        ...

    def break_costs(self, index: int, positions: Positions) -> Floats:
        """float64 (num_positions,): cost of the break after span ``index`` before each of these tokens."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """The inner breaks of a text, in order."""

    breaks: tuple[int, ...]
    confidences: tuple[float, ...]
    """Per break, the share of exp(−cost) of all divisions that have it too, 0 to 1."""


def windows(expected: Sequence[float], num_tokens: int, width: int) -> list[Positions]:
    """The positions to try for each break, with the fixed first and last; some division lies within.

    ``expected`` are the inner breaks, in order. Every span is to have a token.
    """
    num_spans = len(expected) + 1
    width = max(width, num_spans)
    inner = [
        np.arange(
            max(index, round(at) - width),
            min(num_tokens - num_spans + index, round(at) + width) + 1,
        )
        for index, at in enumerate(expected, start=1)
    ]
    return [np.array([0]), *inner, np.array([num_tokens])]


def best_division(costs: Costs, positions: Sequence[Positions]) -> Division:
    """The division of least cost whose breaks are at these positions; of equal ones the one that breaks first."""
    steps = step_costs(costs, positions)
    best = np.zeros(1)
    forward = [np.zeros(1)]
    choices = []
    for step in steps:
        totals = best[:, None] + step
        choices.append(totals.argmin(axis=0))
        best = totals.min(axis=0)
        forward.append(_log_sum(forward[-1][:, None] - step))
    backward = [np.zeros(1)]
    for step in reversed(steps):
        backward.insert(0, _log_sum((backward[0][None, :] - step).T))
    index, breaks, confidences = 0, [], []
    for number in range(len(steps) - 1, 0, -1):
        index = int(choices[number][index])
        breaks.append(int(positions[number][index]))
        confidences.append(float(np.exp(min(0.0, forward[number][index] + backward[number][index] - forward[-1][0]))))
    return Division(breaks=tuple(reversed(breaks)), confidences=tuple(reversed(confidences)))


def log_probability(steps: Sequence[Floats], positions: Sequence[Positions], accepted: Sequence[Positions]) -> float:
    """Log probability of all divisions whose inner breaks are accepted ones, for fitting weights."""
    total = constrained = np.zeros(1)
    for number, step in enumerate(steps, start=1):
        total = _log_sum(total[:, None] - step)
        constrained = _log_sum(constrained[:, None] - step)
        if number < len(steps):
            constrained = np.where(np.isin(positions[number], accepted[number - 1]), constrained, -np.inf)
    return float(constrained[0] - total[0])


def step_costs(costs: Costs, positions: Sequence[Positions]) -> list[Floats]:
    """Per span float64 (num_firsts, num_ends): its cost and that of the break it begins at; infinite if empty."""
    steps = []
    for span in range(costs.num_spans):
        firsts, ends = positions[span], positions[span + 1]
        step = np.where(firsts[:, None] < ends[None, :], costs.span_costs(span, firsts, ends), np.inf)
        steps.append(step + costs.break_costs(span - 1, firsts)[:, None] if span else step)
    return steps


def _log_sum(values: Floats) -> Floats:
    """log Σ exp down each column; −inf where there is nothing."""
    highest = values.max(axis=0)
    shift = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):
        total: Floats = np.log(np.exp(values - shift).sum(axis=0)) + shift
    return total
