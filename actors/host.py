"""The host of one engine: a Ray actor in a cluster, a plain object in-process."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from actors.engine import make_engine
from actors.errors import DubbingError, EngineError, EngineLoadError, EngineMemoryError, ItemError
from actors.types import ItemFailure, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """A batch's outcomes with what they cost."""

    results: list[Any]
    run_s: float
    """Seconds inside the engine."""
    exhausted_cost: float | None = None
    """Cost of the smallest batch of several items that was too large for memory and was run in halves; None if all
    went well."""


class EngineHost:
    """Loads an engine and keeps its contract: as many results as requests, failures confined to their item."""

    def __init__(self, task: Task, engine: str, options: Mapping[str, Any]) -> None:
        self._name = f"{task}/{engine}"
        self._engine = make_engine(task, engine, options)

    def load(self) -> float:
        """Make the engine ready; returns the seconds it took. Raises EngineLoadError."""
        start = time.perf_counter()
        self._engine.check_packages()
        try:
            self._engine.load()
        except DubbingError:
            raise
        except Exception as error:
            raise EngineLoadError(f"{self._name} must load; {type(error).__name__}: {error}") from error
        load_s = time.perf_counter() - start
        log.info("loaded engine=%s pid=%d load_s=%.2f", self._name, os.getpid(), load_s)
        return load_s

    def run(self, batch: Sequence[Any]) -> BatchReport:
        start = time.perf_counter()
        exhausted: list[float] = []
        results = self._run_parts(batch, exhausted)
        run_s = time.perf_counter() - start
        return BatchReport(results=results, run_s=run_s, exhausted_cost=min(exhausted, default=None))

    def _run_parts(self, batch: Sequence[Any], exhausted: list[float]) -> list[Any]:
        """Whole if that works; out of memory, in halves; else one by one. Notes the cost of what was too large."""
        try:
            return self._checked(batch)
        except Exception as error:
            if len(batch) == 1:
                return [ItemFailure(error=self._item_error(error))]
            out_of_memory = is_out_of_memory(error)
            log.warning("batch failed engine=%s items=%d error=%r", self._name, len(batch), error)
        # Outside the handler: the error's traceback holds the frames, and they what they had allocated.
        if out_of_memory:
            _free_cached_memory()
            exhausted.append(sum(self._engine.cost(item) for item in batch))
            half = len(batch) // 2
            parts = [batch[:half], batch[half:]]
        else:
            # A library that rejects one item often rejects the whole call: find out which item it was.
            parts = [[item] for item in batch]
        return [result for part in parts for result in self._run_parts(part, exhausted)]

    def close(self) -> None:
        self._engine.close()

    def _checked(self, batch: Sequence[Any]) -> list[Any]:
        results = list(self._engine.run(batch))
        if len(results) != len(batch):
            raise EngineError(f"{self._name} must return {len(batch)} results, returned {len(results)}")
        return results

    def _item_error(self, error: Exception) -> ItemError:
        if isinstance(error, ItemError):
            return error
        return ItemError(f"{self._name}: {type(error).__name__}: {error}")


class ActorHost:
    """The host as a Ray actor of several threads, its engine on one of its own.

    While the engine works, another thread unpacks the next batch or packs the last one's results: else the engine
    would stand for a millisecond or more between two batches. Batches run in the order in which threads take them up,
    as a rule that of the calls.
    """

    def __init__(self, task: Task, engine: str, options: Mapping[str, Any], niceness: int = 0) -> None:
        os.nice(niceness)
        self._host = EngineHost(task, engine, options)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{task}-{engine}")

    def load(self) -> float:
        return self._thread.submit(self._host.load).result()

    def run(self, batch: Sequence[Any]) -> BatchReport:
        return self._thread.submit(self._host.run, batch).result()

    def close(self) -> None:
        self._thread.submit(self._host.close).result()


def is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # not imported for this: what was not loaded cannot have raised
    kinds = (
        (MemoryError, EngineMemoryError) if torch is None else (MemoryError, EngineMemoryError, torch.OutOfMemoryError)
    )
    return isinstance(error, kinds)


def _free_cached_memory() -> None:
    """What torch keeps for later of a failed batch is in the way of its halves."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
