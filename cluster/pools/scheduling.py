"""Scheduling of one pool: pure decisions over small snapshots, without clock, Ray or waiting.

`pool.py` gathers the snapshot, asks, and applies the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from cluster.config.schema import BatchLimits

MAX_RESTART_DELAY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The waiting requests, as far as the next batch depends on them."""

    num_items: int
    """Number of items, without the suspects."""
    cost: float
    num_suspects: int = 0
    """Items with which replicas died. Each runs alone on a replica, so that another death proves it the cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaLoad:
    id: int
    num_batches: int
    running_since_s: float = 0.0
    """Start of the running batch: of equally loaded replicas, the first to begin will be the first to end."""
    idle_from_s: float | None = None
    """Earliest time at which it is expected to have run all its batches; None while that cannot be told."""
    alone: bool = False
    """It runs a suspect, beside which nothing may run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send this replica a batch from the queue, up to ``max_items`` and the limit of cost; or the next suspect."""

    replica_id: int
    max_items: int
    suspect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to send before something changes."""

    until_s: float | None = None
    """Time to ask again though nothing has changed; None for never."""


def next_batch(
    backlog: Backlog,
    replicas: Sequence[ReplicaLoad],
    limits: BatchLimits,
    lead_s: float,
    now_s: float,
    num_idle: int | None = None,
) -> Send | Wait:
    """Decide on the batch to send now; ask again after each.

    An idle replica gets its share at once: waiting would waste it. A busy one is handed a full batch ``lead_s``
    before it is expected to be idle, or at once where that cannot be told. Until then the batch can still take in
    what is needed earlier, or go to a replica that ends first. What fills no batch waits for an idle replica:
    the answers of the running batch bring new requests, which then run with it. A suspect waits for an idle replica
    too; the least loaded one is kept free of other work until it is idle. ``replicas`` are all, or without suspects
    those that `loads.py` finds worth a look; ``num_idle`` is then the number of all idle ones.
    """
    open_to_work = [replica for replica in replicas if not replica.alone]
    if backlog.num_suspects and open_to_work:
        open_to_work.sort(key=load_order)
        if open_to_work[0].num_batches == 0:
            return Send(replica_id=open_to_work[0].id, max_items=1, suspect=True)
        del open_to_work[: backlog.num_suspects]
    if not open_to_work or not backlog.num_items:
        return Wait()
    idle = [replica for replica in open_to_work if replica.num_batches == 0]
    if idle:
        share = math.ceil(backlog.num_items / (len(idle) if num_idle is None else num_idle))
        return Send(replica_id=min(idle, key=load_order).id, max_items=min(share, limits.max_items))
    busy = [replica for replica in open_to_work if replica.num_batches < limits.in_flight]
    if not busy or not _fills_a_batch(backlog, limits):
        return Wait()
    first = min(busy, key=lambda replica: (_due_s(replica, lead_s, now_s), load_order(replica)))
    due_s = _due_s(first, lead_s, now_s)
    return Wait(until_s=due_s) if due_s > now_s else Send(replica_id=first.id, max_items=limits.max_items)


def load_order(replica: ReplicaLoad) -> tuple[int, float, int]:
    """Sort key, the least loaded first."""
    return replica.num_batches, replica.running_since_s, replica.id


def _due_s(replica: ReplicaLoad, lead_s: float, now_s: float) -> float:
    """Time to hand a busy replica its next batch, not before now."""
    return now_s if replica.idle_from_s is None else max(now_s, replica.idle_from_s - lead_s)


def _fills_a_batch(backlog: Backlog, limits: BatchLimits) -> bool:
    if backlog.num_items >= limits.max_items:
        return True
    return limits.max_cost is not None and backlog.num_items > 1 and backlog.cost > limits.max_cost


class AfterLoss(Enum):
    """Decision on an item whose replica died or hung with it."""

    RETRY = auto()
    RETRY_ALONE = auto()
    GIVE_UP = auto()


def after_loss(num_losses: int, was_alone: bool, max_losses: int) -> AfterLoss:
    """Decide on an item that was lost: after a second loss it runs alone; lost alone, it is the cause.

    ``max_losses`` is at least 2: nothing is given up that did not have its last try alone.
    """
    if was_alone and num_losses >= max_losses:
        return AfterLoss.GIVE_UP
    return AfterLoss.RETRY if num_losses == 1 and max_losses > 2 else AfterLoss.RETRY_ALONE


def retry_delay_s(first_s: float, num_failures: int, jitter: float) -> float:
    """Exponential backoff: doubles with each failure, ± a quarter by ``jitter`` in [0, 1).

    Without jitter, replicas that failed together would all be tried again at the same time.
    """
    delay_s = min(MAX_RESTART_DELAY_S, first_s * 2.0 ** min(num_failures - 1, 16))
    return delay_s * (0.75 + jitter / 2)
