"""An index of replicas by their load: a decision looks at the few that it may choose, however many there are."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from typing import Any

from cluster.pools.scheduling import ReplicaLoad, load_order

MAX_STALE = 64


class _Heap:
    """Loads in an order; those that are not current any more are left where they are until they come first."""

    def __init__(self, current: dict[int, ReplicaLoad]) -> None:
        self._current = current
        self._entries: list[tuple[Any, int, ReplicaLoad]] = []
        self._arrivals = itertools.count()

    def push(self, key: Any, load: ReplicaLoad) -> None:
        heapq.heappush(self._entries, (key, next(self._arrivals), load))
        if len(self._entries) > 2 * len(self._current) + MAX_STALE:
            self._entries = [entry for entry in self._entries if self._is_current(entry[2])]
            heapq.heapify(self._entries)

    def first(self) -> ReplicaLoad | None:
        while self._entries and not self._is_current(self._entries[0][2]):
            heapq.heappop(self._entries)
        return self._entries[0][2] if self._entries else None

    def pop(self) -> ReplicaLoad:
        return heapq.heappop(self._entries)[2]

    def _is_current(self, load: ReplicaLoad) -> bool:
        return self._current.get(load.id) is load


class LoadIndex:
    """The current load of each serving replica. A step takes O(log n)."""

    def __init__(self, max_batches: int) -> None:
        self._max_batches = max_batches
        self._current: dict[int, ReplicaLoad] = {}
        self._idle = _Heap(self._current)
        self._coming = _Heap(self._current)
        """Busy ones, by the time at which they are expected to be idle."""
        self._due = _Heap(self._current)
        """Busy ones whose next batch is due, or of which nobody can tell, by their load."""
        self.num_idle = 0

    def update(self, load: ReplicaLoad) -> None:
        """Note the load of a replica, in place of the one before."""
        self.remove(load.id)
        self._current[load.id] = load
        if load.num_batches == 0:
            self.num_idle += 1
            self._idle.push(load_order(load), load)
        elif load.alone or load.num_batches >= self._max_batches:
            return
        elif load.idle_from_s is None:
            self._due.push(load_order(load), load)
        else:
            self._coming.push((load.idle_from_s, load_order(load)), load)

    def remove(self, replica_id: int) -> None:
        load = self._current.pop(replica_id, None)
        if load is not None and load.num_batches == 0:
            self.num_idle -= 1

    def all(self) -> Sequence[ReplicaLoad]:
        return list(self._current.values())

    def candidates(self, lead_s: float, now_s: float) -> Sequence[ReplicaLoad]:
        """The loads among which ``next_batch`` would choose, if it were given all and there is no suspect."""
        if (idle := self._idle.first()) is not None:
            return (idle,)
        while (coming := self._coming.first()) is not None:
            assert coming.idle_from_s is not None
            if coming.idle_from_s - lead_s > now_s:
                break
            self._due.push(load_order(coming), self._coming.pop())
        return [load for load in (self._due.first(), coming) if load is not None]
