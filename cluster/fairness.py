"""Whose turn it is: one queue for many jobs, and the door before it.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): each contender has a virtual time, which moves
by what it is given over its weight, and the one furthest behind is next. It is used twice: between classes of
priority, and within one between its jobs, of which a short one weighs more. One that comes (back) starts at
the present, so it is served soon and cannot save up turns. No clock, no Ray; every step takes O(log n).
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
"""Work a class is given for each unit of the class below, while both wait: first served, and nobody starves."""

USUAL_JOB_S = 600.0
"""Of media: a job of this length weighs 1."""
MAX_WEIGHT = 2.0
"""And the least is the inverse of it: a long job keeps at least a quarter of what equal turns would give it."""


def job_weight(media_s: float) -> float:
    """What a job is given for each unit of a job of usual length, by its own length; 0 if that is not known.

    With equal turns a short job beside a long one takes twice its time alone, and leaves the long one nothing
    that it would not have had in the end. The root gives the short one most of the way, and jobs of similar length
    about the same; the limits keep a long one moving, however many short ones come.
    """
    if media_s <= 0:
        return 1.0
    return min(MAX_WEIGHT, max(1 / MAX_WEIGHT, math.sqrt(USUAL_JOB_S / media_s)))


@dataclass(slots=True, eq=False, kw_only=True)
class Ticket:
    """What the queue must know of one that waits."""

    job: str
    priority: int
    """The higher, the sooner."""
    order: float
    """Within its job, the lowest first: the time it is needed."""
    cost: float
    """Of the engine's work."""
    queued_s: float
    weight: float = 1.0
    """Of its job among those of its priority: what it is given while they wait too, in proportion."""
    paid: bool = False
    """Its job was charged for it: one that comes back, as its replica died, goes free."""
    sequence: int = -1
    """Equals go in order of arrival."""


class _Turns(Generic[K]):
    """Contenders by virtual time."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, K]] = []
        self._arrivals = itertools.count()
        self._now = 0.0
        self._reached: dict[K, float] = {}
        """Virtual time each has been served up to; what lies in the past is forgotten."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def join(self, key: K) -> None:
        start = max(self._now, self._reached.get(key, 0.0))
        heapq.heappush(self._waiting, (start, next(self._arrivals), key))

    def first(self) -> K:
        return self._waiting[0][2]

    def serve(self, amount: float, *, stays: bool) -> None:
        """The first has been given ``amount``, in proportion to its weight; it stays while it wants more."""
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
    """The jobs of one priority, each a heap of what it has waiting."""

    turns: _Turns[str] = field(default_factory=_Turns)
    jobs: dict[str, list[tuple[float, int, T]]] = field(default_factory=dict)


class FairQueue(Generic[T]):
    """Takes turns between priorities and between the jobs of one, by cost over weight; within a job by order."""

    def __init__(self) -> None:
        self._turns: _Turns[int] = _Turns()
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
        """Of all that waits."""
        return self._cost

    @property
    def oldest_s(self) -> float | None:
        """When the one that has waited longest came; None if none waits."""
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
        if ticket.paid:  # it has been here before
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
        charge = 0.0 if ticket.paid else ticket.cost
        ticket.paid = True
        group.turns.serve(charge / ticket.weight, stays=bool(heap))
        if not heap:
            del group.jobs[job]
        self._turns.serve(charge / PRIORITY_WEIGHT**priority, stays=bool(group.jobs))
        self._forget(ticket, priority)
        return ticket

    def take(self, max_items: int, max_cost: float | None) -> list[T]:
        """The next batch: within both limits, and at least one if any waits, though it alone exceed the cost."""
        batch: list[T] = []
        cost = 0.0
        while self._arrived and len(batch) < max_items:
            cost += self.first().cost
            if batch and max_cost is not None and cost > max_cost:
                break
            batch.append(self.pop())
        return batch

    def remove(self, ticket: T) -> None:
        """Take out one that waits, wherever it stands; takes O(n), n being what its job has waiting."""
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
        """Everything that waits, in order of arrival; nothing does any more."""
        tickets = list(self._arrived)
        self._turns, self._classes, self._arrived, self._cost = _Turns(), {}, OrderedDict(), 0.0
        return tickets

    def _forget(self, ticket: T, priority: int) -> None:
        del self._arrived[ticket]
        # Sums of floats drift; an empty queue is where they can be set right.
        self._cost = self._cost - ticket.cost if self._arrived else 0.0
        if not self._classes[priority].jobs:
            del self._classes[priority]


class Door:
    """Lets a bounded number in, in all and of each job. A place that falls free goes to the waiting job with fewest.

    So one that comes late waits for one place, not for all that the others would still fill.
    """

    def __init__(self, max_items: int, max_items_per_job: int) -> None:
        self._num_free = max_items
        self._max_per_job = max_items_per_job
        self._inside: dict[str, int] = {}
        self._outside: dict[str, deque[asyncio.Future[None]]] = {}

    async def enter(self, job: str) -> None:
        if self._has_room(job):
            return self._let_in(job)
        turn = asyncio.get_running_loop().create_future()
        self._outside.setdefault(job, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._turn_away(job, turn)
            else:  # let in just before it was cancelled
                self.leave(job)
            raise

    def leave(self, job: str) -> None:
        self._num_free += 1
        self._inside[job] -= 1
        if not self._inside[job]:
            del self._inside[job]
        # Whom there was room for is inside already, so only what just fell free need be given away.
        while ready := [waiting for waiting in self._outside if self._has_room(waiting)]:
            chosen = min(ready, key=lambda waiting: self._inside.get(waiting, 0))
            turns = self._outside[chosen]
            turn = turns.popleft()
            if not turns:
                del self._outside[chosen]
            if not turn.cancelled():
                self._let_in(chosen)
                turn.set_result(None)

    def _has_room(self, job: str) -> bool:
        return self._num_free > 0 and self._inside.get(job, 0) < self._max_per_job

    def _let_in(self, job: str) -> None:
        self._num_free -= 1
        self._inside[job] = self._inside.get(job, 0) + 1

    def _turn_away(self, job: str, turn: asyncio.Future[None]) -> None:
        turns = self._outside.get(job)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._outside[job]
