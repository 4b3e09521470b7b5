"""Admission control before a pool: a request that would wait too long is refused at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from actors.errors import CapacityError
from cluster.pools.cached_pool import PoolLike
from cluster.pools.fairness import JobPriority
from cluster.pools.stats import PoolStats
from serve.threads import OWNER

REQUEST_PRIORITY = 1
"""Requests go before dubs, because a client waits for the answer. Pools limit the effect on dubs."""


class AdmissionQueue:
    """A pool with a limit on the waiting time. All HTTP requests to the pool share one such queue."""

    def __init__(self, pool: PoolLike, cost: Callable[[Any], float], max_wait_s: float) -> None:
        self.name = pool.name
        self._pool = pool
        self._cost = cost
        self._max_wait_s = max_wait_s
        self._num_inside: Counter[str] = Counter()
        """Requests inside, by owner."""
        self._cost_inside: dict[str, float] = {}

    @property
    def wait_s(self) -> float:
        """Estimated time until the owner's requests inside are served, at the measured pace; 0 until one is measured.

        The pool serves owners in turn: until this one's are done, none of the others is served more. Dubs are not
        counted, because they leave almost the whole pool to requests.
        """
        stats = self.stats()
        own = self._cost_inside.get(OWNER.get(), 0.0)
        cost = sum(min(own, each) for each in self._cost_inside.values())
        return cost * (stats.s_per_cost or 0.0) / max(1, stats.num_serving)

    def check(self) -> None:
        """Raise CapacityError if another request would wait too long."""
        wait_s = self.wait_s
        if wait_s > self._max_wait_s:
            raise CapacityError(
                f"a request must be served within {self._max_wait_s:g} s; {self.name} needs {wait_s:.1f} s for the "
                f"requests before it; wait",
                retry_after_s=wait_s - self._max_wait_s,
            )

    async def submit(
        self, request: Any, *, order: float = 0.0, job: str = "", priority: int = 0, weight: float = 1.0
    ) -> Any:
        """Like the pool's ``submit``."""
        cost, owner = self._cost(request), OWNER.get()
        self._num_inside[owner] += 1
        self._cost_inside[owner] = self._cost_inside.get(owner, 0.0) + cost
        try:
            return await self._pool.submit(request, order=order, job=job, priority=priority, weight=weight)
        finally:
            self._num_inside[owner] -= 1
            self._cost_inside[owner] -= cost
            if not self._num_inside[owner]:  # also sets the sum right, which drifts
                del self._num_inside[owner], self._cost_inside[owner]

    def stats(self) -> PoolStats:
        return self._pool.stats()


def request_priority() -> JobPriority:
    """The priority of a request: those of one owner count as one job, so that owners take turns."""
    return JobPriority(name=f"requests of {OWNER.get()}", priority=REQUEST_PRIORITY)
