"""Decides from pairs of runs, old tree and new, whether the new one is worse. Pure.

Pairs are added until each figure is decided, at most as many as the last of ``LOOKS``. A figure is worse only if the
whole interval of its ratio is above the threshold. The interval is a bootstrap over the pairs' log ratios, of their
trimmed mean: on a busy machine some pairs are far off. Its confidence is that of one false alarm in a hundred checks,
shared among all figures and all looks at them (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import scipy

LOOKS = (6, 9, 15, 24, 39)
"""Numbers of pairs after which is decided."""
FALSE_ALARMS = 0.01
"""Probability of one or more in a whole check."""
STOP_CONFIDENCE = 0.99
"""To stop early, as no worse than the threshold."""
TRIM = 0.2
NUM_RESAMPLES = 2_000


class Verdict(StrEnum):
    WORSE = "WORSE"
    NO_WORSE = "no worse"
    UNDECIDED = "undecided"
    """After all pairs: the machine is too noisy to tell; that is no failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The ratio of new to old, above 1 if the new one is worse, with its interval."""

    ratio: float
    low: float
    high: float
    verdict: Verdict
    num_pairs: int


def decide(ratios: Sequence[float], threshold: float, num_figures: int) -> Decision:
    """Decide one of ``num_figures`` figures by its pairs so far: each the new tree's cost ÷ the old one's."""
    log_ratios = np.log(np.asarray(ratios))
    resampled = scipy.stats.bootstrap(
        (log_ratios,), _trimmed_mean, n_resamples=NUM_RESAMPLES, method="percentile", vectorized=True, rng=0
    ).bootstrap_distribution
    alpha = FALSE_ALARMS / (num_figures * len(LOOKS))
    low, high = np.quantile(resampled, [_tail(alpha, len(log_ratios)), 1 - _tail(alpha, len(log_ratios))])
    stop = np.quantile(resampled, 1 - _tail(1 - STOP_CONFIDENCE, len(log_ratios)))
    limit = math.log1p(threshold)
    verdict = Verdict.WORSE if low > limit else Verdict.NO_WORSE if stop < limit else Verdict.UNDECIDED
    low, ratio, high = (math.exp(value) for value in (low, float(_trimmed_mean(log_ratios, axis=-1)), high))
    return Decision(ratio=ratio, low=low, high=high, verdict=verdict, num_pairs=len(ratios))


def decide_exact(old: float, new: float, threshold: float) -> Decision:
    """Decide a cost that is the same in every run."""
    ratio = new / old if old else math.inf if new else 1.0
    verdict = Verdict.WORSE if ratio > 1 + threshold else Verdict.NO_WORSE
    return Decision(ratio=ratio, low=ratio, high=ratio, verdict=verdict, num_pairs=1)


def _trimmed_mean(values: np.ndarray, axis: int) -> np.ndarray:
    found: np.ndarray = scipy.stats.trim_mean(values, TRIM, axis=axis)
    return found


def _tail(alpha: float, num_pairs: int) -> float:
    """The percentile to take: from few pairs further out, to have the coverage of Student's t (Hesterberg, 2015)."""
    widened = scipy.stats.t.isf(alpha, num_pairs - 1) * math.sqrt(num_pairs / (num_pairs - 1))
    return float(scipy.stats.norm.sf(widened))
