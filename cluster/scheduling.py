"""What a pool should do next: pure decisions over small snapshots, no clock, no Ray, no waiting.

`pool.py` gathers the snapshot, asks, and applies the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from pydantic import BaseModel, ConfigDict, Field

MAX_RESTART_DELAY_S = 60.0


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
class Backlog:
    """What waits, as far as the next batch depends on it."""

    num_items: int
    """Without the suspects."""
    cost: float
    oldest_s: float | None
    """When the item that has waited longest came; None if none waits."""
    num_suspects: int = 0
    """Items that replicas died with: each gets one to itself, so that a death proves its guilt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaLoad:
    id: int
    num_batches: int
    running_since_s: float = 0.0
    """When it began what it runs: of those that are equally loaded, the first to begin will be the first to end."""
    alone: bool = False
    """What it runs must have no company."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Give this replica the next of the queue, up to ``max_items`` and the limit of cost; or the next suspect."""

    replica_id: int
    max_items: int
    suspect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to send before something changes."""

    until_s: float | None = None
    """When to ask again though nothing has; None for never."""


def next_batch(backlog: Backlog, replicas: Sequence[ReplicaLoad], limits: BatchLimits, now_s: float) -> Send | Wait:
    """Which batch to send now; ask again after each.

    An idle replica gets its share at once: waiting would waste it. A busy one is handed its next batch
    when that is full, or when its oldest item has waited ``max_wait_s``. A suspect waits for an idle
    replica; the least loaded one is kept free of other work until it is idle.
    """
    open_to_work = [replica for replica in replicas if not replica.alone]
    if backlog.num_suspects and open_to_work:
        open_to_work.sort(key=_load)
        if open_to_work[0].num_batches == 0:
            return Send(replica_id=open_to_work[0].id, max_items=1, suspect=True)
        del open_to_work[: backlog.num_suspects]
    if not open_to_work or not backlog.num_items or backlog.oldest_s is None:
        return Wait()
    least = min(open_to_work, key=_load)
    if least.num_batches == 0:
        num_idle = sum(replica.num_batches == 0 for replica in open_to_work)
        share = math.ceil(backlog.num_items / num_idle)
        return Send(replica_id=least.id, max_items=min(share, limits.max_items))
    if least.num_batches >= limits.in_flight:
        return Wait()
    due_s = backlog.oldest_s + limits.max_wait_s
    if not _fills_a_batch(backlog, limits) and now_s < due_s:
        return Wait(until_s=due_s)
    return Send(replica_id=least.id, max_items=limits.max_items)


def _load(replica: ReplicaLoad) -> tuple[int, float, int]:
    return replica.num_batches, replica.running_since_s, replica.id


def _fills_a_batch(backlog: Backlog, limits: BatchLimits) -> bool:
    if backlog.num_items >= limits.max_items:
        return True
    return limits.max_cost is not None and backlog.num_items > 1 and backlog.cost > limits.max_cost


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


def retry_delay_s(first_s: float, num_failures: int, jitter: float) -> float:
    """How long to wait after so many failures: twice as long after each, ± a quarter as ``jitter`` in [0, 1) says.

    Without it, what failed together would come back together, upon whatever it failed for.
    """
    delay_s = min(MAX_RESTART_DELAY_S, first_s * 2.0 ** min(num_failures - 1, 16))
    return delay_s * (0.75 + jitter / 2)
