"""The health of one dispatcher, as load balancers, Ray Serve and its own loops see it."""

from __future__ import annotations

import asyncio
import logging
import time
from enum import Enum

from serve.jobs.database import Database

log = logging.getLogger(__name__)

CHECK_EVERY_S = 2.0
LET_GO_S = 4 * CHECK_EVERY_S
"""Ray Serve is taken to have stopped this dispatcher if it has not asked for its health for this time."""
DATABASE_ANSWERS_S = 3.0
"""Time in which a database that is available answers."""


class Readiness(Enum):
    LOADING = "loading"
    READY = "ready"
    BROKEN = "broken"
    DRAINING = "draining"
    DATABASE_UNREACHABLE = "database_unreachable"


class Health:
    """The state of a dispatcher. Exists before the dispatcher is open, because Ray Serve asks for it then too."""

    def __init__(self) -> None:
        self._state = Readiness.LOADING
        self._database_answers = True
        self._failure: BaseException | None = None
        self._checked_s: float | None = None

    @property
    def readiness(self) -> Readiness:
        """READY if new requests should be sent here. Never waits for anything."""
        if self._state is Readiness.READY and not self._database_answers:
            return Readiness.DATABASE_UNREACHABLE
        return self._state

    def check(self) -> None:
        """Raise RuntimeError if one of the dispatcher's tasks has failed, so that it must be replaced."""
        if self._failure is not None:
            raise RuntimeError("a dispatcher's own tasks must run as long as it does; one failed") from self._failure

    def note_check(self) -> None:
        """Ray Serve has asked for the health of this dispatcher. It stops asking when it stops the dispatcher."""
        self._checked_s = time.monotonic()

    @property
    def is_leaving(self) -> bool:
        """True if this dispatcher is being stopped: it takes no new job, and ends its event streams.

        Ray Serve waits for every open request before it tells a replica to stop, so this must be found out earlier.
        """
        is_let_go = self._checked_s is not None and time.monotonic() - self._checked_s > LET_GO_S
        return is_let_go or self._state is Readiness.DRAINING

    def models_loaded(self) -> None:
        self._become(Readiness.READY)

    def models_failed(self) -> None:
        self._become(Readiness.BROKEN)

    def draining(self) -> None:
        self._state = Readiness.DRAINING

    def note_end(self, task: asyncio.Task[None]) -> None:
        """A task that must run as long as the dispatcher has ended. Its error makes the dispatcher broken."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("dispatcher failed", exc_info=error)
            self._failure = error
            self._state = Readiness.BROKEN

    async def watch_database(self, database: Database) -> None:
        """Check forever that the database answers."""
        while True:
            answers = await database.answers(DATABASE_ANSWERS_S)
            if answers != self._database_answers:
                log.warning("the database %s", "answers again" if answers else "does not answer")
            self._database_answers = answers
            await asyncio.sleep(CHECK_EVERY_S)

    def _become(self, state: Readiness) -> None:
        if self._state is not Readiness.DRAINING:
            self._state = state
