"""Whether one arm is better than the other, from scores in pairs: estimates, intervals, tests. Pure.

Lines of one video resemble each other, so that videos are resampled, not lines: a paired bootstrap clustered by
video. A percentile interval from few clusters is too narrow; the tails are widened so that it has the coverage of
Student's t (the expanded percentile of Hesterberg, "What Teachers Should Know About the Bootstrap", 2015). Under
``MIN_VIDEOS`` videos even that fails, for a resample of few has few values to take. Then contiguous blocks of units
are resampled instead, n^(1/3) long (Hall, Horowitz and Jing, 1995), and the result speaks of these videos alone.

Where the arms mostly agree, a few differences one way can leave 0 outside the interval: four out of a hundred do,
and a fair coin gives that once in eight. A winner must also pass the sign-flip test, exact for any number of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MIN_VIDEOS = 8
MIN_RESAMPLES = 5_000
CONFIDENCE = 0.95
MAX_EXACT_FLIPS = 14
"""Up to so many clusters all 2^n assignments of signs are tried, beyond that as many as there are resamples."""
CHUNK = 1_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clusters:
    """Which pairs are resampled together."""

    of_pair: Ints
    """int64 (num_pairs,): 0 to num - 1."""
    num: int
    by: Literal["video", "block"]
    block_units: int | None
    """Length of a block, in units; None if videos are resampled."""

    def only(self, kept: Bools) -> Clusters:
        """Of those pairs, renumbered."""
        found, of_pair = np.unique(self.of_pair[kept], return_inverse=True)
        return Clusters(of_pair=of_pair, num=len(found), by=self.by, block_units=self.block_units)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    value: float
    low: float | None
    """None if there is nothing to resample: under two clusters."""
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Of one score between two arms, a minus b."""

    num_pairs: int
    num_differing: int
    """Pairs of the units on which the arms differ: only these carry information."""
    mean_a: float
    mean_b: float
    all: Estimate
    """Mean over all pairs: what changes in a whole dub."""
    differing: Estimate | None
    """Mean over the differing; None if there are none."""
    p: float
    """Of the sign-flip test, two-sided."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0, and chance alone would hardly do that."""
        low, high = self.all.low, self.all.high
        return low is not None and high is not None and (low > 0 or high < 0) and self.p <= 1 - CONFIDENCE


def make_clusters(videos: Sequence[int], units: Sequence[int]) -> Clusters:
    """From each pair's video and unit, units counted in media order within their video."""
    video_of, unit_of = np.asarray(videos, dtype=np.int64), np.asarray(units, dtype=np.int64)
    names, of_pair = np.unique(video_of, return_inverse=True)
    if len(names) >= MIN_VIDEOS:
        return Clusters(of_pair=of_pair, num=len(names), by="video", block_units=None)
    num_units = len(np.unique(np.stack([video_of, unit_of]), axis=1).T)
    block_units = max(1, round((num_units / max(1, len(names))) ** (1 / 3)))
    blocks = np.stack([video_of, unit_of // block_units])
    found, of_block = np.unique(blocks, axis=1, return_inverse=True)
    return Clusters(of_pair=of_block.reshape(-1), num=found.shape[1], by="block", block_units=block_units)


def compare(
    a: Floats, b: Floats, clusters: Clusters, differing: Bools, *, seed: int = 0, num_resamples: int = 10_000
) -> Difference:
    """``a`` and ``b`` are float64 (num_pairs,), finite, at least one; ``differing`` marks the pairs that can differ."""
    if num_resamples < MIN_RESAMPLES:
        raise ValueError(f"num_resamples must be at least {MIN_RESAMPLES}; found {num_resamples}")
    difference = a - b
    rng = np.random.default_rng(seed)
    return Difference(
        num_pairs=len(difference),
        num_differing=int(differing.sum()),
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
        all=bootstrap_mean(difference, clusters, rng, num_resamples),
        differing=(
            bootstrap_mean(difference[differing], clusters.only(differing), rng, num_resamples)
            if differing.any()
            else None
        ),
        p=sign_flip_p(difference, clusters, rng, num_resamples),
    )


def bootstrap_mean(values: Floats, clusters: Clusters, rng: np.random.Generator, num_resamples: int) -> Estimate:
    """The mean of the values, and its interval when whole clusters are drawn."""
    sums = np.bincount(clusters.of_pair, values, clusters.num)
    sizes = np.bincount(clusters.of_pair, minlength=clusters.num).astype(np.float64)
    means = np.concatenate([draws @ sums / (draws @ sizes) for draws in _draws(clusters.num, rng, num_resamples)])
    return _with_interval(float(values.mean()), means, clusters.num)


def _draws(num: int, rng: np.random.Generator, num_resamples: int) -> list[Floats]:
    """How often each cluster is drawn: float64 (up to CHUNK, num) each, ``num_resamples`` rows in all."""
    sizes = [min(CHUNK, num_resamples - at) for at in range(0, num_resamples, CHUNK)]
    return [rng.multinomial(num, np.full(num, 1 / num), size=size).astype(np.float64) for size in sizes]


def _with_interval(value: float, resampled: Floats, num_clusters: int) -> Estimate:
    if num_clusters < 2:
        return Estimate(value=value, low=None, high=None)
    # A resample spreads like z·sqrt((n-1)/n) where t is due: the percentile is taken further out by both.
    widened = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, num_clusters - 1) * np.sqrt(num_clusters / (num_clusters - 1))
    tail = float(scipy.stats.norm.sf(widened))
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Estimate(value=value, low=float(low), high=float(high))


def sign_flip_p(difference: Floats, clusters: Clusters, rng: np.random.Generator, num_flips: int) -> float:
    """How often the mean is this far from 0 if the arms' names are swapped at random, cluster by cluster."""
    sums = np.bincount(clusters.of_pair, difference, clusters.num)
    sums = sums[sums != 0]
    if len(sums) == 0:
        return 1.0
    # A hair of tolerance: the observed assignment, summed in another order, must count itself.
    observed = abs(sums.sum()) * (1 - 1e-12)
    if len(sums) <= MAX_EXACT_FLIPS:
        bits = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float(np.mean(np.abs((1 - 2 * bits) @ sums) >= observed))
    num_as_far = 0
    for at in range(0, num_flips, CHUNK):
        signs = rng.choice((-1.0, 1.0), size=(min(CHUNK, num_flips - at), len(sums)))
        num_as_far += int(np.sum(np.abs(signs @ sums) >= observed))
    return (num_as_far + 1) / (num_flips + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted so that, of all that stay under a level, one is a false alarm with at most that probability."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def spearman(x: Floats, y: Floats, clusters: Clusters, *, seed: int = 0, num_resamples: int = 5_000) -> Estimate | None:
    """Rank correlation with its interval when whole clusters are drawn; None where one of the two never varies."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    rng = np.random.default_rng(seed)
    resampled = np.concatenate(
        [_rank_correlations(x, y, draws[:, clusters.of_pair]) for draws in _draws(clusters.num, rng, num_resamples)]
    )
    [value] = _rank_correlations(x, y, np.ones((1, len(x))))
    # A resample in which one of the two never varies has no correlation.
    return _with_interval(float(value), resampled[np.isfinite(resampled)], clusters.num)


def _rank_correlations(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Spearman's rho of each row of weights, float64 (num_rows, num_pairs), that say how often a pair occurs."""
    ranks_x, ranks_y = _weighted_ranks(x, weights), _weighted_ranks(y, weights)
    total = weights.sum(axis=1, keepdims=True)
    ranks_x -= (weights * ranks_x).sum(axis=1, keepdims=True) / total
    ranks_y -= (weights * ranks_y).sum(axis=1, keepdims=True) / total
    scale = np.sqrt((weights * ranks_x**2).sum(axis=1) * (weights * ranks_y**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho: Floats = np.where(scale > 0, (weights * ranks_x * ranks_y).sum(axis=1) / scale, np.nan)
    return rho


def _weighted_ranks(values: Floats, weights: Floats) -> Floats:
    """The rank that each value has where it occurs as often as its weight says; ties share the middle one."""
    distinct, group_of = np.unique(values, return_inverse=True)
    order = np.argsort(group_of, kind="stable")
    starts = np.searchsorted(group_of[order], np.arange(len(distinct)))
    occurrences = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = np.cumsum(occurrences, axis=1) - occurrences + (occurrences + 1) / 2
    ranks: Floats = middle[:, group_of]
    return ranks
