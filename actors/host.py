"""Hosts of one engine each: a Ray actor in a cluster, a plain object in-process."""

from __future__ import annotations

import contextvars
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from actors.device import DeviceFault, GpuMeter, GpuUse, device_fault, release_memory
from actors.engine import Engine, make_engine
from actors.errors import DeviceLostError, DubbingError, EngineError, EngineLoadError, ItemError
from actors.garbage import collect_rarely
from actors.types import ItemFailure, Task

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """A batch's results, and their cost in time and memory."""

    results: list[Any]
    run_s: float
    """Seconds inside the engine."""
    began_s: float | None = None
    """Unix time at which the engine began, by the clock of its node."""
    exhausted_cost: float | None = None
    """Cost of the smallest batch that exceeded the memory and was run in halves; None if none did. Batches with an
    item that is too large by itself do not count, as they tell nothing about others."""
    gpu: GpuUse | None = None
    """Latest reading of the replica's GPU; None on a CPU."""


class EngineHost:
    """Loads an engine and enforces its contract: one result per request, failures confined to their item.

    The engine runs on a GPU if ``num_gpus`` is above 0, else on the CPU.
    """

    def __init__(self, task: Task, engine: str, options: Mapping[str, Any], num_gpus: float = 0.0) -> None:
        self._name = f"{task}/{engine}"
        self._engine = make_engine(task, engine, options)
        self._engine.num_gpus = num_gpus
        self._meter = GpuMeter() if num_gpus else None

    def load(self) -> float:
        """Load the engine; returns the seconds it took. Raises EngineLoadError, DeviceLostError."""
        start = time.perf_counter()
        self._check_device()
        self._engine.check_packages()
        try:
            self._engine.load()
        except EngineLoadError:
            raise
        except DubbingError as error:
            raise EngineLoadError(error.message) from error
        except Exception as error:
            raise self._load_error(error) from error
        load_s = time.perf_counter() - start
        log.info("loaded engine=%s pid=%d load_s=%.2f", self._name, os.getpid(), load_s)
        return load_s

    def _check_device(self) -> None:
        num_gpus = self._engine.num_gpus
        if num_gpus and not self._engine.runs_on_gpu:
            raise EngineLoadError(
                f"{self._name} runs on CPUs only, but its pool reserves {num_gpus:g} of a GPU; set num_gpus to 0"
            )

    def _load_error(self, error: Exception) -> EngineError:
        """The error to raise for a library's error while the engine loads."""
        message = f"{self._name} must load; {type(error).__name__}: {error}"
        match device_fault(error):
            case DeviceFault.LOST:  # another process may load it
                return DeviceLostError(message)
            case DeviceFault.MEMORY if self._engine.num_gpus:
                return EngineLoadError(
                    f"{message}; its pool reserves {self._engine.num_gpus:g} of a GPU: raise num_gpus, or choose a "
                    "smaller model or precision"
                )
            case _:
                return EngineLoadError(message)

    @property
    def prepares(self) -> bool:
        """True if the engine has something to do to a batch before it runs it."""
        return type(self._engine).prepare is not Engine.prepare

    def prepare(self, batch: Sequence[Any]) -> list[Any]:
        """The batch as the engine prepares it, with an ItemFailure for each request that cannot be prepared."""
        try:
            return self._checked(batch, self._engine.prepare)
        except Exception as error:
            if len(batch) == 1:
                return [ItemFailure(error=self._item_error(error))]
            log.warning("preparation failed engine=%s items=%d error=%r", self._name, len(batch), error)
        return [each for request in batch for each in self.prepare([request])]

    def run(self, batch: Sequence[Any], prepared: Sequence[Any] | None = None) -> BatchReport:
        """Run a batch: one result or ItemFailure per request, in order. Raises DeviceLostError.

        ``prepared`` is what ``prepare`` returned for it; None prepares it now.
        """
        start, began_s = time.perf_counter(), time.time()
        too_large: list[range] = []
        ready = self.prepare(batch) if prepared is None else prepared
        good = [index for index, each in enumerate(ready) if not isinstance(each, ItemFailure)]
        batch = [batch[index] for index in good]
        found = iter(self._run_part([ready[index] for index in good], range(len(good)), too_large) if good else ())
        results = [each if isinstance(each, ItemFailure) else next(found) for each in ready]
        run_s = time.perf_counter() - start
        items = {part.start for part in too_large if len(part) == 1}
        costs = [sum(self._engine.cost(batch[index]) for index in part) for part in too_large if items.isdisjoint(part)]
        gpu = None if self._meter is None else self._meter.read()
        exhausted_cost = min(costs, default=None)
        return BatchReport(results=results, run_s=run_s, began_s=began_s, exhausted_cost=exhausted_cost, gpu=gpu)

    def _run_part(
        self, prepared: Sequence[Any], part: range, too_large: list[range], *, is_retry: bool = False
    ) -> list[Any]:
        """Results of part of a prepared batch: run whole, in halves if memory runs out, one by one after other errors.

        Parts that exceeded the memory are added to ``too_large``.
        """
        try:
            return self._checked(prepared[part.start : part.stop], self._engine.run_prepared)
        except Exception as error:
            fault = device_fault(error)
            if fault is DeviceFault.LOST:
                raise DeviceLostError(f"{self._name}: its device must work; {type(error).__name__}: {error}") from error
            must_repeat = fault is DeviceFault.STALE and not is_retry
            if fault is not None and not must_repeat:
                too_large.append(part)
            if len(part) == 1 and not must_repeat:
                return [ItemFailure(error=self._item_error(error))]
            log.warning("batch failed engine=%s items=%d error=%r", self._name, len(part), error)
        # Outside the handler, where the error's traceback no longer holds frames with allocated memory.
        if fault is not None:
            release_memory()
        if must_repeat:
            return self._run_part(prepared, part, too_large, is_retry=True)
        if fault is not None:
            half = len(part) // 2
            parts = [part[:half], part[half:]]
        else:
            # A library that rejects one item often rejects the whole call: one by one, only that item fails.
            parts = [part[at : at + 1] for at in range(len(part))]
        return [result for each in parts for result in self._run_part(prepared, each, too_large)]

    def close(self) -> None:
        self._engine.close()

    def _checked(self, batch: Sequence[Any], call: Callable[[Sequence[Any]], Sequence[Any]]) -> list[Any]:
        results = list(call(batch))
        if len(results) != len(batch):
            raise EngineError(f"{self._name} must return {len(batch)} results, returned {len(results)}")
        return results

    def _item_error(self, error: Exception) -> ItemError:
        if isinstance(error, ItemError):
            return error
        return ItemError(f"{self._name}: {type(error).__name__}: {error}")


class ActorHost:
    """The host as a Ray actor of several threads, with its engine on a thread of its own.

    While the engine works, another thread prepares the next batch, and others unpack it or pack the last one's results:
    otherwise the engine, and its GPU, would be idle between two batches. Batches run in the order in which threads
    start them, usually that of the calls.
    """

    def __init__(
        self, task: Task, engine: str, options: Mapping[str, Any], niceness: int = 0, num_gpus: float = 0.0
    ) -> None:
        os.nice(niceness)
        collect_rarely()
        _set_up_devices(num_gpus)
        self._host = EngineHost(task, engine, options, num_gpus)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{task}-{engine}")
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix=f"{task}-{engine}-prepare")

    def load(self) -> float:
        return submit_in_context(self._thread, self._host.load).result()

    def run(self, batch: Sequence[Any]) -> BatchReport:
        if not self._host.prepares:
            return submit_in_context(self._thread, self._host.run, batch).result()
        return submit_in_context(self._preparing, self._start, batch).result().result()

    def _start(self, batch: Sequence[Any]) -> Future[BatchReport]:
        """Prepare a batch, then let the engine run it after those prepared before."""
        return submit_in_context(self._thread, self._host.run, batch, self._host.prepare(batch))

    def close(self) -> None:
        self._thread.submit(self._host.close).result()


def submit_in_context(executor: ThreadPoolExecutor, function: Callable[..., T], *args: Any) -> Future[T]:
    """Run on another thread in this context, which tells what log records are about."""
    return executor.submit(contextvars.copy_context().run, function, *args)


def _set_up_devices(num_gpus: float) -> None:
    """Set this process's variables for CUDA, which its libraries read at their first use."""
    if not num_gpus:
        # Ray hides no GPU from an actor that reserves none, and libraries would take the first one, unaccounted.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    # Ray and NVML number GPUs in this order.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    # Batches of ever other lengths leave holes that no later tensor fits; segments that grow have none.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
