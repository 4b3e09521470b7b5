"""A batch on a cluster, simulated call by call: what `bench_plan.py` compares plans with.

Drivers, videos, pools, replicas and batches are simulated; requests are counted, not kept. The rules are those of the
code: the next video goes to the driver that has least, longest first; an idle replica takes its share of what waits, a
busy one a full batch; jobs take turns; a video has no more windows and lines in progress than `pipeline` allows. A turn
is a whole batch, where the code mixes requests of several jobs in one. A call's time is random around its mean.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.analysis.plan import DriverPlan, PoolOfDriver
from cluster.analysis.workload import Workload
from cluster.batch.sharding import Sharding
from cluster.config.schema import Config

WINDOW_S = 30.0


@dataclass(frozen=True, kw_only=True)
class World:
    """The chances of a cluster, which a plan does not know."""

    start_s: tuple[float, float] = (60.0, 120.0)
    """Each replica is ready at a random time between these."""
    spread: float = 0.3
    """Standard deviation of the logarithm of a call's time."""
    driver_realtime: float = 20.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Simulated:
    wall_s: float
    num_calls: int
    num_lines: int
    busy: dict[str, float]
    """Share of the time in which a replica of the pool works."""


class _Pool:
    """One pool of one driver."""

    __slots__ = ("busy_s", "calls", "idle", "max_items", "queue", "time_s", "waiting")

    def __init__(self, time_s: Callable[[float], float], max_items: int) -> None:
        self.time_s, self.max_items = time_s, max_items
        self.idle = self.waiting = self.calls = 0
        self.queue: deque[_Step] = deque()
        self.busy_s = 0.0


class _Step:
    """The requests of one chain to one pool."""

    __slots__ = ("answered", "asked", "chain", "entered", "per_line", "pool", "waiting")

    def __init__(self, pool: _Pool, per_line: float, chain: _Chain) -> None:
        self.pool, self.per_line, self.chain = pool, per_line, chain
        self.entered = self.waiting = self.asked = self.answered = 0

    @property
    def done(self) -> int:
        """Lines of which all requests are answered."""
        if self.answered == self.asked:
            return self.entered
        return min(self.entered, int(self.answered / self.per_line))


class _Chain:
    """Steps with a bound on what is in each: for the windows of a video, or for its lines in one language."""

    __slots__ = ("available", "bound", "moved", "ready", "steps", "taken")

    def __init__(self, bound: int, available: int, ready: Callable[[], int], moved: Callable[[], None]) -> None:
        self.bound, self.available, self.ready, self.moved = bound, available, ready, moved
        self.steps: list[_Step] = []
        self.taken = 0
        """Those that have left the last step."""

    def pull(self, ask: Callable[[_Step, int], None]) -> None:
        """Move everything on as far as the bounds allow."""
        steps, last = self.steps, len(self.steps) - 1
        is_moving = True
        while is_moving:
            is_moving = False
            taken = min(steps[last].done, self.ready())
            if taken > self.taken:
                self.taken = taken
                is_moving = True
            for index in range(last, -1, -1):
                step = steps[index]
                before = self.available if index == 0 else steps[index - 1].done
                after = self.taken if index == last else steps[index + 1].entered
                allowed = min(before, after + self.bound)
                if allowed > step.entered:
                    ask(step, allowed)
                    is_moving = True
        self.moved()


class Simulation:
    """One batch: ``run()`` gives its wall time."""

    def __init__(
        self,
        workload: Workload,
        config: Config,
        cluster: DriverPlan,
        videos_s: Sequence[float],
        languages: int,
        world: World,
    ) -> None:
        self._workload, self._config, self._cluster, self._languages = workload, config, cluster, languages
        self._videos_s, self._world = videos_s, world
        self._random = random.Random(world.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._now_s = 0.0
        self._factors = [self._random.lognormvariate(-(world.spread**2) / 2, world.spread) for _ in range(4099)]
        self._next_factor = 0
        self._num_lines = 0
        self._sharding = Sharding(videos_s, cluster.num_drivers, cluster.max_videos, 3)
        self._pools: list[dict[str, list[_Pool]]] = []

    def run(self) -> Simulated:
        for _ in range(self._cluster.num_drivers):
            self._pools.append(self._start_driver())
        for driver in range(self._cluster.num_drivers):
            self._give(driver)
        while self._events:
            self._now_s, _, event = heapq.heappop(self._events)
            event()
        if not self._sharding.is_done:
            raise RuntimeError("every video must end")
        calls = [pool for pools in self._pools for kind in pools.values() for pool in kind]
        return Simulated(
            wall_s=self._now_s,
            num_calls=sum(pool.calls for pool in calls),
            num_lines=self._num_lines,
            busy={
                pool.work.name: sum(each.busy_s for pools in self._pools for each in pools[pool.work.name])
                / (pool.replicas * pool.num_pools * self._cluster.num_drivers * self._now_s)
                for pool in self._cluster.pools
            },
        )

    def _at(self, time_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), event))

    # --- drivers and videos

    def _start_driver(self) -> dict[str, list[_Pool]]:
        found: dict[str, list[_Pool]] = {}
        for kind in self._cluster.pools:
            found[kind.work.name] = [self._start_pool(kind) for _ in range(kind.num_pools)]
        media_s = WINDOW_S / self._world.driver_realtime
        media = _Pool(lambda num_items: num_items * media_s, 1)
        self._at(self._world.start_s[0], lambda: self._free(media))
        found["media"] = [media]
        return found

    def _start_pool(self, kind: PoolOfDriver) -> _Pool:
        max_items = max(round(kind.work.batch_items), kind.settings.batch.max_items)
        pool = _Pool(kind.work.time_s, max_items)
        for _ in range(kind.replicas):
            self._at(self._random.uniform(*self._world.start_s), lambda: self._free(pool))
        return pool

    def _give(self, driver: int) -> None:
        while (index := self._sharding.take(driver)) is not None:
            self._begin(driver, index)

    def _begin(self, driver: int, index: int) -> None:
        pools, hours = self._pools[driver], self._videos_s[index] / 3600
        bounds, kinds = self._config.pipeline, self._cluster.pools
        num_lines = max(1, round(hours * self._workload.lines_per_hour))
        num_windows = max(1, round(hours * 3600 / WINDOW_S))
        lines_per_window = num_lines / num_windows
        chains: list[_Chain] = []
        has_ended = False

        def windows_taken() -> int:
            """Windows that the slowest language has room for."""
            slowest = min(chain.steps[0].entered for chain in chains)
            if slowest >= num_lines - bounds.max_utterances:
                return num_windows
            return int((slowest + bounds.max_utterances) / lines_per_window)

        def heard() -> None:
            available = num_lines if source.taken == num_windows else int(source.taken * lines_per_window)
            for chain in chains:
                if available > chain.available:
                    chain.available = available
                    chain.pull(self._ask)

        def spoken() -> None:
            nonlocal has_ended
            if source.taken < num_windows and source.taken < min(source.steps[-1].done, windows_taken()):
                source.pull(self._ask)
            if not has_ended and all(chain.taken == num_lines for chain in chains):
                has_ended = True
                self._num_lines += num_lines * self._languages
                self._sharding.finish(driver, index)
                self._give(driver)

        source = _Chain(bounds.max_windows, num_windows, windows_taken, heard)
        source.steps.append(_Step(pools["media"][0], 1.0, source))
        for kind in kinds:
            if kind.work.shared_per_hour:
                per_window = kind.work.shared_per_hour * hours / num_windows
                source.steps.append(_Step(pools[kind.work.name][0], per_window, source))
        ordered = sorted(kinds, key=lambda kind: kind.work.task == "transcription")  # lines are heard again last
        for number in range(self._languages):
            chain = _Chain(bounds.max_utterances, 0, lambda: num_lines, spoken)
            for kind in ordered:
                if kind.work.language_per_hour:
                    own = pools[kind.work.name]
                    per_line = kind.work.language_per_hour / self._workload.lines_per_hour
                    chain.steps.append(_Step(own[number % len(own)], per_line, chain))
            chains.append(chain)
        source.pull(self._ask)

    def _ask(self, step: _Step, num_lines: int) -> None:
        """Let so many lines in all have their requests."""
        step.entered = num_lines
        number = math.ceil(num_lines * step.per_line - 1e-6) - step.asked
        if number <= 0:
            return
        step.asked += number
        pool = step.pool
        if not step.waiting:
            pool.queue.append(step)
        step.waiting += number
        pool.waiting += number
        self._dispatch(pool)

    # --- replicas

    def _free(self, pool: _Pool) -> None:
        pool.idle += 1
        self._dispatch(pool)

    def _dispatch(self, pool: _Pool) -> None:
        while pool.idle and pool.waiting:
            number = left = min(math.ceil(pool.waiting / pool.idle), pool.max_items)
            taken = []
            while left:
                step = pool.queue[0]
                share = min(left, step.waiting)
                step.waiting -= share
                left -= share
                taken.append((step, share))
                pool.queue.rotate(-1) if step.waiting else pool.queue.popleft()
            pool.waiting -= number
            pool.idle -= 1
            pool.calls += 1
            self._next_factor = (self._next_factor + 1) % len(self._factors)
            call_s = pool.time_s(number) * self._factors[self._next_factor]
            pool.busy_s += call_s
            self._at(self._now_s + call_s, lambda taken=taken: self._answer(pool, taken))

    def _answer(self, pool: _Pool, taken: Sequence[tuple[_Step, int]]) -> None:
        pool.idle += 1
        for step, number in taken:
            step.answered += number
        for chain in {step.chain for step, _ in taken}:
            chain.pull(self._ask)
        self._dispatch(pool)
