"""Check 9: shares of a GPU in Ray, a replica whose device breaks, and pools that trade shares."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acceptance.breaking import Echo, Item
from acceptance.report import Bench, Findings

NUM_ITEMS = 40
MAX_REPLACE_S = 15.0
MAX_STARTS = 6
"""Starts of Ray that are tried: its raylet gives up early on a busy machine."""
ENGINE = "acceptance.breaking"


def ray_shares(bench: Bench, found: Findings) -> None:
    """Each share sees its GPU; all is answered when one breaks; pools share one GPU; two languages fit it."""
    with _ray():
        _look(found)
        asyncio.run(_replace(bench, found))
        asyncio.run(_trade(found))
    _add_up(found)


@contextlib.contextmanager
def _ray() -> Iterator[None]:
    """Ray on this machine with one GPU, or the session that is there."""
    import ray

    if ray.is_initialized():
        yield
        return
    # Replicas import the engine from this folder.
    paths = [str(Path(__file__).parents[1]), os.getcwd(), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    options = {"num_cpus": 4, "num_gpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
    for is_last in (*[False] * (MAX_STARTS - 1), True):
        try:
            ray.init(address="local", log_to_driver=False, **options)
            break
        except Exception as error:
            if type(error) is not Exception or is_last:  # Ray's own class for a node that did not start in time
                raise
    try:
        yield
    finally:
        ray.shutdown()


def _look(found: Findings) -> None:
    import ray

    from actors.host import _set_up_devices

    @ray.remote
    def seen(num_gpus: float) -> str | None:
        _set_up_devices(num_gpus)
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    for share, wanted in ((0.0, ""), (0.4, "0"), (1.0, "0")):
        visible = ray.get(seen.options(num_cpus=0.1, num_gpus=share).remote(share))
        found.expect(f"visible_{share:g}", visible, visible == wanted, repr(wanted))


async def _replace(bench: Bench, found: Findings) -> None:
    """A batch takes its replica's device down: another process must answer it."""
    from cluster.config.schema import BatchLimits, PoolConfig, StageConfig
    from cluster.pools.pool import Pool
    from cluster.pools.replicas import RayReplica

    config = PoolConfig(num_cpus=0.5, num_gpus=0.3, batch=BatchLimits(max_items=4), restart_delay_s=0.05)
    stage = StageConfig(engine=ENGINE, options={"on_gpu": bench.device == "cuda"}, pool=config)
    marker = bench.folder / "broken"
    marker.unlink(missing_ok=True)
    async with Pool("translation", stage, RayReplica) as pool:
        await pool.submit(Item(value=-1))
        start_s = time.monotonic()
        items = [Item(value=number, break_once=str(marker) if number == 7 else None) for number in range(NUM_ITEMS)]
        answers = await asyncio.gather(*(pool.submit(item) for item in items), return_exceptions=True)
        replace_s = time.monotonic() - start_s
        num_lost = pool.stats().num_lost_replicas
    values = [answer.value if isinstance(answer, Echo) else repr(answer) for answer in answers]
    found.expect(
        "answered", sum(value == at for at, value in enumerate(values)), values == list(range(NUM_ITEMS)), "all"
    )
    found.expect("num_lost_replicas", num_lost, num_lost == 1, "1")
    # The figure is that of the GPU; a shared CPU is no measure of it.
    is_soon = replace_s < MAX_REPLACE_S or bench.device == "cpu"
    found.expect("replace_s", replace_s, is_soon, f"below {MAX_REPLACE_S:g}")


async def _trade(found: Findings) -> None:
    """Two pools that each want most of one GPU: the second gets it when the first is idle."""
    from cluster.config.load import load_config
    from cluster.config.schema import PoolConfig, StageConfig
    from cluster.pools.pool_set import PoolSet

    pool: dict[str, Any] = {"num_cpus": 0.5, "num_gpus": 0.6, "min_replicas": 0, "max_replicas": 1, "down_delay_s": 0.1}
    stage = StageConfig(engine=ENGINE, pool=PoolConfig(**pool))
    other = StageConfig(engine=ENGINE, options={"threads": 2}, pool=PoolConfig(**pool))
    config = load_config("base", ["autoscaling.max_gpus=1", "store.url=none"])
    async with PoolSet(config) as pools:
        first, second = await pools.get("translation", stage), await pools.get("embedding", other)
        answers = [await each.submit(Item(value=at)) for at, each in enumerate((first, second, first))]
    found.expect(
        "traded", [answer.value for answer in answers], len({answer.pid for answer in answers}) == 3, "3 replicas"
    )


def _add_up(found: Findings) -> None:
    """Shares of the pools for two target languages, by profile."""
    from cluster.config.load import load_config, profile_names

    for profile in profile_names():
        config = load_config("gpu", profile=profile)
        shares = [stage.pool.num_gpus for stage in (config.transcription, config.translation, config.embedding)]
        total = sum(shares) + sum(config.speech.by_language[language].pool.num_gpus for language in ("pt", "es"))
        found.expect(f"two_languages_{profile}", total, total <= 1.0, "at most 1")
