"""Recovery of requests whose replica, batch or result was lost: another replica, a batch of their own, or an error."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from actors.errors import EngineError, ItemError, ReplicaLostError
from cluster.config.schema import PoolConfig
from cluster.pools.fleet import Serving, back_off
from cluster.pools.memory_limit import MemoryLimit
from cluster.pools.quarantine import Quarantine
from cluster.pools.replicas import (
    Replica,
    ReplicaDiedError,
    ReplicaGoneError,
    ReplicaHungError,
    ReplicaOutOfMemoryError,
    ResultLostError,
)
from cluster.pools.request_queue import PendingRequest
from cluster.pools.scheduling import AfterLoss, after_loss

E = TypeVar("E", bound=BaseException)

MAX_LOST_RESULTS = 6
"""Results of one request that may be lost. By default the tries span a quarter of a minute, in which a full disk or
object store may come to have room."""


class LossRecovery:
    """Gives each lost request another try through ``retry``, or its final error through ``settle``.

    A request whose replicas keep dying is quarantined: an equal one is refused for a while.
    """

    def __init__(
        self,
        name: str,
        config: PoolConfig,
        memory: MemoryLimit,
        *,
        retry: Callable[[PendingRequest], None],
        settle: Callable[[PendingRequest, Any], None],
    ) -> None:
        self._name = name
        self._config = config
        self._memory = memory
        self._retry = retry
        self._settle = settle
        self._quarantine = Quarantine(config.quarantine_s)

    @property
    def num_quarantined(self) -> int:
        return len(self._quarantine)

    def check(self, request: Any, cost: float, now_s: float) -> None:
        """Raise ReplicaLostError if an equal request is in quarantine."""
        if self._quarantine.has(request, cost, now_s):
            raise ReplicaLostError(
                f"{self._name} must survive this request; replicas were lost with the same one before, and it is "
                f"refused for {self._config.quarantine_s:g} s after that"
            )

    def after_lost_replica(self, batches: Sequence[Sequence[PendingRequest]], error: ReplicaDiedError) -> None:
        """Handle the batches of a dead or hung replica, the running one first."""
        if isinstance(error, ReplicaOutOfMemoryError) and len(batches[0]) > 1:
            self._memory.note_exhausted(sum(entry.cost for entry in batches[0]))
        num_blamed = _num_blamed(error, len(batches))
        for entry in itertools.chain.from_iterable(batches[num_blamed:]):
            self._retry(entry)
        for entry in itertools.chain.from_iterable(batches[:num_blamed]):
            self._after_blame(entry, error)

    async def after_lost_result(
        self, serving: Serving[PendingRequest], entries: Sequence[PendingRequest], error: ResultLostError
    ) -> None:
        """Run the batch again after a pause, in which a full disk or object store may come to have room."""
        for entry in entries:
            entry.num_lost_results += 1
        await back_off(self._config, max(entry.num_lost_results for entry in entries))
        if serving.lost:  # in the meantime; its requests have been handled with it
            return
        for entry in entries:
            if entry.num_lost_results < MAX_LOST_RESULTS:
                self._retry(entry)
                continue
            message = (
                f"{self._name} must get its results; this one was lost on its way {MAX_LOST_RESULTS} times: {error}"
            )
            self._settle(entry, with_cause(ItemError(message), error))

    def after_failed_batch(self, entries: Sequence[PendingRequest], error: Exception) -> None:
        """Run each request of a failed batch alone; one that was alone already fails."""
        if len(entries) == 1:
            message = error.message if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
            self._settle(entries[0], with_cause(ItemError(message), error))
            return
        for entry in entries:
            entry.alone = True
            self._retry(entry)

    def _after_blame(self, entry: PendingRequest, error: ReplicaDiedError) -> None:
        entry.num_losses += 1
        decision = after_loss(entry.num_losses, entry.alone, self._config.max_losses)
        if decision is AfterLoss.GIVE_UP:
            self._give_up(entry, error)
        else:
            entry.alone = decision is AfterLoss.RETRY_ALONE
            self._retry(entry)

    def _give_up(self, entry: PendingRequest, error: ReplicaDiedError) -> None:
        self._quarantine.add(entry.request, entry.cost, asyncio.get_running_loop().time())
        message = (
            f"{self._name} must answer within {self._config.call_timeout_s:g} s and stay alive; "
            f"{entry.num_losses} replicas were lost with this request, the last with nothing else on it: {error}"
        )
        self._settle(entry, with_cause(ReplicaLostError(message), error))


async def check_alive(replica: Replica) -> None:
    """Raise ReplicaGoneError if the replica died while idle, so that a suspect sent to it is not blamed."""
    try:
        await replica.place()
    except ReplicaDiedError as error:
        raise ReplicaGoneError(str(error)) from error


def with_cause(error: E, cause: BaseException) -> E:
    error.__cause__ = cause
    return error


def _num_blamed(error: ReplicaDiedError, num_batches: int) -> int:
    """Number of a lost replica's batches, in the order of running, that may have been its end."""
    if isinstance(error, ReplicaGoneError):
        return 0
    if isinstance(error, ReplicaHungError):
        return 1
    return num_batches  # the answer to the first may have died with the process when the next had begun
