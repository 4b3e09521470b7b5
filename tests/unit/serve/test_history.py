"""The history of a dispatcher: rates between samples, and only the latest kept."""

from __future__ import annotations

import random
import warnings

import pytest
from scipy.stats import spearmanr

from cluster.config.schema import PriceConfig
from cluster.metrics import jobs
from cluster.pools.stats import PoolStats
from serve.api.dashboard import Correlations, correlate
from serve.dispatch.history import FigureHistory, Totals, read_totals
from serve.jobs.finished import MadeDub
from serve.settings import DashboardSettings


def pool(name: str = "speech/kokoro", **fields: object) -> PoolStats:
    counts = dict.fromkeys(("num_items", "num_failed", "num_batches", "num_lost_replicas", "queue_items"), 0)
    return PoolStats.model_validate({"name": name, "engine_s": 0.0, **counts, **fields})


def history(max_samples: int = 10) -> FigureHistory:
    return FigureHistory(DashboardSettings(max_samples=max_samples), PriceConfig())


def test_rates_are_taken_between_two_readings() -> None:
    seen = history()
    seen.note(100.0, Totals(segments=10, media_s=60.0, cost=1.0), [pool(busy_s=4.0, num_serving=2)], 1, 0)
    assert list(seen.samples) == []
    now = [pool(busy_s=9.0, num_serving=2, target=3, queue_items=7), pool(busy_s=0.0, num_serving=0, queue_items=1)]
    seen.note(105.0, Totals(segments=20, media_s=160.0, cost=1.5, lag_s=4.0), now, 2, 3)
    [sample] = seen.samples
    assert (sample.segments_per_s, sample.realtime, sample.cost_per_hour) == (2.0, 20.0, 360.0)
    assert (sample.lag_s, sample.num_running, sample.num_waiting) == (4.0, 2, 3)
    of_pool = sample.pools["speech/kokoro"]
    assert (of_pool.queue_items, of_pool.target, of_pool.num_serving, of_pool.busy_share) == (8, 3, 2, 0.5)


def test_a_pool_without_replicas_has_no_share_and_one_that_was_closed_is_gone() -> None:
    seen = history()
    seen.note(0.0, Totals(), [pool("a", busy_s=50.0), pool("b")], 0, 0)
    seen.note(1.0, Totals(), [pool("a", busy_s=0.0, num_serving=1)], 0, 0)  # closed, and opened anew
    seen.note(2.0, Totals(), [pool("a", num_serving=0)], 0, 0)
    first, second = seen.samples
    assert (list(first.pools), first.pools["a"].busy_share) == (["a"], 0.0)
    assert second.pools["a"].busy_share is None


def test_only_the_latest_are_kept_and_only_later_ones_told() -> None:
    seen = history(max_samples=3)
    for clock_s in range(9):
        seen.note(float(clock_s), Totals(segments=clock_s**2), [], 0, 0)
    assert [sample.segments_per_s for sample in seen.samples] == [11.0, 13.0, 15.0]
    assert seen.after(seen.samples[0].time_s) == [s for s in seen.samples if s.time_s > seen.samples[0].time_s]
    assert seen.after(seen.samples[-1].time_s) == []
    assert seen.name != history().name


def test_totals_are_read_from_the_metrics_of_this_process() -> None:
    before = read_totals()
    jobs.advance(-1, 0.0, num_segments=3, mixed_s=12.5)
    after = read_totals()
    assert after.segments - before.segments == 3.0
    assert after.media_s - before.media_s == pytest.approx(12.5)


def test_a_correlation_has_its_interval() -> None:
    chance = random.Random(3)
    speeds = [chance.uniform(1, 9) for _ in range(30)]
    qualities = [1 - speed / 20 + chance.uniform(-0.1, 0.1) for speed in speeds]
    found, why = correlate(qualities, speeds)
    assert found is not None
    assert why == ""
    assert found.value == pytest.approx(spearmanr(qualities, speeds).statistic)
    assert found.low is not None
    assert found.high is not None
    assert -1 <= found.low < found.value < found.high < 0


@pytest.mark.parametrize(("qualities", "why"), [([0.1] * 7, "at least 8 dubs"), ([0.1] * 9, "is the same")])
def test_a_correlation_that_cannot_be_told_says_why(qualities: list[float], why: str) -> None:
    found, reason = correlate(qualities, [float(number) for number in range(len(qualities))])
    assert found is None
    assert why in reason


def test_few_values_give_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, _ = correlate([0.0] * 8 + [0.5], [float(number) for number in range(9)])
    assert found is not None


async def test_a_correlation_is_computed_once_for_the_same_dubs(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []

    def count(qualities: list[float], speeds: list[float]) -> tuple[None, str]:
        computed.append(len(qualities))
        return None, ""

    monkeypatch.setattr("serve.api.dashboard.correlate", count)
    dubs = [MadeDub(id=str(n), name="", duration_s=1.0, realtime=1.0, quality={"wer": 0.1}) for n in range(3)]
    known = Correlations()
    for given in (dubs, dubs, dubs[:2]):
        await known.of("owner", "wer", given)
    await known.of("another", "wer", dubs)
    assert computed == [3, 2, 3]
