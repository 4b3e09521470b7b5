"""How many replicas each pool should have: pure decisions over snapshots of all pools, no clock, no Ray.

A pool wants as many as finish what waits within ``target_drain_s``. Where the budget does not allow all, the
next replica goes to the pool that would take longest, and if none is free, one that can better spare it gives
its up. Whatever a decision, what runs, drains included, never exceeds the budget: growth waits for what was
spared to be gone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

EPSILON = 1e-9
"""Shares such as 0.1 GPU do not add up exactly."""

FULL_LOAD = 0.8
"""Share of its time that a replica may be at work before it is not one too many."""

MIN_GAIN = 0.2
"""By how much of it a replica that moves must shorten the longest drain: loading a model has its price too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Of a replica, or of all there may be."""

    cpus: float = 0.0
    gpus: float = 0.0

    def __add__(self, other: Resources) -> Resources:
        return Resources(cpus=self.cpus + other.cpus, gpus=self.gpus + other.gpus)

    def __mul__(self, number: int) -> Resources:
        return Resources(cpus=self.cpus * number, gpus=self.gpus * number)

    def above(self, budget: Resources) -> Resources:
        """What is too much."""
        cpus, gpus = self.cpus - budget.cpus, self.gpus - budget.gpus
        return Resources(cpus=cpus if cpus > EPSILON else 0.0, gpus=gpus if gpus > EPSILON else 0.0)

    def fits(self, budget: Resources) -> bool:
        return self.above(budget) == NOTHING

    def shares(self, other: Resources) -> bool:
        """Whether both hold some of the same."""
        return (self.cpus > 0 and other.cpus > 0) or (self.gpus > 0 and other.gpus > 0)


NOTHING = Resources()
UNLIMITED = Resources(cpus=math.inf, gpus=math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """One pool, as far as its size depends on it."""

    name: str
    min_replicas: int
    max_replicas: int
    needs: Resources
    """Of one replica."""
    target: int
    """Replicas wanted so far: serving, loading, or not placed yet."""
    num_draining: int
    """Replicas that were spared and have not gone yet: they hold what they hold."""
    num_items: int
    """Waiting or running."""
    work_s: float | None
    """Seconds one replica would need for them; None while nothing is known of its pace."""
    num_busy: int = 0
    """Replicas at work now."""
    busy_s: float = 0.0
    """Seconds that replicas have been at work in all, summed over them."""
    target_drain_s: float
    up_delay_s: float
    down_delay_s: float

    @property
    def wanted(self) -> int:
        """Replicas for what there is to do now, were there no budget."""
        if not self.num_items:
            return self.min_replicas
        if self.work_s is None:
            number = max(1, self.target)
        else:
            # One that has no item to work on would not help.
            number = min(math.ceil(self.work_s / self.target_drain_s - EPSILON), self.num_items)
        return min(max(number, self.min_replicas, 1), self.max_replicas)

    def drain_s(self, num_replicas: int) -> float:
        """How long so many would need for what there is to do."""
        if not self.num_items:
            return 0.0
        if not num_replicas:
            return math.inf
        return (self.target_drain_s if self.work_s is None else self.work_s) / num_replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Since when a pool has had too few replicas, or more than enough; None if it has not."""

    short_since_s: float | None = None
    spare_since_s: float | None = None
    most_wanted: int = 0
    """In the time it had more than enough."""
    busy_before_s: float = 0.0
    """``busy_s`` when that time began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The decision, and what the next one must know of the past."""

    targets: Mapping[str, int]
    trends: Mapping[str, Trend] = field(default_factory=dict)


def scale_targets(pools: Sequence[PoolSnapshot], budget: Resources, trends: Mapping[str, Trend], now_s: float) -> Scale:
    """How many replicas each pool should have from now on."""
    trends = {pool.name: _trend(pool, trends.get(pool.name, Trend()), now_s) for pool in pools}
    plan = _Plan(pools, budget)
    for pool in pools:
        kept = plan.targets[pool.name] = min(pool.target, pool.max_replicas)
        if _is_over(trends[pool.name], pool, now_s):
            plan.targets[pool.name] = min(kept, _enough(pool, trends[pool.name], now_s))
            trends[pool.name] = Trend()  # the next decision looks at the time from now on
    growing = [pool for pool in pools if _may_grow(pool, trends[pool.name], now_s)]
    while growing:
        pool = max(growing, key=lambda pool: _urgency(pool, plan.targets[pool.name]))
        if not plan.is_short(pool) or not plan.make_room(pool):
            growing.remove(pool)
        else:
            plan.targets[pool.name] += 1
    return Scale(targets=plan.granted(), trends=trends)


def _trend(pool: PoolSnapshot, before: Trend, now_s: float) -> Trend:
    wanted = pool.wanted
    if wanted > pool.target:
        return Trend(short_since_s=now_s if before.short_since_s is None else before.short_since_s)
    if wanted < pool.target:
        if before.spare_since_s is None:
            return Trend(spare_since_s=now_s, most_wanted=wanted, busy_before_s=pool.busy_s)
        return replace(before, most_wanted=max(before.most_wanted, wanted))
    return Trend()


def _is_over(trend: Trend, pool: PoolSnapshot, now_s: float) -> bool:
    """Whether it had more than enough for long enough."""
    return trend.spare_since_s is not None and now_s - trend.spare_since_s >= pool.down_delay_s - EPSILON


def _enough(pool: PoolSnapshot, trend: Trend, now_s: float) -> int:
    """As many as were ever wanted in the time that it had more, nor busier than a replica may be."""
    assert trend.spare_since_s is not None
    length_s = now_s - trend.spare_since_s
    num_busy = (pool.busy_s - trend.busy_before_s) / length_s if length_s > 0 else pool.num_busy
    return max(trend.most_wanted, pool.min_replicas, math.ceil(num_busy / FULL_LOAD - EPSILON))


def _may_grow(pool: PoolSnapshot, trend: Trend, now_s: float) -> bool:
    if pool.target < pool.min_replicas or (pool.num_items and not pool.target):
        return True
    return trend.short_since_s is not None and now_s - trend.short_since_s >= pool.up_delay_s - EPSILON


def _urgency(pool: PoolSnapshot, num_replicas: int) -> tuple[bool, float, float]:
    """What is always kept comes first, then whoever would take longest."""
    return num_replicas < pool.min_replicas, pool.drain_s(num_replicas), pool.work_s or 0.0


class _Plan:
    """Targets in the making, of which everything that runs is known to fit the budget."""

    def __init__(self, pools: Sequence[PoolSnapshot], budget: Resources) -> None:
        self._pools = pools
        self._budget = budget
        self.targets: dict[str, int] = {}

    def is_short(self, pool: PoolSnapshot) -> bool:
        return self.targets[pool.name] < pool.wanted

    def make_room(self, pool: PoolSnapshot) -> bool:
        """Whether one more will fit, once all that is spared has gone; others are spared for it if need be."""
        spared: dict[str, int] = {}
        while (lacking := self._lacking(pool, spared)) != NOTHING:
            donor = self._donor(pool, spared, lacking)
            if donor is None:
                return False
            spared[donor.name] = spared.get(donor.name, 0) + 1
        for name, number in spared.items():
            self.targets[name] -= number
        return True

    def granted(self) -> dict[str, int]:
        """Growth only into what is free now: of what is spared, replicas still run."""
        held = Resources()
        for pool in self._pools:
            held += pool.needs * (pool.target + pool.num_draining)
        granted = {pool.name: min(pool.target, self.targets[pool.name]) for pool in self._pools}
        for pool in sorted(self._pools, key=lambda pool: _urgency(pool, pool.target), reverse=True):
            while granted[pool.name] < self.targets[pool.name] and (held + pool.needs).fits(self._budget):
                held += pool.needs
                granted[pool.name] += 1
        return granted

    def _lacking(self, pool: PoolSnapshot, spared: Mapping[str, int]) -> Resources:
        """What one more of this pool would take above the budget."""
        planned = pool.needs
        for other in self._pools:
            planned += other.needs * (self.targets[other.name] - spared.get(other.name, 0))
        return planned.above(self._budget)

    def _donor(self, pool: PoolSnapshot, spared: Mapping[str, int], lacking: Resources) -> PoolSnapshot | None:
        """Who can best spare one for it, if anybody can."""
        having = [other for other in self._pools if other is not pool and other.needs.shares(lacking)]
        candidates = [other for other in having if self._would_give(other, pool, spared)]
        return min(candidates, key=lambda other: other.drain_s(self._left(other, spared)), default=None)

    def _would_give(self, giver: PoolSnapshot, taker: PoolSnapshot, spared: Mapping[str, int]) -> bool:
        left = self._left(giver, spared)
        if left < giver.min_replicas:
            return False
        number = self.targets[taker.name]
        if number < taker.min_replicas or max(giver.wanted, giver.num_busy) <= left:  # a due, or an idle one
            return True
        before_s = max(taker.drain_s(number), giver.drain_s(left + 1))
        after_s = max(taker.drain_s(number + 1), giver.drain_s(left))
        return math.isfinite(after_s) and after_s <= (1 - MIN_GAIN) * before_s

    def _left(self, giver: PoolSnapshot, spared: Mapping[str, int]) -> int:
        return self.targets[giver.name] - spared.get(giver.name, 0) - 1
