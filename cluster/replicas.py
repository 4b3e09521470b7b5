"""A replica runs batches on one engine: as a Ray actor, or in this process."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
import ray.exceptions

from actors.errors import DeviceLostError, DubbingError, EngineError, EngineLoadError
from actors.host import ActorHost, BatchReport, EngineHost
from actors.types import Task
from cluster.config import StageConfig

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0


class ReplicaDiedError(Exception):
    """The replica is gone; its batches may be run elsewhere."""


class ReplicaOutOfMemoryError(ReplicaDiedError):
    """It was killed as its node had no memory left: what it ran may have been too much at a time."""


class ReplicaGoneError(ReplicaDiedError):
    """It had died before it was given anything."""


class ReplicaHungError(ReplicaDiedError):
    """It is alive and does not answer: what it ran before has been answered, what is behind has not begun."""


class ResultLostError(Exception):
    """A batch's arguments or results went lost on the way; the replica is well."""


class Replica(ABC):
    """Life: ``place`` and ``load`` once, ``run`` many times (several may be under way), ``close`` or ``kill``."""

    async def place(self) -> None:  # noqa: B027  # where there is no cluster, nothing
        """Wait until there is a process for it. Raises ReplicaDiedError; so it does when there is none any more."""

    @abstractmethod
    async def load(self) -> None:
        """Make the engine ready. Raises EngineLoadError, ReplicaDiedError."""

    @abstractmethod
    async def run(self, batch: Sequence[Any]) -> BatchReport:
        """Batches run one at a time, in the order of the calls.

        Raises EngineError if the whole batch failed, ReplicaDiedError if the replica did, ResultLostError.
        """

    async def close(self) -> None:
        """Free the engine's memory, within ``CLOSE_TIMEOUT_S``, and end."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._unload()
        except (TimeoutError, ReplicaDiedError, EngineError) as error:
            log.warning("replica did not close, killed instead error=%r", error)
        finally:
            self.kill()

    @abstractmethod
    async def _unload(self) -> None:
        """Free the engine's memory. Raises EngineError, ReplicaDiedError."""

    @abstractmethod
    def kill(self) -> None:
        """End at once, whatever it is doing."""


class InlineReplica(Replica):
    """The engine in this process, on one thread of its own: tests and debugging."""

    def __init__(self, task: Task, stage: StageConfig) -> None:
        self._host = EngineHost(task, stage.engine, stage.options)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{task}-{stage.engine}")

    async def load(self) -> None:
        await self._call(self._host.load)

    async def run(self, batch: Sequence[Any]) -> BatchReport:
        report: BatchReport = await self._call(self._host.run, batch)
        return report

    async def _unload(self) -> None:
        await self._call(self._host.close)

    def kill(self) -> None:
        # A thread cannot be killed: it is left to finish its call, and takes no other.
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            call = self._thread.submit(function, *args)
        except RuntimeError as error:  # the executor was shut down
            raise ReplicaDiedError("replica was stopped") from error
        done = asyncio.wrap_future(call)
        try:
            await asyncio.wait((done,))
        finally:
            done.cancel()
        if done.cancelled():  # by kill, before its turn: not the caller's cancellation
            raise ReplicaDiedError("replica was stopped")
        try:
            return done.result()
        except DeviceLostError as error:
            raise ReplicaDiedError(error.message) from error
        except DubbingError:
            raise
        except Exception as error:
            raise EngineError(f"{type(error).__name__}: {error}") from error


class RayReplica(Replica):
    """The engine in a Ray actor of this driver: it dies with the driver, and no GPU leaks."""

    def __init__(self, task: Task, stage: StageConfig) -> None:
        actor = ray.remote(ActorHost).options(
            num_cpus=stage.pool.num_cpus,
            num_gpus=stage.pool.num_gpus,
            resources=dict(stage.pool.resources),
            accelerator_type=stage.pool.accelerator_type,
            label_selector=dict(stage.pool.node_labels),
            # The pool retries by itself: Ray's own restarts would run a poison batch again and again.
            max_restarts=0,
            # A thread for each batch in flight, and one to look after it.
            max_concurrency=stage.pool.batch.in_flight + 1,
            max_task_retries=0,
        )
        self._actor: Any = actor.remote(task, stage.engine, stage.options, stage.pool.niceness)

    async def place(self) -> None:
        await self._call(self._actor.__ray_ready__)

    async def load(self) -> None:
        try:
            await self._call(self._actor.load)
        except EngineLoadError:
            raise
        except EngineError as error:
            raise EngineLoadError(error.message) from error

    async def run(self, batch: Sequence[Any]) -> BatchReport:
        report: BatchReport = await self._call(self._actor.run, batch)
        return report

    async def _unload(self) -> None:
        await self._call(self._actor.close)

    def kill(self) -> None:
        ray.kill(self._actor)

    async def _call(self, method: Any, *args: Any) -> Any:
        try:
            return await method.remote(*args)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, DeviceLostError):
                raise ReplicaDiedError(cause.message) from error
            if isinstance(cause, DubbingError):
                raise cause from error
            raise EngineError(f"{type(cause).__name__}: {cause}") from error
        except _RESULT_LOST as error:
            raise ResultLostError(_describe(error)) from error
        except ray.exceptions.OutOfMemoryError as error:
            raise ReplicaOutOfMemoryError(_describe(error)) from error
        except ray.exceptions.RayError as error:
            # Whatever else Ray raises says that the actor cannot be used: its process or node died
            # (ActorDiedError), cannot be reached (ActorUnavailableError), can never be placed
            # (ActorUnschedulableError).
            raise ReplicaDiedError(_describe(error)) from error


_RESULT_LOST = (
    ray.exceptions.ObjectLostError,  # with the node that held it, or its owner
    ray.exceptions.ObjectStoreFullError,
    ray.exceptions.OutOfDiskError,
)


def _describe(error: ray.exceptions.RayError) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
