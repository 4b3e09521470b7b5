"""The requests of one pool that wait for a replica: those in the fair queue, and suspects, which run alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.pools.fairness import FairQueue, Ticket
from cluster.pools.scheduling import Backlog
from cluster.tracing.spans import SpanContext


@dataclass(slots=True, eq=False, kw_only=True)
class PendingRequest(Ticket):
    """A request from its submission to its outcome."""

    request: Any
    outcome: asyncio.Future[Any]
    log_fields: Mapping[str, str] = field(default_factory=dict)
    """Fields of log records about it."""
    span: SpanContext | None = None
    """The step that asks, where the job is traced."""
    num_losses: int = 0
    """Replicas that were lost with it."""
    num_lost_results: int = 0
    alone: bool = False
    """It runs in a batch of its own: replicas died with it and others, or a batch that it was in failed."""


class RequestQueue:
    """The fair queue, and beside it the suspects in order of arrival."""

    def __init__(self) -> None:
        self._queue: FairQueue[PendingRequest] = FairQueue()
        self._suspects: deque[PendingRequest] = deque()

    def __len__(self) -> int:
        return len(self._queue) + len(self._suspects)

    @property
    def cost(self) -> float:
        """Total cost of all waiting requests, suspects included."""
        return self._queue.cost + sum(entry.cost for entry in self._suspects)

    @property
    def oldest_s(self) -> float | None:
        """Time at which the oldest waiting request came, suspects excluded; None if there is none."""
        return self._queue.oldest_s

    def backlog(self) -> Backlog:
        queue = self._queue
        return Backlog(num_items=len(queue), cost=queue.cost, num_suspects=len(self._suspects))

    def push(self, entry: PendingRequest) -> None:
        if entry.alone:
            self._suspects.append(entry)
        else:
            self._queue.push(entry)

    def take(self, max_items: int, max_cost: float | None) -> Sequence[PendingRequest]:
        """Remove and return the next batch."""
        return self._queue.take(max_items, max_cost)

    def take_suspect(self) -> PendingRequest:
        """Remove and return the suspect that came first."""
        return self._suspects.popleft()

    def discard(self, entry: PendingRequest) -> None:
        """Remove a request whose caller has gone; one that is on a replica already is left there."""
        if entry in self._queue:
            self._queue.remove(entry)
        with contextlib.suppress(ValueError):
            self._suspects.remove(entry)

    def drain(self) -> list[PendingRequest]:
        """Remove and return all waiting requests."""
        waiting = [*self._queue.drain(), *self._suspects]
        self._suspects.clear()
        return waiting
