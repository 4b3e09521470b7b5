"""Limits the number of replicas that start at a time, where processors are few.

A replica takes a second of a processor and more to start: an interpreter, its imports, a model. Where many are lost
at once and all start at once, none serves for a long time. So a few start at a time, first those whose pool has the
smallest share of its replicas left: pools are sized for each other, and the one that lost most holds up the others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

MAX_TURN_S = 10.0
"""A start that takes longer no longer counts: it most likely waits for a node, a disk or a download."""


class StartLimiter:
    """Slots for starting replicas, shared by the pools of one driver: ``max_starting`` at a time."""

    def __init__(self, max_starting: float = math.inf) -> None:
        self._max_starting = max_starting
        self._waiting: dict[asyncio.Future[None], Callable[[], float]] = {}
        self._starting: set[asyncio.Future[None]] = set()

    @asynccontextmanager
    async def slot(self, share_serving: Callable[[], float]) -> AsyncIterator[None]:
        """Hold a slot inside, for at most ``MAX_TURN_S``; the pool with the smallest share serving gets one first."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting[turn] = share_serving
        try:
            self._give()
            await turn
            overdue = loop.call_later(MAX_TURN_S, self._end, turn)
            try:
                yield
            finally:
                overdue.cancel()
        finally:
            self._end(turn)

    def _give(self) -> None:
        while self._waiting and len(self._starting) < self._max_starting:
            turn = min(self._waiting, key=lambda waiting: self._waiting[waiting]())
            del self._waiting[turn]
            self._starting.add(turn)
            if not turn.cancelled():
                turn.set_result(None)

    def _end(self, turn: asyncio.Future[None]) -> None:
        self._waiting.pop(turn, None)
        self._starting.discard(turn)
        self._give()
