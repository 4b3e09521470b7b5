"""Videos of stand-in segments through two pools of real Ray actors, while things go wrong around them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from actors.errors import EngineError
from cluster.config.schema import BatchLimits, PoolConfig, StageConfig
from cluster.pools.pool import Pool
from cluster.pools.replicas import RayReplica
from cluster.pools.start_limit import StartLimiter
from cluster.pools.stats import PoolStats
from cluster.streams import closing, ordered_map
from tests.standins.echo import Echo, Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The work of a run, and its planned failures."""

    num_videos: int = 10
    num_segments: int = 100
    """Segments in each video."""
    translate_s: float = 0.01
    speak_s: float = 0.05
    """Seconds to speak each segment."""
    num_translators: int = 2
    num_speakers: int = 6
    kill_every_s: float | None = None
    kill_every_segments: int | None = None
    """Segments done between two kills: as many kills on a busy machine as on an idle one."""
    poison: frozenset[int] = frozenset()
    """Segments that kill their speaker."""
    hang: Path | None = None
    """A file that one segment creates, and then hangs its speaker; it runs normally if the file exists."""
    exhaust_above: int | None = None
    """Items in a batch beyond which speakers run out of memory."""
    max_losses: int = 4
    """One more than by default: random kills now and then hit a replica with an innocent suspect."""
    max_starting: float = math.inf
    after: Mapping[float, Callable[[], None]] = field(default_factory=dict)
    """Actions by the share of segments done at which they run, on a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    wall_s: float
    videos: list[list[tuple[int, bool]]]
    """Segments of each video in the order of completion, with True for success."""
    stats: list[PoolStats]
    num_kills: int
    pids: frozenset[int]
    timeline: list[tuple[float, int, int]]
    """Samples of seconds since the start, segments done and replicas serving."""

    @property
    def failed(self) -> set[int]:
        return {segment for video in self.videos for segment, succeeded in video if not succeeded}


class _Run:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.pids: set[int] = set()
        self.num_done = 0
        self.num_kills = 0
        self._chance = random.Random(7)
        self._after = sorted(plan.after.items(), key=lambda pair: pair[0])
        self._due: list[asyncio.Task[None]] = []
        self._start_limiter = StartLimiter(plan.max_starting)

    def pool(self, replicas: int, exhaust_above: int | None = None) -> Pool:
        options = {} if exhaust_above is None else {"exhaust_above": exhaust_above}
        config = PoolConfig(
            replicas=replicas,
            num_cpus=0.5,
            batch=BatchLimits(max_items=4),
            call_timeout_s=4.0,
            restart_delay_s=0.05,
            max_losses=self.plan.max_losses,
        )
        stage = StageConfig(engine="tests.standins.echo", options=options, pool=config)
        return Pool("translation", stage, RayReplica, start_limiter=self._start_limiter)

    async def video(self, number: int, translators: Pool, speakers: Pool) -> list[tuple[int, bool]]:
        first = number * self.plan.num_segments
        job = f"video {number}"

        async def segments() -> AsyncIterator[int]:
            for index in range(self.plan.num_segments):
                yield first + index

        async def dub(segment: int) -> tuple[int, bool]:
            translated: Echo = await translators.submit(
                Item(value=segment, sleep_s=self.plan.translate_s), order=segment, job=job
            )
            self._note(translated)
            try:
                spoken: Echo = await speakers.submit(self._line(translated.value), order=segment, job=job)
            except EngineError:
                return segment, False
            finally:
                self._count()
            self._note(spoken)
            return spoken.value, True

        async with closing(ordered_map(segments(), dub, max_pending=32)) as spoken:
            return [each async for each in spoken]

    def _line(self, segment: int) -> Item:
        line = Item(value=segment, sleep_s=self.plan.speak_s)
        if self.plan.hang is not None and segment == self.plan.num_segments // 2:
            line = dataclasses.replace(line, hang_once=str(self.plan.hang))
        return dataclasses.replace(line, die=segment in self.plan.poison)

    async def watch(self, pools: Sequence[Pool], timeline: list[tuple[float, int, int]]) -> None:
        start_s = time.monotonic()
        while True:
            num_serving = sum(pool.stats().num_serving for pool in pools)
            timeline.append((time.monotonic() - start_s, self.num_done, num_serving))
            await asyncio.sleep(0.2)

    def _note(self, echo: Echo) -> None:
        self.pids.add(echo.pid)

    def _count(self) -> None:
        self.num_done += 1
        if self.plan.kill_every_segments is not None and self.num_done % self.plan.kill_every_segments == 0:
            self._kill_one()
        share = self.num_done / (self.plan.num_videos * self.plan.num_segments)
        while self._after and share >= self._after[0][0]:
            self._due.append(asyncio.create_task(asyncio.to_thread(self._after.pop(0)[1])))

    async def kill(self) -> None:
        """Kill a random replica at each interval, until cancelled."""
        assert self.plan.kill_every_s is not None
        while True:
            await asyncio.sleep(self.plan.kill_every_s)
            self._kill_one()

    def _kill_one(self) -> None:
        alive = sorted(pid for pid in self.pids if _is_replica(pid))
        if alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(self._chance.choice(alive)).kill()
                self.num_kills += 1

    async def run(self) -> Outcome:
        plan = self.plan
        async with (
            self.pool(plan.num_translators) as translators,
            self.pool(plan.num_speakers, plan.exhaust_above) as speakers,
        ):
            await _ready(translators, speakers)
            timeline: list[tuple[float, int, int]] = []
            beside = [asyncio.create_task(self.watch((translators, speakers), timeline))]
            if plan.kill_every_s is not None:
                beside.append(asyncio.create_task(self.kill()))
            start_s = time.monotonic()
            videos = await asyncio.gather(*(self.video(n, translators, speakers) for n in range(plan.num_videos)))
            wall_s = time.monotonic() - start_s
            for task in beside:
                task.cancel()
            await asyncio.gather(*self._due)
            stats = [translators.stats(), speakers.stats()]
        return Outcome(
            wall_s=wall_s,
            videos=list(videos),
            stats=stats,
            num_kills=self.num_kills,
            pids=frozenset(self.pids),
            timeline=timeline,
        )


async def run(plan: Plan) -> Outcome:
    """Run all segments through both pools; the clock starts when every replica serves."""
    return await _Run(plan).run()


async def _ready(*pools: Pool) -> None:
    while any(pool.stats().num_serving < pool.stats().target for pool in pools):  # noqa: ASYNC110  # no event
        await asyncio.sleep(0.05)


def _is_replica(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "ActorHost" in process.cmdline()[0]
    except (psutil.NoSuchProcess, IndexError):
        return False
