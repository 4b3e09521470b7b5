"""One Ray for all dubbers of this process: the caller's own where there is one, else one started when first needed."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager

from cluster.config.schema import Config

log = logging.getLogger(__name__)


class _SharedRay:
    """Starts Ray for the first user and stops it after the last; the caller's own is left as it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_users = 0
        self._session = ExitStack()
        self._thread: ThreadPoolExecutor | None = None

    def acquire(self, config: Config) -> None:
        """Raises ConfigError if Ray cannot be started or reached."""
        import ray

        with self._lock:
            if self._num_users == 0 and ray.is_initialized():
                _check_room(config)
                return
            if self._num_users == 0:
                self._start(config)
            self._num_users += 1

    def release(self) -> None:
        with self._lock:
            if self._num_users == 0:
                return  # the caller's own
            self._num_users -= 1
            if self._num_users == 0:
                self._stop()

    def _start(self, config: Config) -> None:
        from cluster.pools.ray_session import ray_session

        # Ray's processes die with the thread that started them (PR_SET_PDEATHSIG), and in the main thread Ray
        # would replace the caller's signal handlers: so it gets a thread of its own.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ray-session")
        try:
            self._thread.submit(self._session.enter_context, ray_session(config)).result()
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    def _stop(self) -> None:
        assert self._thread is not None
        self._thread.submit(self._session.close).result()
        self._thread.shutdown()


_shared = _SharedRay()


@asynccontextmanager
async def ray_for(config: Config) -> AsyncIterator[None]:
    """Have Ray for the time of the block; nothing if ``ray.mode`` is inline. Raises ConfigError."""
    if config.ray.mode == "inline":
        yield
        return
    await asyncio.to_thread(_shared.acquire, config)
    try:
        yield
    finally:
        await asyncio.to_thread(_shared.release)


def _check_room(config: Config) -> None:
    """Warn if the caller's Ray has fewer CPUs than the pools take: they would wait for a node that may never come."""
    import ray

    stages = (config.transcription, config.translation, config.embedding)
    speech = [stage.pool.num_cpus for stage in config.speech.by_language.values()]
    wanted = sum(stage.pool.num_cpus for stage in stages) + max(speech, default=config.speech.pool.num_cpus)
    found = float(ray.cluster_resources().get("CPU", 0.0))  # type: ignore[no-untyped-call]
    if found < wanted:
        log.warning(
            "Ray should have %g CPUs for one replica of each pool, found %g: a pool waits until a node is added; "
            "start Ray with num_cpus=%d, or set num_cpus of the pools",
            *(wanted, found, -(-wanted // 1)),
        )
