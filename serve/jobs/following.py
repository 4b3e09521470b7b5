"""Followers of jobs' events. One task of a dispatcher looks for changes, for all followers together."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sqlalchemy import select

from actors.errors import DubbingError
from serve.jobs.database import Database, until_it_answers
from serve.jobs.jobs import Jobs
from serve.jobs.tables import Dub, DubState, Event

LOOK_S = 0.5
"""Interval at which to check for events that another dispatcher writes."""
MIN_LOOK_S = 0.05
"""Shortest time between two checks, however many jobs of this dispatcher write events."""
LEAVE_S = 1.0
"""Interval at which a follower checks whether its dispatcher is leaving."""
MAX_ASKED = 500
"""Number of ids in one query."""

FINAL = frozenset({DubState.DONE.value, DubState.FAILED.value, DubState.CANCELLED.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """The number of events of a job, and whether more may come."""

    num_events: int
    has_ended: bool


@dataclass(slots=True)
class _Followed:
    state: JobState | None = None
    num_followers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Replaced by a new one at each change."""


class EventFeed:
    """Tells followers when a job has new events. One query at a time serves all of them, and none without followers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._followed: dict[str, _Followed] = {}
        self._looking: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    def notify(self, dub_id: str) -> None:
        """Look soon, because this dispatcher has written events of a job."""
        if dub_id in self._followed:
            self._hurry.set()

    @asynccontextmanager
    async def following(self, dub_id: str) -> AsyncIterator[None]:
        followed = self._followed.setdefault(dub_id, _Followed())
        followed.num_followers += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_forever())
        try:
            yield
        finally:
            followed.num_followers -= 1
            if not followed.num_followers:
                del self._followed[dub_id]
            if not self._followed and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def next_state(self, dub_id: str, known: JobState | None, timeout_s: float) -> JobState | None:
        """The state of a job that is followed, once it differs from ``known``; ``known`` if that takes too long."""
        followed = self._followed[dub_id]
        if followed.state == known:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await followed.changed.wait()
        if self._looking is not None and self._looking.done():
            self._looking.result()  # raises its error
        return followed.state

    async def _look_forever(self) -> None:
        while True:
            self._hurry.clear()
            states = await until_it_answers(self._look)
            for dub_id, followed in self._followed.items():
                state = states.get(dub_id)
                if state is not None and state != followed.state:
                    followed.state = state
                    followed.changed.set()
                    followed.changed = asyncio.Event()
            await asyncio.sleep(MIN_LOOK_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S - MIN_LOOK_S):
                    await self._hurry.wait()

    async def _look(self) -> dict[str, JobState]:
        ids = tuple(self._followed)
        found: dict[str, JobState] = {}
        async with self._database.reading() as session:
            for at in range(0, len(ids), MAX_ASKED):
                part = ids[at : at + MAX_ASKED]
                query = select(Dub.id, Dub.num_events, Dub.state, Dub.deleted_s).where(Dub.id.in_(part))
                for dub_id, num_events, state, deleted_s in await session.execute(query):
                    has_ended = state in FINAL or deleted_s is not None
                    found[dub_id] = JobState(num_events=num_events, has_ended=has_ended)
        return found


async def follow(
    jobs: Jobs, feed: EventFeed, owner: str, dub_id: str, after: int, is_leaving: Callable[[], bool]
) -> AsyncGenerator[Event]:
    """Events after number ``after``, and new ones as they are written.

    Ends when the job ends or is deleted, or when the dispatcher is leaving.
    """
    try:
        await until_it_answers(lambda: jobs.get(owner, dub_id))
    except DubbingError:
        return
    known: JobState | None = None
    async with feed.following(dub_id):
        while not is_leaving():
            state = await feed.next_state(dub_id, known, LEAVE_S)
            if state is None or (state == known and not state.has_ended):
                continue
            events = []
            if state.num_events > after:
                events = await until_it_answers(functools.partial(jobs.events_after, dub_id, after))
            for event in events:
                after = event.number
                yield event
            if state.has_ended and (not events or after >= state.num_events):  # the state was read before the events
                return
            known = state if not events or after >= state.num_events else None
