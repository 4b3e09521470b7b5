"""What a pool should do next: pure decisions over small snapshots, no clock, no Ray, no waiting.

`pool.py` gathers the snapshot, asks, and applies the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from pydantic import BaseModel, ConfigDict, Field


class BatchLimits(BaseModel):
    """How large a micro-batch may be, and how long it may wait to become so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_items: int = Field(default=8, ge=1, le=4096)
    max_cost: float | None = Field(default=None, gt=0)
    """In the engine's unit of cost (tokens, seconds of audio); None for no limit. One item alone may exceed it."""
    max_wait_s: float = Field(default=0.02, ge=0, le=10)
    """How long an item may wait for company while its replica is busy anyway."""
    in_flight: int = Field(default=2, ge=1, le=16)
    """Batches handed to one replica at a time: with two, none waits on the driver between batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedItem:
    """One waiting request; the queue is sorted, the next one needed first."""

    cost: float
    queued_s: float
    alone: bool = False
    """Replicas died with it and others: it gets one to itself, so that a death proves its guilt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaLoad:
    id: int
    num_batches: int
    alone: bool = False
    """What it runs must have no company."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Send the next ``num_items`` of the queue to this replica."""

    replica_id: int
    num_items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    assignments: tuple[Assignment, ...]
    wake_at_s: float | None
    """When to ask again though nothing has changed; None for never."""


def dispatch(
    queue: Sequence[QueuedItem], replicas: Sequence[ReplicaLoad], limits: BatchLimits, now_s: float
) -> Dispatch:
    """Which batches to send now.

    An idle replica gets its share at once: waiting would waste it. A busy one is handed its next
    batch when that is full, or when its oldest item has waited ``max_wait_s``. An item that must be
    alone waits for an idle replica, and all behind it wait too, or it might never find one.
    """
    assignments: list[Assignment] = []
    taken = 0
    num_batches = {replica.id: replica.num_batches for replica in replicas if not replica.alone}
    for depth in range(limits.in_flight):
        level = sorted(replica_id for replica_id, number in num_batches.items() if number == depth)
        for num_served, replica_id in enumerate(level):
            if taken == len(queue):
                break
            alone = queue[taken].alone
            if depth == 0:
                share = math.ceil((len(queue) - taken) / (len(level) - num_served))
                num_items = _batch_size(queue, taken, min(share, limits.max_items), limits.max_cost)
            elif alone:
                return Dispatch(assignments=tuple(assignments), wake_at_s=None)
            else:
                num_items = _batch_size(queue, taken, limits.max_items, limits.max_cost)
                is_full = taken + num_items < len(queue) or num_items == limits.max_items
                due_s = min(item.queued_s for item in queue[taken : taken + num_items]) + limits.max_wait_s
                if not is_full and now_s < due_s:
                    return Dispatch(assignments=tuple(assignments), wake_at_s=due_s)
            assignments.append(Assignment(replica_id=replica_id, num_items=num_items))
            taken += num_items
            if alone:
                del num_batches[replica_id]
            else:
                num_batches[replica_id] += 1
    return Dispatch(assignments=tuple(assignments), wake_at_s=None)


def _batch_size(queue: Sequence[QueuedItem], first: int, max_items: int, max_cost: float | None) -> int:
    """How many items from ``first`` on make one batch; at least one."""
    if queue[first].alone:
        return 1
    cost = 0.0
    for num_items, item in enumerate(queue[first : first + max_items]):
        cost += item.cost
        if num_items and (item.alone or (max_cost is not None and cost > max_cost)):
            return num_items
    return min(max_items, len(queue) - first)


class AfterLoss(Enum):
    """What becomes of an item whose replica died or hung with it."""

    RETRY = auto()
    RETRY_ALONE = auto()
    GIVE_UP = auto()


def after_loss(num_losses: int, was_alone: bool, max_losses: int) -> AfterLoss:
    """A first loss may be anybody's fault; after a second the item runs alone; lost alone, it is at fault.

    ``max_losses`` is at least 2: nothing is given up that did not have its last try alone.
    """
    if was_alone and num_losses >= max_losses:
        return AfterLoss.GIVE_UP
    return AfterLoss.RETRY if num_losses == 1 and max_losses > 2 else AfterLoss.RETRY_ALONE
