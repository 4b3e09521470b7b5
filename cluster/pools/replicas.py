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
from actors.host import BatchReport, EngineHost, submit_in_context
from actors.types import Task
from cluster import logs
from cluster.config.schema import StageConfig
from cluster.pools.host_process import ActorHostProcess
from cluster.pools.needs import Need
from cluster.pools.reservation import Bundles, actor_options

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0


class ReplicaDiedError(Exception):
    """The replica is gone; its batches may be run elsewhere."""


class ReplicaOutOfMemoryError(ReplicaDiedError):
    """The replica was killed as its node had no memory left: its batch may have been too large."""


class ReplicaGoneError(ReplicaDiedError):
    """The replica had died before it was given the batch."""


class ReplicaHungError(ReplicaDiedError):
    """The replica is alive and does not answer: earlier batches were answered, later ones have not begun."""


class ResultLostError(Exception):
    """A batch's arguments or results were lost on the way; the replica is well."""


class Replica(ABC):
    """Life cycle: ``place`` and ``load`` once, ``run`` many times, also concurrently, then ``close`` or ``kill``."""

    async def place(self) -> None:  # noqa: B027  # without a cluster there is nothing to wait for
        """Wait until it has a process. Raises ReplicaDiedError, also if the process has ended."""

    @abstractmethod
    async def load(self) -> None:
        """Make the engine ready. Raises EngineLoadError, ReplicaDiedError."""

    @abstractmethod
    async def run(self, batch: Sequence[Any]) -> BatchReport:
        """Run a batch. Concurrent calls run one at a time, in their order.

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
    """Runs the engine in this process, on one thread of its own: for tests and debugging, on CPUs.

    A GPU is refused: after some of its errors CTranslate2 ends the process, which here is the driver.
    """

    def __init__(self, task: Task, stage: StageConfig) -> None:
        """Raises EngineLoadError if the pool reserves a GPU."""
        if stage.pool.num_gpus:
            raise EngineLoadError(
                f"ray.mode inline runs engines on CPUs only; the pool of {task}/{stage.engine} reserves "
                f"{stage.pool.num_gpus:g} of a GPU; set ray.mode to local, which starts Ray on this machine, or "
                "num_gpus to 0"
            )
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
            call = submit_in_context(self._thread, function, *args)
        except RuntimeError as error:  # the executor was shut down
            raise ReplicaDiedError("replica was stopped") from error
        done = asyncio.wrap_future(call)
        try:
            await asyncio.wait((done,))
        finally:
            done.cancel()
        if done.cancelled():  # by kill, before it ran; the caller was not cancelled
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
    """Runs the engine in a Ray actor that ends with this driver, so that no GPU stays reserved.

    The first one of a pool runs in one of ``bundles``, if there is one for it; else, in the first that becomes free
    before a node has room.
    """

    def __init__(self, task: Task, stage: StageConfig, bundles: Bundles | None = None, pool: str = "") -> None:
        self._task = task
        self._stage = stage
        self._bundles = bundles
        self._pool = pool
        self._need = Need.of(f"{task}/{stage.engine}", stage.pool)
        self._is_placed = False
        self._bundle = None if bundles is None else bundles.take(pool, self._need)
        self._actor = self._start()

    @property
    def is_reserved(self) -> bool:
        return self._bundle is not None

    def _start(self) -> Any:
        pool = self._stage.pool
        actor = ray.remote(ActorHostProcess).options(
            num_cpus=pool.num_cpus,
            num_gpus=pool.num_gpus,
            resources=dict(pool.resources),
            accelerator_type=pool.accelerator_type,
            **actor_options(self._bundles, self._bundle, dict(pool.node_labels)),
            # The pool retries by itself: Ray's own restarts would run a poison batch again and again.
            max_restarts=0,
            # A thread for each batch in flight, and one for liveness checks.
            max_concurrency=pool.batch.in_flight + 1,
            max_task_retries=0,
        )
        host = self._task, self._stage.engine, self._stage.options, pool.niceness, pool.num_gpus
        return actor.remote(logs.settings(), dict(logs.fields()), *host)

    async def place(self) -> None:
        if self._bundles is not None and self._bundle is None and not self._is_placed:
            await self._move_when_free(self._bundles)
        await self._call(self._actor.__ray_ready__)
        self._is_placed = True

    async def _move_when_free(self, bundles: Bundles) -> None:
        """Wait until the actor has a process, or start it again in a bundle that becomes free first."""
        ready = asyncio.ensure_future(self._call(self._actor.__ray_ready__))
        freed = asyncio.ensure_future(bundles.take_when_free(self._pool, self._need))
        try:
            await asyncio.wait((ready, freed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (ready, freed):
                waiting.cancel()
            await asyncio.wait((ready, freed))
            if not ready.cancelled():
                ready.exception()  # the next call raises it
            has_bundle = not freed.cancelled()
            if has_bundle:
                self._bundle = freed.result()
        if has_bundle:
            ray.kill(self._actor)
            self._actor = self._start()

    async def load(self) -> None:
        try:
            await self._call(self._actor.load)
        except EngineLoadError:
            raise
        except EngineError as error:
            raise EngineLoadError(error.message) from error

    async def run(self, batch: Sequence[Any]) -> BatchReport:
        # Stage and replica are known there.
        fields = {name: value for name, value in logs.fields().items() if name in logs.JOB_FIELDS}
        report: BatchReport = await self._call(self._actor.run, batch, fields)
        return report

    async def _unload(self) -> None:
        await self._call(self._actor.close)

    async def close(self) -> None:
        bundle = self._bundle
        await super().close()
        if self._bundles is not None and bundle is not None:
            self._bundles.give_up(bundle)

    def kill(self) -> None:
        ray.kill(self._actor)
        if self._bundles is not None and self._bundle is not None:
            self._bundles.release(self._bundle)
            self._bundle = None

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
            # All other errors of Ray mean that the actor cannot be used: its process or node died
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
