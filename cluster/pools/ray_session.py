"""Connects to a Ray cluster, or starts Ray on this machine."""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._common.utils import get_default_ray_temp_dir

from actors.errors import ConfigError
from cluster.config.schema import Config, RayConfig
from cluster.pools.cluster_address import cluster_address
from cluster.pools.few_services import few_services

log = logging.getLogger(__name__)

MIN_FREE_BYTES = 20_000_000
"""Free space that Ray needs for its sockets and logs; with less, it starts processes that never answer."""
START_WAIT_S = 60
"""Seconds in which Ray's node must register; Ray's default of 30 is too short for a cold disk on a busy machine."""
SECOND_START_WAIT_S = 120
"""Seconds in which Ray's control process must answer at the second try."""


@contextmanager
def ray_session(config: Config, *others: Config) -> Iterator[None]:
    """Join a Ray cluster, or start one on this machine, for the time of the block; do nothing in mode inline.

    A Ray started here has room for the pools of ``config`` and of ``others``. Raises ConfigError.

    Enter it on the main thread, before the event loop: Ray sets signal handlers, which the loop's replace.
    """
    if config.ray.mode == "inline":
        yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)  # below that is advice about defaults we have chosen
    address = cluster_address(config.ray)
    if address is None:
        _start_local(config, *others)
    else:
        try:
            _init(address)
        except (OSError, RuntimeError, ValueError) as error:  # no such host, no answer, another version, no address
            why = _one_line(error)
            raise ConfigError(
                f"the Ray cluster at {address} must be reachable; {why}; start it, or set ray.mode to local"
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _start_local(*configs: Config) -> None:
    check_temporary_folder()
    # Replicas must run at the priority of any other program of this user.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Ray reads this once per process, so that a second try cannot wait longer than the first.
    os.environ.setdefault("RAY_raylet_start_wait_time_s", str(START_WAIT_S))
    options = {
        # Logical, to admit every pool at once on a small machine: the operating system shares the cores.
        "num_cpus": max(os.cpu_count() or 1, 1 + round(sum(map(_cpu_demand, configs)))),
        "include_dashboard": False,
        "object_store_memory": configs[0].ray.object_store_bytes,
    }
    for is_last in (False, True):
        try:
            with few_services():
                return _init("local", **options)
        except Exception as error:
            if _is_timeout(error) and not is_last:
                log.warning("Ray did not start in time and is started once more error=%s", _one_line(error))
                # Processes of the first try end with this one: Ray keeps no handle on a node that did not start.
                os.environ.setdefault("RAY_gcs_server_port_wait_time_s", str(SECOND_START_WAIT_S))
                continue
            if not _is_timeout(error) and not isinstance(error, (OSError, RuntimeError, ValueError)):
                raise  # a defect
            remedy = "free processors or memory" if _is_timeout(error) else "see `raydub doctor`"
            raise ConfigError(
                f"Ray must start on this machine; {_one_line(error)}; {remedy}, or set ray.mode to inline"
            ) from error


def _is_timeout(error: Exception) -> bool:
    """True if Ray's processes did not answer in time: for its node Ray raises a bare Exception."""
    return type(error) is Exception or isinstance(error, TimeoutError)


def _init(address: str, **options: Any) -> None:
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False, **options)


def check_temporary_folder() -> None:
    """Raise ConfigError if Ray could not write its session files: it would wait in vain, and not say why."""
    folder = Path(get_default_ray_temp_dir())  # type: ignore[no-untyped-call]
    existing = next(each for each in (folder, *folder.parents) if os.path.exists(each))  # Path.exists may raise
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), None)
    where = f"{existing} (${variable})" if variable is not None else f"{existing}"
    needs = f"Ray must be able to write {MIN_FREE_BYTES // 10**6} MB to its temporary folder"
    remedy = "free some, or set RAY_TMPDIR to another folder"
    try:
        free_bytes = shutil.disk_usage(existing).free
        if free_bytes < MIN_FREE_BYTES:
            raise ConfigError(f"{needs}; no space in {where}: {free_bytes / 1e6:.1f} MB are free; {remedy}")
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"x")
    except OSError as error:
        raise ConfigError(f"{needs}; cannot write to {where}: {error.strerror or error}; {remedy}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def max_starting(settings: RayConfig) -> float:
    """Number of lost replicas that may be restarted at a time."""
    if settings.max_starting is not None:
        return settings.max_starting
    return math.inf if settings.mode == "inline" or has_cluster(settings) else (os.cpu_count() or 1)


def has_cluster(settings: RayConfig) -> bool:
    """True unless engines run in this process, or on a Ray that was started on this machine for it."""
    if settings.mode == "inline":
        return False
    # Inside an actor, the settings and environment need not say that it belongs to a cluster.
    has_peers = ray.is_initialized() and len(ray.nodes()) > 1  # type: ignore[no-untyped-call]
    return cluster_address(settings) is not None or has_peers


def _cpu_demand(config: Config) -> float:
    stages = (config.transcription, config.translation, config.embedding, *config.speech.by_language.values())
    pools = [stage.pool for stage in stages] + [config.speech.pool]
    return sum(pool.num_cpus * pool.largest for pool in pools)
