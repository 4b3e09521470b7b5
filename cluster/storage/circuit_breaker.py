"""A circuit breaker: a store that failed is not used for a while."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)


class CircuitBreaker:
    """Opens after a failure for ``pause_s``: until then the store is not to be used. Each change is logged once."""

    def __init__(self, calls: str, pause_s: float) -> None:
        self._calls = calls
        self._pause_s = pause_s
        self._open_until_s = 0.0
        self._is_failing = False

    @property
    def is_open(self) -> bool:
        return time.monotonic() < self._open_until_s

    def note_failure(self, error: Exception) -> None:
        self._open_until_s = time.monotonic() + self._pause_s
        if not self._is_failing:
            log.warning(
                "the store must answer; %s failed with %s: %s; work goes on without, tried again every %g s",
                *(self._calls, type(error).__name__, error, self._pause_s),
            )
        self._is_failing = True

    def note_success(self) -> None:
        if self._is_failing:
            log.warning("the store answers again; %s succeed", self._calls)
        self._is_failing = False
