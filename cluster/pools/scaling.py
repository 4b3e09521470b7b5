"""Sizes of all pools: pure decisions over snapshots of the pools, without clock or Ray.

A pool wants enough replicas to finish its waiting requests within ``target_drain_s``. Where the budget does not
allow all, the next replica goes to the pool that would take longest; if no resources are free, a pool that can
better spare one gives it up. Running replicas, draining ones included, never exceed the budget: a pool grows only
when the replicas that make room are gone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

EPSILON = 1e-9
"""Shares such as 0.1 GPU do not add up exactly."""

FULL_LOAD = 0.8
"""Share of the time at work from which a replica is not superfluous."""

MIN_GAIN = 0.2
"""Share by which moving a replica must shorten the longest drain: loading a model has its price too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Resources of one replica, or a budget."""

    cpus: float = 0.0
    gpus: float = 0.0

    def __add__(self, other: Resources) -> Resources:
        return Resources(cpus=self.cpus + other.cpus, gpus=self.gpus + other.gpus)

    def __mul__(self, number: int) -> Resources:
        return Resources(cpus=self.cpus * number, gpus=self.gpus * number)

    def above(self, budget: Resources) -> Resources:
        """The excess over ``budget``."""
        cpus, gpus = self.cpus - budget.cpus, self.gpus - budget.gpus
        return Resources(cpus=cpus if cpus > EPSILON else 0.0, gpus=gpus if gpus > EPSILON else 0.0)

    def fits(self, budget: Resources) -> bool:
        return self.above(budget) == NOTHING

    def shares(self, other: Resources) -> bool:
        """True if both contain some of the same resource."""
        return (self.cpus > 0 and other.cpus > 0) or (self.gpus > 0 and other.gpus > 0)


NOTHING = Resources()
UNLIMITED = Resources(cpus=math.inf, gpus=math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """The state of one pool on which its size depends."""

    name: str
    min_replicas: int
    max_replicas: int
    needs: Resources
    """Resources of one replica."""
    target: int
    """Replicas wanted so far: serving, loading, or not placed yet."""
    num_draining: int
    """Superfluous replicas that have not ended yet, and still hold their resources."""
    num_items: int
    """Requests that wait or run."""
    work_s: float | None
    """Seconds that one replica would need for them; None while its pace is unknown."""
    num_busy: int = 0
    """Replicas at work now."""
    busy_s: float = 0.0
    """Total time at work, summed over all replicas."""
    target_drain_s: float
    up_delay_s: float
    down_delay_s: float

    @property
    def wanted(self) -> int:
        """Number of replicas for the current requests, if there were no budget."""
        if not self.num_items:
            return self.min_replicas
        if self.work_s is None:
            number = max(1, self.target)
        else:
            # A replica without a request would not help.
            number = min(math.ceil(self.work_s / self.target_drain_s - EPSILON), self.num_items)
        return min(max(number, self.min_replicas, 1), self.max_replicas)

    def drain_s(self, num_replicas: int) -> float:
        """Seconds that this many replicas need for the current requests."""
        if not self.num_items:
            return 0.0
        if not num_replicas:
            return math.inf
        return (self.target_drain_s if self.work_s is None else self.work_s) / num_replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Times since which a pool has had too few replicas, or too many; None if it has not."""

    short_since_s: float | None = None
    spare_since_s: float | None = None
    most_wanted: int = 0
    """Highest number wanted in the time it had too many."""
    busy_before_s: float = 0.0
    """``busy_s`` when that time began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The decision, and the trends for the next one."""

    targets: Mapping[str, int]
    trends: Mapping[str, Trend] = field(default_factory=dict)


def scale_targets(pools: Sequence[PoolSnapshot], budget: Resources, trends: Mapping[str, Trend], now_s: float) -> Scale:
    """Decide the number of replicas of each pool."""
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
    """True if the pool has had too many replicas for ``down_delay_s``."""
    return trend.spare_since_s is not None and now_s - trend.spare_since_s >= pool.down_delay_s - EPSILON


def _enough(pool: PoolSnapshot, trend: Trend, now_s: float) -> int:
    """The highest number wanted in the time it had too many, and enough to stay below ``FULL_LOAD``."""
    assert trend.spare_since_s is not None
    length_s = now_s - trend.spare_since_s
    num_busy = (pool.busy_s - trend.busy_before_s) / length_s if length_s > 0 else pool.num_busy
    return max(trend.most_wanted, pool.min_replicas, math.ceil(num_busy / FULL_LOAD - EPSILON))


def _may_grow(pool: PoolSnapshot, trend: Trend, now_s: float) -> bool:
    if pool.target < pool.min_replicas or (pool.num_items and not pool.target):
        return True
    return trend.short_since_s is not None and now_s - trend.short_since_s >= pool.up_delay_s - EPSILON


def _urgency(pool: PoolSnapshot, num_replicas: int) -> tuple[bool, float, float]:
    """Sort key: pools below their minimum first, then those that would take longest."""
    return num_replicas < pool.min_replicas, pool.drain_s(num_replicas), pool.work_s or 0.0


class _Plan:
    """Targets under construction."""

    def __init__(self, pools: Sequence[PoolSnapshot], budget: Resources) -> None:
        self._pools = pools
        self._budget = budget
        self.targets: dict[str, int] = {}

    def is_short(self, pool: PoolSnapshot) -> bool:
        return self.targets[pool.name] < pool.wanted

    def make_room(self, pool: PoolSnapshot) -> bool:
        """True if one more replica will fit; replicas of other pools are given up for it if need be."""
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
        """Targets for now: pools grow only into free resources, as replicas that are given up still run."""
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
        """Resources that one more replica of this pool would take above the budget."""
        planned = pool.needs
        for other in self._pools:
            planned += other.needs * (self.targets[other.name] - spared.get(other.name, 0))
        return planned.above(self._budget)

    def _donor(self, pool: PoolSnapshot, spared: Mapping[str, int], lacking: Resources) -> PoolSnapshot | None:
        """The pool that can best spare a replica for this one; None if there is none."""
        having = [other for other in self._pools if other is not pool and other.needs.shares(lacking)]
        candidates = [other for other in having if self._would_give(other, pool, spared)]
        return min(candidates, key=lambda other: other.drain_s(self._left(other, spared)), default=None)

    def _would_give(self, giver: PoolSnapshot, taker: PoolSnapshot, spared: Mapping[str, int]) -> bool:
        left = self._left(giver, spared)
        if left < giver.min_replicas:
            return False
        number = self.targets[taker.name]
        # The taker is below its minimum, or the giver has an idle replica.
        if number < taker.min_replicas or max(giver.wanted, giver.num_busy) <= left:
            return True
        before_s = max(taker.drain_s(number), giver.drain_s(left + 1))
        after_s = max(taker.drain_s(number + 1), giver.drain_s(left))
        return math.isfinite(after_s) and after_s <= (1 - MIN_GAIN) * before_s

    def _left(self, giver: PoolSnapshot, spared: Mapping[str, int]) -> int:
        return self.targets[giver.name] - spared.get(giver.name, 0) - 1
