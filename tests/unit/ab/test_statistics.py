"""Paired comparisons against what is known: coverage, error rates, real shifts, corrections counted by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from cluster.ab.statistics import (
    MIN_VIDEOS,
    Clusters,
    Difference,
    bootstrap_mean,
    compare,
    holm,
    make_clusters,
    sign_flip_p,
    spearman,
)


def one_each(num: int) -> Clusters:
    return Clusters(of_pair=np.arange(num), num=num, by="block", block_units=1)


def videos(num_videos: int, units_each: int) -> Clusters:
    pairs = list(itertools.product(range(num_videos), range(units_each)))
    return make_clusters([video for video, _ in pairs], [unit for _, unit in pairs])


def compared(difference: np.ndarray, clusters: Clusters, seed: int = 0) -> Difference:
    return compare(difference, np.zeros_like(difference), clusters, difference != 0, seed=seed, num_resamples=5_000)


# --- what is resampled


def test_enough_videos_are_resampled_whole() -> None:
    clusters = videos(MIN_VIDEOS, 5)
    assert (clusters.by, clusters.num, clusters.block_units) == ("video", MIN_VIDEOS, None)
    assert clusters.of_pair.tolist() == [video for video in range(MIN_VIDEOS) for _ in range(5)]


def test_of_few_videos_blocks_of_units_are_resampled_and_never_reach_over_an_end() -> None:
    clusters = videos(2, 27)
    assert (clusters.by, clusters.block_units, clusters.num) == ("block", 3, 18)
    assert clusters.of_pair[:4].tolist() == [0, 0, 0, 1]
    assert not set(clusters.of_pair[:27]) & set(clusters.of_pair[27:])


def test_pairs_of_one_unit_stay_together() -> None:
    clusters = make_clusters([0, 0, 0, 0], [0, 1, 1, 1])
    assert clusters.of_pair.tolist() == [0, 1, 1, 1]


# --- intervals


def coverage(clusters: Clusters, sample: object, num_trials: int = 400) -> float:
    """Share of samples of mean 0.3 whose interval holds 0.3."""
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(num_trials):
        found = bootstrap_mean(0.3 + sample(rng), clusters, rng, 2_000)  # type: ignore[operator]
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.3 <= found.high
    return hits / num_trials


@pytest.mark.parametrize("num_videos", [8, 30])
def test_intervals_over_videos_cover_as_they_say(num_videos: int) -> None:
    clusters = videos(num_videos, 6)

    def sample(rng: np.random.Generator) -> np.ndarray:
        of_video = rng.normal(size=num_videos)
        return np.asarray(of_video[clusters.of_pair] + 0.5 * rng.normal(size=len(clusters.of_pair)))

    assert 0.925 <= coverage(clusters, sample) <= 0.98


def test_an_interval_over_lines_would_be_far_too_narrow_where_videos_differ() -> None:
    clusters = videos(8, 12)

    def sample(rng: np.random.Generator) -> np.ndarray:
        return np.asarray(rng.normal(size=8)[clusters.of_pair] + 0.5 * rng.normal(size=len(clusters.of_pair)))

    assert coverage(one_each(len(clusters.of_pair)), sample, num_trials=80) < 0.6


def test_intervals_over_blocks_of_one_video_cover_with_neighbours_that_resemble_each_other() -> None:
    clusters = videos(1, 80)

    def sample(rng: np.random.Generator) -> np.ndarray:
        noise = rng.normal(size=81)
        return np.asarray(noise[1:] + 0.5 * noise[:-1])

    assert 0.9 <= coverage(clusters, sample) <= 0.985


def test_intervals_of_sparse_skewed_differences_cover() -> None:
    clusters = videos(20, 10)

    def sample(rng: np.random.Generator) -> np.ndarray:
        differs = rng.random(len(clusters.of_pair)) < 0.3
        return np.asarray(np.where(differs, rng.exponential(1.0, size=len(differs)), 0.0) - 0.3)

    assert 0.92 <= coverage(clusters, sample) <= 0.985


def test_one_cluster_has_no_interval_and_no_winner() -> None:
    found = compared(np.array([3.0, 4.0]), make_clusters([0, 0], [0, 0]))
    assert (found.all.low, found.all.high) == (None, None)
    assert found.all.value == 3.5
    assert not found.is_clear


# --- winners


def test_equal_arms_have_no_winner() -> None:
    found = compared(np.zeros(50), videos(10, 5))
    assert (found.all.value, found.all.low, found.all.high, found.p) == (0.0, 0.0, 0.0, 1.0)
    assert found.differing is None
    assert not found.is_clear


@pytest.mark.parametrize(("num_videos", "units_each"), [(12, 10), (1, 60), (3, 20)])
def test_arms_that_differ_by_chance_alone_rarely_have_a_winner(num_videos: int, units_each: int) -> None:
    clusters = videos(num_videos, units_each)
    num_winners = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(60, 15, size=(2, len(clusters.of_pair)))
        everywhere = np.ones(len(a), dtype=np.bool_)
        num_winners += compare(a, b, clusters, everywhere, seed=seed, num_resamples=5_000).is_clear
    assert num_winners <= 2


@pytest.mark.parametrize(("num_videos", "units_each"), [(12, 10), (1, 60)])
def test_a_real_shift_is_found_with_its_sign_and_size(num_videos: int, units_each: int) -> None:
    clusters = videos(num_videos, units_each)
    rng = np.random.default_rng(3)
    b = rng.normal(60, 15, size=len(clusters.of_pair))
    a = b + rng.normal(4, 5, size=len(b))
    found = compare(a, b, clusters, np.ones(len(a), dtype=np.bool_), num_resamples=5_000)
    assert found.is_clear
    assert found.all.low is not None
    assert found.all.high is not None
    assert 0 < found.all.low < found.all.value < found.all.high
    assert found.all.value == pytest.approx(4, abs=1.5)
    assert found.mean_a - found.mean_b == pytest.approx(found.all.value)


def test_a_few_differences_all_one_way_are_not_enough() -> None:
    difference = np.zeros(100)
    difference[[10, 30, 50, 70]] = 1.0
    found = compare(difference, np.zeros(100), one_each(100), difference != 0)
    assert found.all.low is not None
    assert found.all.low > 0
    assert found.p == 2 / 16
    assert not found.is_clear


def test_over_the_differing_the_mean_is_larger_by_their_share() -> None:
    difference = np.tile([0.0, 0.0, 0.0, 2.0], 20)
    found = compared(difference, one_each(80))
    assert (found.num_pairs, found.num_differing) == (80, 20)
    assert found.differing is not None
    assert found.differing.value == 2.0
    assert found.all.value == 0.5


def test_the_same_seed_gives_the_same_result() -> None:
    difference = np.random.default_rng(1).normal(size=120)
    clusters = videos(12, 10)
    assert compared(difference, clusters, seed=5) == compared(difference, clusters, seed=5)
    assert compared(difference, clusters, seed=5).all != compared(difference, clusters, seed=6).all


# --- tests and their correction


def test_exact_sign_flips_counted_by_hand() -> None:
    rng = np.random.default_rng(0)
    # Of the 8 sums of ±1 ±2 ±3, |6| occurs twice, |4| twice, |2| twice, 0 twice.
    assert sign_flip_p(np.array([1.0, 2.0, 3.0]), one_each(3), rng, 5_000) == 2 / 8
    assert sign_flip_p(np.array([-1.0, 2.0, 3.0]), one_each(3), rng, 5_000) == 4 / 8
    assert sign_flip_p(np.array([1.0, 2.0, -3.0]), one_each(3), rng, 5_000) == 1.0


def test_random_sign_flips_agree_with_the_t_test_on_normal_values() -> None:
    values = np.random.default_rng(11).normal(0.3, 1, size=60)
    found = sign_flip_p(values, one_each(60), np.random.default_rng(0), 20_000)
    assert found == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.01, 0.02, 0.03, 0.04], [0.04, 0.06, 0.06, 0.06]),
        ([0.5, 0.5, 0.001], [1.0, 1.0, 0.003]),
    ],
)
def test_holm_by_hand(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


# --- quality against cost


def test_rank_correlation_agrees_with_scipy_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=90)
    y = np.exp(x + rng.normal(size=90))
    found = spearman(x, y, videos(9, 10))
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < found.value < found.high < 1


def test_what_never_varies_has_no_correlation() -> None:
    assert spearman(np.ones(20), np.arange(20.0), one_each(20)) is None
