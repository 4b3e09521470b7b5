"""The host of one engine: a Ray actor in a cluster, a plain object in-process."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from actors.device import is_device_lost, is_out_of_memory, release_memory
from actors.engine import make_engine
from actors.errors import DeviceLostError, DubbingError, EngineError, EngineLoadError, ItemError
from actors.types import ItemFailure, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """A batch's outcomes with what they cost."""

    results: list[Any]
    run_s: float
    """Seconds inside the engine."""
    exhausted_cost: float | None = None
    """Cost of the smallest batch that was too large for memory and was run in halves; None if all went well. One with
    an item that is too large by itself does not count: it says nothing of others."""


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
        except EngineLoadError:
            raise
        except DubbingError as error:
            raise EngineLoadError(error.message) from error
        except Exception as error:
            raise EngineLoadError(f"{self._name} must load; {type(error).__name__}: {error}") from error
        load_s = time.perf_counter() - start
        log.info("loaded engine=%s pid=%d load_s=%.2f", self._name, os.getpid(), load_s)
        return load_s

    def run(self, batch: Sequence[Any]) -> BatchReport:
        """Raises DeviceLostError."""
        start = time.perf_counter()
        too_large: list[range] = []
        results = self._run_part(batch, range(len(batch)), too_large)
        run_s = time.perf_counter() - start
        items = {part.start for part in too_large if len(part) == 1}
        costs = [sum(self._engine.cost(batch[index]) for index in part) for part in too_large if items.isdisjoint(part)]
        return BatchReport(results=results, run_s=run_s, exhausted_cost=min(costs, default=None))

    def _run_part(self, batch: Sequence[Any], part: range, too_large: list[range]) -> list[Any]:
        """Whole if that works; out of memory, in halves; else one by one. Notes what was too large."""
        try:
            return self._checked(batch[part.start : part.stop])
        except Exception as error:
            if is_device_lost(error):
                raise DeviceLostError(f"{self._name}: its device must work; {type(error).__name__}: {error}") from error
            out_of_memory = is_out_of_memory(error)
            if out_of_memory:
                too_large.append(part)
            if len(part) == 1:
                return [ItemFailure(error=self._item_error(error))]
            log.warning("batch failed engine=%s items=%d error=%r", self._name, len(part), error)
        # Outside the handler: the error's traceback holds the frames, and they what they had allocated.
        if out_of_memory:
            release_memory()
            half = len(part) // 2
            parts = [part[:half], part[half:]]
        else:
            # A library that rejects one item often rejects the whole call: find out which item it was.
            parts = [part[at : at + 1] for at in range(len(part))]
        return [result for each in parts for result in self._run_part(batch, each, too_large)]

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
