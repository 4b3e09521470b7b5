"""How a pool is, and what it has done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """What a pool has done so far, and how it is."""

    name: str
    num_items: int
    num_failed: int
    num_batches: int
    num_lost_replicas: int
    engine_s: float
    """Seconds spent inside engines, over all replicas."""
    queue_items: int
    queue_cost: float = 0.0
    """In the engine's unit."""
    running_items: int = 0
    running_cost: float = 0.0
    oldest_wait_s: float = 0.0
    """Of what is in the queue."""
    target: int = 0
    """Replicas wanted."""
    num_serving: int = 0
    num_loading: int = 0
    num_pending: int = 0
    """Replicas that no node has room for yet."""
    num_draining: int = 0
    num_resting: int = 0
    """Replicas that did not load, and are tried again later."""
    num_busy: int = 0
    """Replicas at work."""
    busy_s: float = 0.0
    """Seconds that replicas have been at work in all, summed over them."""
    s_per_cost: float | None = None
    """Seconds of one replica per unit of cost, lately; None until measured."""
    memory_cost_limit: float | None = None
    """Cost that a batch is kept to since a larger one was too much for memory; None if none was."""
    num_quarantined: int = 0
    """Requests that are refused, as replicas died of them."""
    last_error: str | None = None
    """Of a replica."""
    num_hits: int = 0
    """Results that lay in the store, and never came here."""
    num_misses: int = 0
    num_corrupt: int = 0
    """Of the misses: values found damaged, and removed."""
    num_shared: int = 0
    """Requests that were under way already, and took that one's result."""


class Stopwatch:
    """Adds up the time of several at once."""

    def __init__(self) -> None:
        self.number = 0
        self._since_s = 0.0
        self._total_s = 0.0

    def add(self, change: int, now_s: float) -> None:
        """So many more are at work from now on."""
        self._total_s = self.total_s(now_s)
        self._since_s = now_s
        self.number += change

    def total_s(self, now_s: float) -> float:
        return self._total_s + self.number * (now_s - self._since_s)
