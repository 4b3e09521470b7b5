"""Decides if one arm is better than the other, from scores in pairs: estimates, intervals, tests. Pure.

Lines of one video resemble each other, so that videos are resampled, not lines: a paired bootstrap clustered by
video. A percentile interval from few clusters is too narrow; the tails are widened so that it has the coverage of
Student's t (the expanded percentile of Hesterberg, "What Teachers Should Know About the Bootstrap", 2015). Under
``MIN_VIDEOS`` videos even that fails, for a resample of few has few values to take. Then contiguous blocks of units
are resampled instead, n^(1/3) long (Hall, Horowitz and Jing, 1995), and the result speaks of these videos alone.

Where the arms mostly agree, a few differences one way can leave 0 outside the interval: four out of a hundred do,
and a fair coin gives that once in eight. A winner must also pass the sign-flip test, exact for any number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
"""Up to so many clusters all 2^n assignments of signs are tried, beyond that a random sample of them."""
BATCH = 1_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clusters:
    """Groups of pairs that are resampled together."""

    of_pair: Ints
    """int64 (num_pairs,): 0 to num - 1."""
    num: int
    by: Literal["video", "block"]
    block_units: int | None
    """Length of a block, in units; None if videos are resampled."""

    def only(self, kept: Bools) -> Clusters:
        """The clusters of these pairs, renumbered."""
        found, of_pair = np.unique(self.of_pair[kept], return_inverse=True)
        return Clusters(of_pair=of_pair, num=len(found), by=self.by, block_units=self.block_units)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number and its confidence interval."""

    value: float
    low: float | None
    """None with fewer than two clusters, which cannot be resampled."""
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The difference of one score between two arms, a minus b."""

    num_pairs: int
    num_differing: int
    """Pairs of the units on which the arms differ: only these carry information."""
    mean_a: float
    mean_b: float
    all: Estimate
    """Mean over all pairs: the change in a whole dub."""
    differing: Estimate | None
    """Mean over the differing; None if there are none."""
    p: float
    """The two-sided p-value of the sign-flip test."""

    @property
    def is_clear(self) -> bool:
        """True if the interval leaves out 0, and the test rejects chance."""
        low, high = self.all.low, self.all.high
        return low is not None and high is not None and (low > 0 or high < 0) and self.p <= 1 - CONFIDENCE


def make_clusters(videos: Sequence[int], units: Sequence[int]) -> Clusters:
    """Cluster pairs by video; by blocks of units, counted in media order, where there are few videos."""
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
    """Compare two arms' scores, float64 (num_pairs,), finite, at least one pair.

    ``differing`` marks the pairs of units on which the arms differ.
    """
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

    def mean(drawn: Ints) -> Floats:
        means: Floats = sums[drawn].sum(axis=-1) / sizes[drawn].sum(axis=-1)
        return means

    return _bootstrap(float(values.mean()), mean, clusters.num, rng, num_resamples)


def _bootstrap(
    value: float,
    statistic: Callable[[Ints], Floats],
    num_clusters: int,
    rng: np.random.Generator,
    num_resamples: int,
) -> Estimate:
    """``value`` with the interval of ``statistic`` when clusters are drawn with replacement.

    ``statistic`` maps drawn clusters, int64 (num_rows, num_clusters), to float64 (num_rows,).
    """
    if num_clusters < 2:
        return Estimate(value=value, low=None, high=None)
    # SciPy resamples single observations: here these are the clusters' numbers.
    resampled = scipy.stats.bootstrap(
        (np.arange(num_clusters),),
        lambda drawn, axis: statistic(drawn),
        vectorized=True,
        n_resamples=num_resamples,
        batch=BATCH,
        method="percentile",
        rng=rng,
    ).bootstrap_distribution
    # SciPy's percentiles are not widened for few clusters. A resample spreads like z·sqrt((n-1)/n) where t is due:
    # the percentile is taken further out by both.
    widened = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, num_clusters - 1) * np.sqrt(num_clusters / (num_clusters - 1))
    tail = float(scipy.stats.norm.sf(widened))
    # A resample in which a correlated quantity never varies has no correlation.
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return Estimate(value=value, low=float(low), high=float(high))


def sign_flip_p(difference: Floats, clusters: Clusters, rng: np.random.Generator, num_flips: int) -> float:
    """Probability of a mean this far from 0 if the arms' names are swapped at random, cluster by cluster."""
    sums = np.bincount(clusters.of_pair, difference, clusters.num)
    sums = sums[sums != 0]
    if len(sums) < 2:
        return 1.0
    scaled = sums / np.abs(sums).max()
    test = scipy.stats.permutation_test(
        (scaled,),
        # Rounded: equal sums, added up in another order, must count as equal.
        lambda flipped, axis: np.abs(flipped.sum(axis=axis)).round(9),
        permutation_type="samples",  # of one sample: its signs
        alternative="greater",
        vectorized=True,
        n_resamples=max(num_flips, 2**MAX_EXACT_FLIPS),
        batch=BATCH,
        rng=rng,
    )
    return float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: at any level, the probability of one false alarm or more is at most that level."""
    # SciPy corrects for the false discovery rate only.
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

    def correlation(drawn: Ints) -> Floats:
        num_rows = len(drawn)
        cells = drawn + clusters.num * np.arange(num_rows)[:, None]
        num_drawn = np.bincount(cells.ravel(), minlength=num_rows * clusters.num).reshape(num_rows, clusters.num)
        return _rank_correlations(x, y, num_drawn[:, clusters.of_pair].astype(np.float64))

    value = float(scipy.stats.spearmanr(x, y).statistic)
    return _bootstrap(value, correlation, clusters.num, np.random.default_rng(seed), num_resamples)


def _rank_correlations(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Spearman's rho per row of weights, float64 (num_rows, num_pairs): the number of times that each pair occurs.

    SciPy's ranks have no weights, and drawn clusters differ in size: without these, every resample would be ranked
    on its own, ten times as slow.
    """
    ranks_x, ranks_y = _weighted_ranks(x, weights), _weighted_ranks(y, weights)
    total = weights.sum(axis=1, keepdims=True)
    ranks_x -= (weights * ranks_x).sum(axis=1, keepdims=True) / total
    ranks_y -= (weights * ranks_y).sum(axis=1, keepdims=True) / total
    scale = np.sqrt((weights * ranks_x**2).sum(axis=1) * (weights * ranks_y**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho: Floats = np.where(scale > 0, (weights * ranks_x * ranks_y).sum(axis=1) / scale, np.nan)
    return rho


def _weighted_ranks(values: Floats, weights: Floats) -> Floats:
    """The rank of each value if it occurs as often as its weight; ties share the middle rank."""
    distinct, group_of = np.unique(values, return_inverse=True)
    order = np.argsort(group_of, kind="stable")
    starts = np.searchsorted(group_of[order], np.arange(len(distinct)))
    occurrences = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = np.cumsum(occurrences, axis=1) - occurrences + (occurrences + 1) / 2
    ranks: Floats = middle[:, group_of]
    return ranks
