"""Decisions alone, and a simulated hour of pools that follow them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.pools.scaling import UNLIMITED, PoolSnapshot, Resources, Scale, Trend, scale_targets

GPU = Resources(cpus=1.0, gpus=1.0)
CPU = Resources(cpus=1.0)


def pool(
    name: str = "a",
    *,
    work_s: float | None = 0.0,
    target: int = 1,
    num_items: int | None = None,
    low: int = 1,
    high: int = 8,
    needs: Resources = GPU,
    num_draining: int = 0,
) -> PoolSnapshot:
    """Wants a replica for every second of work."""
    if num_items is None:
        num_items = 0 if work_s == 0 else 100
    return PoolSnapshot(
        name=name,
        min_replicas=low,
        max_replicas=high,
        needs=needs,
        target=target,
        num_draining=num_draining,
        num_items=num_items,
        work_s=work_s,
        target_drain_s=1.0,
        up_delay_s=1.0,
        down_delay_s=10.0,
    )


LONG_SHORT = Trend(short_since_s=-100.0)
LONG_SPARE = Trend(spare_since_s=-100.0)


def decide(*pools: PoolSnapshot, gpus: float = math.inf, trends: Mapping[str, Trend] | None = None) -> dict[str, int]:
    """As if every trend had lasted long."""
    if trends is None:
        trends = {each.name: LONG_SHORT if each.wanted > each.target else LONG_SPARE for each in pools}
    budget = replace(UNLIMITED, gpus=gpus)
    return dict(scale_targets(pools, budget, trends, 0.0).targets)


@pytest.mark.parametrize(
    ("work_s", "num_items", "wanted"),
    [(0.0, 0, 1), (0.5, 9, 1), (1.0, 9, 1), (1.1, 9, 2), (5.0, 9, 5), (5.0, 3, 3), (99.0, 99, 8), (None, 9, 2)],
)
def test_a_pool_wants_a_replica_for_each_target_drain_time_of_work(
    work_s: float | None, num_items: int, wanted: int
) -> None:
    assert pool(work_s=work_s, num_items=num_items, target=2 if work_s is None else 1).wanted == wanted


def test_it_grows_only_when_that_lasted_and_shrinks_later_still_to_the_most_it_wanted() -> None:
    short = pool(work_s=4.0)
    first = scale_targets([short], UNLIMITED, {}, 0.0)
    assert first.targets == {"a": 1}
    assert scale_targets([short], UNLIMITED, first.trends, 0.9).targets == {"a": 1}
    assert scale_targets([short], UNLIMITED, first.trends, 1.0).targets == {"a": 4}

    spare = pool(work_s=1.0, target=6)
    first = scale_targets([spare], UNLIMITED, {}, 0.0)
    second = scale_targets([pool(work_s=3.0, target=6)], UNLIMITED, first.trends, 5.0)
    assert scale_targets([spare], UNLIMITED, second.trends, 9.9).targets == {"a": 6}
    assert scale_targets([spare], UNLIMITED, second.trends, 10.0).targets == {"a": 3}
    busy = replace(spare, busy_s=10.0 * 4.0)
    assert scale_targets([busy], UNLIMITED, second.trends, 10.0).targets == {"a": 5}


def test_a_pause_begins_the_delay_anew() -> None:
    trends = scale_targets([pool(work_s=4.0)], UNLIMITED, {}, 0.0).trends
    trends = scale_targets([pool(work_s=1.0)], UNLIMITED, trends, 0.5).trends
    trends = scale_targets([pool(work_s=4.0)], UNLIMITED, trends, 0.8).trends
    assert scale_targets([pool(work_s=4.0)], UNLIMITED, trends, 1.7).targets == {"a": 1}


def test_the_first_request_of_a_pool_at_zero_does_not_wait() -> None:
    assert decide(pool(work_s=None, num_items=1, target=0, low=0), trends={}) == {"a": 1}
    assert decide(pool(target=0, low=0), trends={}) == {"a": 0}


def test_an_idle_pool_goes_to_its_minimum() -> None:
    assert decide(pool(target=4, low=0)) == {"a": 0}
    assert decide(pool(target=4, low=2)) == {"a": 2}


def test_what_holds_the_rest_back_gets_the_next_replica() -> None:
    assert decide(pool("a", work_s=10.0), pool("b", work_s=30.0), gpus=4) == {"a": 1, "b": 3}


def test_an_idle_replica_is_given_up_for_one_who_needs_it_before_its_delay_is_over() -> None:
    trends = {"a": Trend(spare_since_s=0.0), "b": LONG_SHORT}
    assert decide(pool("a", target=3), pool("b", work_s=30.0), gpus=4, trends=trends) == {"a": 1, "b": 1}
    # What it gave up still runs; when that is gone, the other grows.
    draining = pool("a", target=1, num_draining=1)
    assert decide(draining, pool("b", work_s=30.0), gpus=4, trends={"b": LONG_SHORT}) == {"a": 1, "b": 2}


def test_a_busy_one_gives_only_where_that_gains_much() -> None:
    assert decide(pool("a", work_s=9.0, target=2), pool("b", work_s=20.0, target=2), gpus=4) == {"a": 2, "b": 2}
    assert decide(pool("a", work_s=9.0, target=2), pool("b", work_s=30.0, target=2), gpus=4) == {"a": 1, "b": 2}
    after = decide(pool("a", work_s=9.0, target=1), pool("b", work_s=30.0, target=2), gpus=4)
    assert after == {"a": 1, "b": 3}
    assert decide(pool("a", work_s=9.0, target=1), pool("b", work_s=30.0, target=3), gpus=4) == after


def test_two_pools_never_swap_their_only_replica_for_ever() -> None:
    assert decide(pool("a", work_s=9.0, low=0), pool("b", work_s=9.0, target=0, low=0), gpus=1) == {"a": 1, "b": 0}
    assert decide(pool("a", low=0), pool("b", work_s=9.0, target=0, low=0), gpus=1) == {"a": 0, "b": 0}


def test_gpus_are_not_taken_from_those_who_have_none() -> None:
    cpu_only = pool("a", work_s=9.0, target=5, high=5, needs=CPU)
    assert decide(cpu_only, pool("b", work_s=30.0, target=2), gpus=2) == {"a": 5, "b": 2}


def test_only_what_is_scarce_is_asked_for() -> None:
    """The idle CPU pool could spare one most easily, and it would not help."""
    cpu_only = pool("cpu", target=3, needs=CPU)
    trends = {"b": LONG_SHORT}
    after = decide(cpu_only, pool("a", target=2), pool("b", work_s=30.0, target=2), gpus=4, trends=trends)
    assert after == {"cpu": 3, "a": 1, "b": 2}


def test_shares_of_a_gpu_add_up() -> None:
    share = Resources(cpus=1.0, gpus=0.1)
    assert decide(pool(work_s=100.0, high=50, needs=share), gpus=1) == {"a": 10}


snapshots = st.builds(
    pool,
    work_s=st.none() | st.floats(0.0, 50.0),
    target=st.integers(0, 6),
    num_items=st.integers(0, 40),
    low=st.integers(0, 2),
    high=st.integers(2, 8),
    needs=st.sampled_from([GPU, CPU, Resources(cpus=0.5, gpus=0.25), Resources(cpus=1.0, gpus=2.0)]),
    num_draining=st.integers(0, 2),
)
some_trends = st.sampled_from([Trend(), LONG_SHORT, LONG_SPARE, Trend(short_since_s=-0.5), Trend(spare_since_s=-5.0)])


def held(pools: list[PoolSnapshot], targets: Mapping[str, int]) -> Resources:
    total = Resources()
    for each in pools:
        # What is spared by this decision still runs after it.
        total += each.needs * (max(each.target, targets[each.name]) + each.num_draining)
    return total


@given(
    st.lists(st.tuples(snapshots, some_trends), max_size=5),
    st.sampled_from([0.0, 1.0, 2.5, 4.0, 16.0, math.inf]),
    st.sampled_from([2.0, 8.0, math.inf]),
)
def test_no_decision_adds_to_what_is_above_the_budget(
    drawn: list[tuple[PoolSnapshot, Trend]], gpus: float, cpus: float
) -> None:
    pools = [replace(each, name=str(index)) for index, (each, _) in enumerate(drawn)]
    trends = {str(index): trend for index, (_, trend) in enumerate(drawn)}
    budget = Resources(cpus=cpus, gpus=gpus)
    decision = scale_targets(pools, budget, trends, 0.0)
    grown = any(decision.targets[each.name] > each.target for each in pools)
    assert not grown or held(pools, decision.targets).fits(budget)
    for each in pools:
        target = decision.targets[each.name]
        assert min(each.target, each.min_replicas) <= target <= max(each.max_replicas, each.min_replicas)
        assert target <= max(each.target, each.wanted)


# --- a simulated clock


@dataclass
class Simulated:
    """A pool whose replicas do a second of work a second once loaded, and take a while to load and to drain."""

    snapshot: PoolSnapshot
    work_s: float = 0.0
    arriving_s: Callable[[float], float] = lambda now_s: 0.0
    """Seconds of work that arrive per second."""
    load_s: float = 3.0
    drain_s: float = 0.5

    def __post_init__(self) -> None:
        self.ready_at_s = [0.0] * self.snapshot.target
        self.gone_at_s: list[float] = []
        self.num_busy = 0.0
        self.busy_s = 0.0

    def look(self) -> PoolSnapshot:
        return replace(
            self.snapshot,
            target=len(self.ready_at_s),
            num_draining=len(self.gone_at_s),
            num_items=math.ceil(self.work_s / 0.1),
            work_s=self.work_s,
            num_busy=math.ceil(self.num_busy),
            busy_s=self.busy_s,
        )

    def apply(self, target: int, now_s: float) -> None:
        while len(self.ready_at_s) < target:
            self.ready_at_s.append(now_s + self.load_s)
        while len(self.ready_at_s) > target:
            self.ready_at_s.pop()
            self.gone_at_s.append(now_s + self.drain_s)

    def step(self, now_s: float, step_s: float) -> None:
        num_serving = sum(ready_s <= now_s for ready_s in self.ready_at_s)
        there_s = self.work_s + self.arriving_s(now_s) * step_s
        self.num_busy = min(num_serving, there_s / step_s)
        self.busy_s += self.num_busy * step_s
        self.work_s = there_s - self.num_busy * step_s
        self.gone_at_s = [gone_s for gone_s in self.gone_at_s if gone_s > now_s]


def simulate(pools: list[Simulated], budget: Resources, duration_s: float) -> list[dict[str, int]]:
    """Targets at every step; the budget is checked at each."""
    trends: Mapping[str, Trend] = {}
    history = []
    for step in range(round(duration_s / 0.25)):
        now_s = step * 0.25
        looks = [each.look() for each in pools]
        decision: Scale = scale_targets(looks, budget, trends, now_s)
        trends = decision.trends
        for each in pools:
            each.apply(decision.targets[each.snapshot.name], now_s)
            each.step(now_s, 0.25)
        running = Resources()
        for each in pools:
            running += each.snapshot.needs * (len(each.ready_at_s) + len(each.gone_at_s))
        assert running.fits(budget)
        history.append(dict(decision.targets))
    return history


def test_a_burst_takes_a_pool_from_zero_to_its_maximum_and_back() -> None:
    burst = Simulated(pool(target=0, low=0, high=4), arriving_s=lambda now_s: 3.5 if 10 <= now_s < 60 else 0.0)
    history = [each["a"] for each in simulate([burst], UNLIMITED, 120)]
    assert set(history[:40]) == {0}
    assert max(history) == 4
    assert history[40 + 2] == 1
    assert history[-1] == 0
    changes = sum(before != after for before, after in itertools.pairwise(history))
    assert changes <= 8


def test_the_bottleneck_is_followed_when_service_times_change() -> None:
    a = Simulated(pool("a", high=3), arriving_s=lambda now_s: 2.6 if now_s < 60 else 0.8)
    b = Simulated(pool("b", high=3), arriving_s=lambda now_s: 0.8 if now_s < 60 else 2.6)
    history = simulate([a, b], Resources(cpus=math.inf, gpus=4.0), 180)
    assert history[50 * 4] == {"a": 3, "b": 1}
    assert history[-1] == {"a": 1, "b": 3}


def test_a_steady_load_is_answered_steadily() -> None:
    steady = Simulated(pool(high=8), arriving_s=lambda now_s: 2.5)
    history = [each["a"] for each in simulate([steady], UNLIMITED, 600)]
    assert set(history[400:]) == {4}
