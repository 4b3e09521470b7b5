"""The host of one engine: a Ray actor in a cluster, a plain object in-process."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.engine import make_engine
from actors.errors import DubbingError, EngineError, EngineLoadError, ItemError
from actors.types import ItemFailure, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """A batch's outcomes with what they cost."""

    results: list[Any]
    run_s: float
    """Seconds inside the engine."""


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
        try:
            results = self._checked(batch)
        except Exception as error:
            # A library that rejects one item often rejects the whole call: find out which item it was.
            if len(batch) == 1:
                results = [ItemFailure(error=self._item_error(error))]
            else:
                log.warning("batch failed, items run alone engine=%s items=%d error=%r", self._name, len(batch), error)
                results = [result for item in batch for result in self.run([item]).results]
        return BatchReport(results=results, run_s=time.perf_counter() - start)

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
