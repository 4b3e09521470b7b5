"""Start-time fair queueing across jobs, with admission control.

In start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) each contender has a virtual time, which moves
by the served work over its weight; the contender furthest behind is next. It is used twice: between priority
classes, and between the jobs of a class, of which a short one weighs more. A contender that comes, or comes back,
starts at the present, so it is served soon and cannot save up turns. No clock, no Ray; every step takes O(log n).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T", bound="Ticket")

PRIORITY_WEIGHT = 16.0
"""Work that a class is served for each unit of the class below, while both wait. It goes first, and none starves."""

USUAL_JOB_S = 600.0
"""Media length of a job that weighs 1."""
MAX_WEIGHT = 2.0
"""Highest weight. The lowest is its inverse: a long job keeps at least a quarter of an equal share."""


def job_weight(media_s: float) -> float:
    """Weight of a job by its media length; 1 if that is 0, unknown.

    With equal shares a short job beside a long one takes twice its time alone, while the long one ends no sooner.
    The root favours the short one, and treats jobs of similar length about alike; the limits keep a long one
    moving, however many short ones come.
    """
    if media_s <= 0:
        return 1.0
    return min(MAX_WEIGHT, max(1 / MAX_WEIGHT, math.sqrt(USUAL_JOB_S / media_s)))


@dataclass(slots=True, eq=False, kw_only=True)
class Ticket:
    """A waiting request, as far as the queue is concerned."""

    job: str
    priority: int
    """Priority class; a higher one is served sooner."""
    order: float
    """Order within its job, lowest first: the time at which its result is needed."""
    cost: float
    """The engine's work for it."""
    queued_s: float
    weight: float = 1.0
    """Its job's weight: the share of the work among the jobs of its priority."""
    already_charged: bool = False
    """True if its job was charged for it: a request that comes back from a lost replica is free."""
    sequence: int = -1
    """Order of arrival, which decides between equals."""


class _VirtualTimeQueue(Generic[K]):
    """Contenders by virtual time, the one furthest behind first."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, K]] = []
        self._arrivals = itertools.count()
        self._now = 0.0
        self._reached: dict[K, float] = {}
        """Virtual time up to which each contender was served; entries in the past are dropped."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def join(self, key: K) -> None:
        start = max(self._now, self._reached.get(key, 0.0))
        heapq.heappush(self._waiting, (start, next(self._arrivals), key))

    def first(self) -> K:
        return self._waiting[0][2]

    def serve(self, amount: float, *, stays: bool) -> None:
        """Charge the first contender ``amount``, which is work over weight; it ``stays`` while it has more waiting."""
        start, _, key = self._waiting[0]
        self._now = start
        reached = self._reached[key] = start + amount
        if stays:
            heapq.heapreplace(self._waiting, (reached, next(self._arrivals), key))
        else:
            heapq.heappop(self._waiting)
            self._forget()

    def leave(self, key: K) -> None:
        self._waiting = [contender for contender in self._waiting if contender[2] != key]
        heapq.heapify(self._waiting)

    def _forget(self) -> None:
        if len(self._reached) > 2 * len(self._waiting) + 64:
            self._reached = {key: reached for key, reached in self._reached.items() if reached > self._now}


@dataclass(slots=True, eq=False)
class _Class(Generic[T]):
    """The jobs of one priority, each with a heap of its waiting requests."""

    turns: _VirtualTimeQueue[str] = field(default_factory=_VirtualTimeQueue)
    jobs: dict[str, list[tuple[float, int, T]]] = field(default_factory=dict)


class FairQueue(Generic[T]):
    """A fair queue: by weighted cost between priorities and between the jobs of one, by ``order`` within a job."""

    def __init__(self) -> None:
        self._turns: _VirtualTimeQueue[int] = _VirtualTimeQueue()
        self._classes: dict[int, _Class[T]] = {}
        self._arrived: OrderedDict[T, None] = OrderedDict()
        self._sequence = itertools.count()
        self._cost = 0.0

    def __len__(self) -> int:
        return len(self._arrived)

    def __contains__(self, ticket: T) -> bool:
        return ticket in self._arrived

    @property
    def cost(self) -> float:
        """Total cost of all waiting requests."""
        return self._cost

    @property
    def oldest_s(self) -> float | None:
        """Time at which the oldest waiting request came; None if none waits."""
        return next(iter(self._arrived)).queued_s if self._arrived else None

    def push(self, ticket: T) -> None:
        if ticket.sequence < 0:
            ticket.sequence = next(self._sequence)
        group = self._classes.get(ticket.priority)
        if group is None:
            group = self._classes[ticket.priority] = _Class()
            self._turns.join(ticket.priority)
        heap = group.jobs.get(ticket.job)
        if heap is None:
            heap = group.jobs[ticket.job] = []
            group.turns.join(ticket.job)
        heapq.heappush(heap, (ticket.order, ticket.sequence, ticket))
        self._arrived[ticket] = None
        if ticket.already_charged:  # it has been here before
            self._arrived.move_to_end(ticket, last=False)
        self._cost += ticket.cost

    def first(self) -> T:
        group = self._classes[self._turns.first()]
        return group.jobs[group.turns.first()][0][2]

    def pop(self) -> T:
        priority = self._turns.first()
        group = self._classes[priority]
        job = group.turns.first()
        heap = group.jobs[job]
        ticket = heapq.heappop(heap)[2]
        charge = 0.0 if ticket.already_charged else ticket.cost
        ticket.already_charged = True
        group.turns.serve(charge / ticket.weight, stays=bool(heap))
        if not heap:
            del group.jobs[job]
        self._turns.serve(charge / PRIORITY_WEIGHT**priority, stays=bool(group.jobs))
        self._forget(ticket, priority)
        return ticket

    def take(self, max_items: int, max_cost: float | None) -> list[T]:
        """Remove and return the next batch, within both limits; one request alone may exceed ``max_cost``."""
        batch: list[T] = []
        cost = 0.0
        while self._arrived and len(batch) < max_items:
            cost += self.first().cost
            if batch and max_cost is not None and cost > max_cost:
                break
            batch.append(self.pop())
        return batch

    def remove(self, ticket: T) -> None:
        """Remove a waiting request; takes O(n) for a job with n waiting requests."""
        group = self._classes[ticket.priority]
        heap = [place for place in group.jobs[ticket.job] if place[2] is not ticket]
        heapq.heapify(heap)
        group.jobs[ticket.job] = heap
        if not heap:
            del group.jobs[ticket.job]
            group.turns.leave(ticket.job)
        if not group.jobs:
            self._turns.leave(ticket.priority)
        self._forget(ticket, ticket.priority)

    def drain(self) -> list[T]:
        """Remove and return all waiting requests, in order of arrival."""
        tickets = list(self._arrived)
        self._turns, self._classes, self._arrived, self._cost = _VirtualTimeQueue(), {}, OrderedDict(), 0.0
        return tickets

    def _forget(self, ticket: T, priority: int) -> None:
        del self._arrived[ticket]
        # Sums of floats drift; an empty queue is where they can be set right.
        self._cost = self._cost - ticket.cost if self._arrived else 0.0
        if not self._classes[priority].jobs:
            del self._classes[priority]


class AdmissionLimiter:
    """Bounds the number of accepted requests, in all and per job. A free place goes to the waiting job with fewest.

    So a job that comes late waits for one place, not behind all requests of the others.
    """

    def __init__(self, max_items: int, max_items_per_job: int) -> None:
        self._num_free = max_items
        self._max_per_job = max_items_per_job
        self._num_accepted: dict[str, int] = {}
        self._waiting_by_job: dict[str, deque[asyncio.Future[None]]] = {}

    async def enter(self, job: str) -> None:
        if self._has_room(job):
            return self._accept(job)
        turn = asyncio.get_running_loop().create_future()
        self._waiting_by_job.setdefault(job, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._withdraw(job, turn)
            else:  # accepted just before it was cancelled
                self.leave(job)
            raise

    def leave(self, job: str) -> None:
        self._num_free += 1
        self._num_accepted[job] -= 1
        if not self._num_accepted[job]:
            del self._num_accepted[job]
        # Requests with room were accepted at once, so only the place that just fell free is to be given away.
        while ready := [waiting for waiting in self._waiting_by_job if self._has_room(waiting)]:
            chosen = min(ready, key=lambda waiting: self._num_accepted.get(waiting, 0))
            turns = self._waiting_by_job.pop(chosen)
            turn = turns.popleft()
            if turns:
                self._waiting_by_job[chosen] = turns  # last, so that jobs with as many places take turns
            if not turn.cancelled():
                self._accept(chosen)
                turn.set_result(None)

    def _has_room(self, job: str) -> bool:
        return self._num_free > 0 and self._num_accepted.get(job, 0) < self._max_per_job

    def _accept(self, job: str) -> None:
        self._num_free -= 1
        self._num_accepted[job] = self._num_accepted.get(job, 0) + 1

    def _withdraw(self, job: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting_by_job.get(job)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting_by_job[job]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPriority:
    """A job as pools see it: its name, its priority class, and the length that decides its weight."""

    name: str = ""
    """Jobs of different names take turns. The empty name stands for no job in particular."""
    priority: int = 0
    """Priority class; a higher one is served sooner."""
    media_s: float = 0.0
    """Length of its media in seconds; 0 if unknown."""
