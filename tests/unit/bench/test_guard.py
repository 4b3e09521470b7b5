"""The guard's decisions on made pairs, with the noise of a busy machine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.guard.decide import LOOKS, Decision, Verdict, decide, decide_exact

NUM_FIGURES = 6
THRESHOLD = 0.05
NUM_CHECKS = 100


def sequential(log_ratios: np.ndarray) -> Decision:
    """Look at more and more pairs, as the guard does."""
    for num_pairs in LOOKS:
        decision = decide(np.exp(log_ratios[:num_pairs]), THRESHOLD, NUM_FIGURES)
        if decision.verdict is not Verdict.UNDECIDED:
            break
    return decision


def pairs(rng: np.random.Generator, slowdown: float, noise: float) -> np.ndarray:
    """Log ratios: a normal spread, and one pair in ten far off."""
    spread = np.where(rng.random(LOOKS[-1]) < 0.1, 5 * noise, noise)
    return math.log1p(slowdown) + rng.normal(0, spread)


def share_of(verdict: Verdict, slowdown: float, noise: float) -> float:
    rng = np.random.default_rng(0)
    return sum(sequential(pairs(rng, slowdown, noise)).verdict is verdict for _ in range(NUM_CHECKS)) / NUM_CHECKS


@pytest.mark.parametrize("noise", [0.02, 0.05])
def test_a_slowdown_of_15_percent_is_found(noise: float) -> None:
    assert share_of(Verdict.WORSE, 0.15, noise) >= 0.99


@pytest.mark.parametrize("noise", [0.05, 0.1])
def test_no_change_is_no_alarm(noise: float) -> None:
    assert share_of(Verdict.WORSE, 0.0, noise) <= 0.01


def test_a_change_below_the_threshold_is_no_alarm() -> None:
    assert share_of(Verdict.WORSE, 0.03, 0.03) <= 0.01


def test_quiet_pairs_are_decided_at_the_first_look() -> None:
    rng = np.random.default_rng(0)
    assert {sequential(pairs(rng, slowdown, 0.003)).num_pairs for slowdown in (0.0, 0.15)} == {LOOKS[0]}


def test_the_ratio_is_that_of_most_pairs() -> None:
    found = decide([1.1] * 9 + [10.0], THRESHOLD, NUM_FIGURES)
    assert found.ratio == pytest.approx(1.1)


def test_exact_figures_are_compared_as_they_are() -> None:
    assert decide_exact(100.0, 105.0, THRESHOLD).verdict is Verdict.NO_WORSE
    assert decide_exact(100.0, 106.0, THRESHOLD).verdict is Verdict.WORSE
    assert decide_exact(0.0, 0.0, THRESHOLD).verdict is Verdict.NO_WORSE
    assert decide_exact(0.0, 1.0, THRESHOLD).verdict is Verdict.WORSE
