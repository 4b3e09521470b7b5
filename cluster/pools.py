"""The pools of one dispatcher: started when first needed, shared by all its videos, closed when nobody needs them."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import math
import os
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import ray

from actors import languages
from actors.engine import make_engine
from actors.errors import ConfigError
from actors.types import Task
from cluster.autoscaling import Autoscaler
from cluster.caching import Cache, CachedPool, PoolLike
from cluster.config import Config, RayConfig, StageConfig
from cluster.fairness import job_weight
from cluster.pool import Pool
from cluster.pool_stats import PoolStats
from cluster.progress import Asker
from cluster.replicas import InlineReplica, RayReplica, Replica
from cluster.starting import Starts
from cluster.store import open_store
from cluster.streams import to_the_end

log = logging.getLogger(__name__)


ANYBODY = Asker()


class JobPool:
    """A pool as one job uses it."""

    def __init__(self, pool: PoolLike, asker: Asker) -> None:
        self.name = pool.name
        self.behind = pool
        self._asker = asker

    async def submit(self, request: Any, *, order: float = 0.0) -> Any:
        """Like ``Pool.submit``, for this job."""
        asker = self._asker
        return await self.behind.submit(
            request, order=order, job=asker.job, priority=asker.priority, weight=job_weight(asker.media_s)
        )


@dataclass(slots=True, eq=False, kw_only=True)
class _Shared:
    """A pool, what its users see of it, and who they are."""

    pool: Pool
    front: PoolLike
    opened: AsyncExitStack = field(default_factory=AsyncExitStack)
    """Has the pool, once that was started."""
    is_closed: bool = False
    """For good: what is under way at its front finds a pool that is not open."""
    users: set[str] = field(default_factory=set)
    """Jobs. One asked for by nobody in particular is in use for good."""

    @property
    def is_empty(self) -> bool:
        """Whether no replica is wanted, or still there."""
        stats = self.pool.stats()
        return not stats.target and not stats.num_draining


class Pools:
    """Use as ``async with Pools(config) as pools``."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._pools: dict[str, _Shared] = {}
        self.store = open_store(config.store)
        self._cache = None if self.store is None else Cache(self.store)
        self._stack = AsyncExitStack()
        self._starting = asyncio.Lock()
        self._scaler = Autoscaler(config.autoscaling)
        self._starts = Starts(max_starting(config.ray))

    async def __aenter__(self) -> Self:
        if self._cache is not None:
            await self._stack.enter_async_context(self._cache.opened())
        await self._stack.enter_async_context(self._scaler)
        self._stack.push_async_callback(self._close_all)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def get(self, task: Task, stage: StageConfig, asker: Asker = ANYBODY) -> JobPool:
        """The pool of this engine and options, behind the store; started when first something is not there.

        Raises ConfigError if there is no room for it beside the others in use, or never will be.
        """
        key = json.dumps([task, stage.model_dump(mode="json", include={"engine", "options", "pool"})], sort_keys=True)
        if key not in self._pools:
            async with self._starting:
                if key not in self._pools:
                    self._pools[key] = await self._shared(key, task, stage)
        shared = self._pools[key]
        shared.users.add(asker.job)
        return JobPool(shared.front, asker)

    @asynccontextmanager
    async def lent_to(self, asker: Asker) -> AsyncIterator[None]:
        """For the time of the block this job's pools stay; afterwards, those that no other uses need not."""
        try:
            yield
        finally:
            for shared in self._pools.values():
                shared.users.discard(asker.job)

    async def _shared(self, key: str, task: Task, stage: StageConfig) -> _Shared:
        pool = Pool(task, stage, self._start_replica, num_replicas=0, starts=self._starts)
        await self._make_room(pool)
        self._scaler.add(key, pool)
        shared = _Shared(pool=pool, front=pool)
        start = functools.partial(self._start, shared)
        try:
            if self._cache is None:
                await start()
            else:
                shared.front = await self._cache.front(task, stage, pool, start)
        except BaseException:
            self._scaler.remove(key)
            raise
        return shared

    async def _start(self, shared: _Shared) -> None:
        if not shared.is_closed:
            await shared.opened.enter_async_context(shared.pool)
            self._scaler.step()

    async def _make_room(self, pool: Pool) -> None:
        """Close what nobody uses: all that have no replica, and where the budget is too small for this one, others."""
        for key, shared in list(self._pools.items()):
            if not shared.users and (shared.is_empty or not self._scaler.has_room(pool)):
                del self._pools[key]
                await to_the_end(asyncio.ensure_future(self._close(key, shared)))

    async def _close(self, key: str, shared: _Shared) -> None:
        shared.is_closed = True
        with self._scaler.still():
            await shared.opened.aclose()
        self._scaler.remove(key)
        if self._cache is not None and isinstance(shared.front, CachedPool):
            await self._cache.forget(shared.front)

    async def _close_all(self) -> None:
        for key, shared in reversed(list(self._pools.items())):
            await self._close(key, shared)

    def stats(self) -> list[PoolStats]:
        return [shared.front.stats() for shared in self._pools.values()]

    def _start_replica(self, task: Task, stage: StageConfig) -> Replica:
        return InlineReplica(task, stage) if self._config.ray.mode == "inline" else RayReplica(task, stage)


def speech_stage(config: Config, target: str) -> StageConfig:
    """The engine that speaks ``target``. Raises ConfigError if none is configured."""
    speech = config.speech
    if speech.engine != "auto":
        return StageConfig(engine=speech.engine, options=speech.options, pool=speech.pool)
    match = languages.best_match(target, speech.by_language)
    if match is None:
        raise ConfigError(
            f"speech.by_language must name an engine for {target}; it has {', '.join(speech.by_language) or 'none'}; "
            f"add one, or choose with --set speech.engine=NAME"
        )
    return speech.by_language[match]


def check_languages(
    config: Config, source: str | None, targets: tuple[str, ...], *, own_text: Collection[str] = ()
) -> None:
    """Raise ConfigError if some engine cannot work on these languages; loads nothing.

    What is said in the languages of ``own_text`` is brought as subtitles: not heard, and not translated into.
    """
    hears = make_engine("transcription", config.transcription.engine, config.transcription.options)
    if source is not None and source not in own_text and not hears.supports(source):
        raise _unsupported("transcription", config.transcription.engine, source, hears.describe_languages())
    translates = make_engine("translation", config.translation.engine, config.translation.options)
    for target in targets:
        if source is not None and target not in own_text and not translates.supports(source, target):
            pair = f"{source}→{target}"
            raise _unsupported("translation", config.translation.engine, pair, translates.describe_languages())
        stage = speech_stage(config, target)
        speaks = make_engine("speech", stage.engine, stage.options)
        if not speaks.supports(target):
            raise _unsupported("speech", stage.engine, target, speaks.describe_languages())


def _unsupported(task: Task, engine: str, found: str, known: str) -> ConfigError:
    return ConfigError(f"{task} engine {engine} must support {found}; it supports {known}")


@contextmanager
def ray_session(config: Config, *others: Config) -> Iterator[None]:
    """Join the cluster there is, or start one in this machine, for the time of the block; nothing if inline.

    One started here has room for the pools of the others too.

    Enter it on the main thread, before the event loop: Ray sets signal handlers, which the loop's replace.
    """
    if config.ray.mode == "inline":
        yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)  # advice about defaults we have chosen
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    address = cluster_address(config.ray)
    if address is None:
        # Replicas must run at the priority of any other program of this user.
        os.environ.setdefault("RAY_worker_niceness", "0")
        options |= {
            # Logical, to admit every pool at once on a small machine: the operating system shares the cores.
            "num_cpus": max(os.cpu_count() or 1, 1 + round(sum(map(_cpu_demand, (config, *others))))),
            "include_dashboard": False,
            "object_store_memory": config.ray.object_store_bytes,
        }
    try:
        ray.init(address=address or "local", **options)
    except (OSError, RuntimeError, ValueError) as error:  # no such host, no answer, another version, no address
        why = " ".join(str(error).split())
        raise ConfigError(
            f"Ray must start on this machine; {why}; see `raydub doctor`, or set ray.mode to inline"
            if address is None
            else f"the Ray cluster at {address} must be reachable; {why}; start it, or set ray.mode to local"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def cluster_address(settings: RayConfig) -> str | None:
    address = settings.address or os.environ.get("RAY_ADDRESS") or None
    if settings.mode == "cluster":
        return address or "auto"
    return address if settings.mode == "auto" else None


def max_starting(settings: RayConfig) -> float:
    """Lost replicas to replace at a time."""
    if settings.max_starting is not None:
        return settings.max_starting
    is_local = settings.mode != "inline" and cluster_address(settings) is None
    # Inside an actor, the settings and environment need not say that it belongs to a cluster.
    has_peers = ray.is_initialized() and len(ray.nodes()) > 1  # type: ignore[no-untyped-call]
    return (os.cpu_count() or 1) if is_local and not has_peers else math.inf


def _cpu_demand(config: Config) -> float:
    stages = (config.transcription, config.translation, config.embedding, *config.speech.by_language.values())
    pools = [stage.pool for stage in stages] + [config.speech.pool]
    return sum(pool.num_cpus * pool.largest for pool in pools)
