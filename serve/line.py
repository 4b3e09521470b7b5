"""The line that requests stand in before a pool: one that would have to wait too long is told so at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.errors import CapacityError
from cluster.caching import PoolLike
from cluster.pool_stats import PoolStats


class Line:
    """A pool as all requests use it that somebody waits for."""

    def __init__(self, pool: PoolLike, cost: Callable[[Any], float], max_wait_s: float) -> None:
        self.name = pool.name
        self._pool = pool
        self._cost = cost
        self._max_wait_s = max_wait_s
        self._num_inside = 0
        self._cost_inside = 0.0

    @property
    def wait_s(self) -> float:
        """How long those inside will take, at the pace measured lately; 0 while nothing is known of it.

        Dubs are not counted: they leave all but a small share of the pool to requests.
        """
        stats = self.stats()
        return self._cost_inside * (stats.s_per_cost or 0.0) / max(1, stats.num_serving)

    def check(self) -> None:
        """Raises CapacityError if one more would wait too long."""
        wait_s = self.wait_s
        if wait_s > self._max_wait_s:
            raise CapacityError(
                f"a request must have its turn within {self._max_wait_s:g} s; {self.name} needs {wait_s:.1f} s for "
                f"those before it; wait",
                retry_after_s=wait_s - self._max_wait_s,
            )

    async def submit(
        self, request: Any, *, order: float = 0.0, job: str = "", priority: int = 0, weight: float = 1.0
    ) -> Any:
        """As the pool's."""
        cost = self._cost(request)
        self._num_inside += 1
        self._cost_inside += cost
        try:
            return await self._pool.submit(request, order=order, job=job, priority=priority, weight=weight)
        finally:
            self._num_inside -= 1
            # Sums of floats drift; an empty line is where they can be set right.
            self._cost_inside = self._cost_inside - cost if self._num_inside else 0.0

    def stats(self) -> PoolStats:
        return self._pool.stats()
