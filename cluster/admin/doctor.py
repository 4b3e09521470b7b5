"""Checks of what this machine can run; each problem names the command that mends it.

Loads no model and downloads nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors import weights
from actors.device import GpuDriver, resolve_device
from actors.engine import Engine, engine_names, make_engine
from actors.errors import ConfigError, EngineLoadError
from actors.types import TASKS, Task
from cluster.admin import models
from cluster.admin.budget import Budget, add_up
from cluster.admin.gpus import CudaDevices, find_driver, find_gpus, library_of, library_problem
from cluster.casting.voices import NamedStage, named_stages
from cluster.config.schema import Config, RayConfig
from cluster.manifest import versions
from cluster.pools.cluster_address import cluster_address

CONNECT_TIMEOUT_S = 3.0
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    num_cpus: int
    memory_bytes: int
    cuda: tuple[CudaDevices, ...]
    driver: GpuDriver | None = None
    """NVIDIA's driver; None if there is none."""

    @property
    def num_gpus(self) -> int:
        return max((devices.num_devices for devices in self.cuda), default=0)

    def gpu_problem(self, library: str) -> str | None:
        """Reason why a library cannot run on this machine's GPUs; None if it can."""
        found = next((devices for devices in self.cuda if devices.library == library), None)
        return None if found is None else library_problem(found, self.cuda, self.driver)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCheck:
    """Result of checking, without loading it, that an engine can be loaded here."""

    name: str
    """Its key in the configuration, or its task in the list of all engines."""
    task: Task
    engine: str
    problem: str | None
    """The problem, with the command that mends it; None if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFolder:
    path: Path
    free_bytes: int
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RayCheck:
    mode: str
    address: str | None
    """None if no cluster is joined: Ray is started on this machine, or not used."""
    resources: Mapping[str, float]
    """Resources of the cluster, if it was reached."""
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    versions: Mapping[str, str]
    machine: Machine
    cache: CacheFolder
    ray: RayCheck
    engines: tuple[EngineCheck, ...]
    """All engines, with default options."""
    stages: tuple[EngineCheck, ...]
    """Engines of the configuration, with its options."""
    budgets: tuple[Budget, ...]
    """For a dub into one language, and for one into two."""
    available_gpus: float
    """GPUs of the cluster that is joined, else of this machine."""
    problems: tuple[str, ...]
    """Reasons why the configuration cannot run here; empty if it can."""


def diagnose(config: Config) -> Diagnosis:
    """Check this machine for ``config``. A problem is reported in the result, never raised."""
    machine = look_at_machine()
    cache = check_cache()
    cluster = check_ray(config.ray)
    engines = [check_engine(task, task, name, {}) for task in TASKS for name in engine_names(task)]
    stages = named_stages(config)
    # The replicas of a cluster that is joined run on its machines, not on this one.
    here = machine if cluster.address is None else None
    checked = [_check_stage(stage, config.ray, here) for stage in stages]
    budgets = tuple(add_up(stages, number) for number in (1, 2))
    available = machine.num_gpus if cluster.address is None else cluster.resources.get("GPU", 0)
    found = [cache.problem, cluster.problem, *_stage_problems(checked), _gpu_problem(config, stages, machine, cluster)]
    return Diagnosis(
        versions=versions((task, name) for task in TASKS for name in engine_names(task)),
        machine=machine,
        cache=cache,
        ray=cluster,
        engines=tuple(engines),
        stages=tuple(checked),
        budgets=budgets,
        available_gpus=available,
        problems=tuple(problem for problem in found if problem is not None),
    )


# --- the machine


def look_at_machine() -> Machine:
    return Machine(
        num_cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=_memory_bytes(),
        cuda=find_gpus(),
        driver=find_driver(),
    )


def _memory_bytes() -> int:
    """Memory that this process may use: the machine's, or its container's limit if that is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no such file; "max"
        return min(physical, int(_CGROUP_LIMIT.read_text()))
    return physical


def check_cache() -> CacheFolder:
    """Check the folder for derived weights, which is made at its first use."""
    path = weights.cache_dir().absolute()
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    problem = None if writable else f"the model cache must be writable; {path} is not; set RAYDUB_CACHE to one that is"
    return CacheFolder(path=path, free_bytes=shutil.disk_usage(existing).free, problem=problem)


# --- engines


def check_engine(
    name: str,
    task: Task,
    engine: str,
    options: Mapping[str, Any],
    num_gpus: float = 0.0,
    machine: Machine | None = None,
) -> EngineCheck:
    """Check an engine whose pool reserves ``num_gpus`` GPUs, of ``machine`` if that is given."""
    try:
        made = make_engine(task, engine, options)
        made.check_packages()
        models.check_weights(made)
        _check_device(made, num_gpus, machine)
    except (ConfigError, EngineLoadError) as error:
        return EngineCheck(name=name, task=task, engine=engine, problem=error.message)
    return EngineCheck(name=name, task=task, engine=engine, problem=None)


def _check_stage(stage: NamedStage, ray: RayConfig, machine: Machine | None) -> EngineCheck:
    settings = stage.settings
    if ray.mode == "inline" and settings.pool.num_gpus:
        problem = "ray.mode inline runs on CPUs only; set ray.mode to local, or num_gpus of the pool to 0"
        return EngineCheck(name=stage.name, task=stage.task, engine=settings.engine, problem=problem)
    return check_engine(stage.name, stage.task, settings.engine, settings.options, settings.pool.num_gpus, machine)


def _check_device(engine: Engine[Any, Any], num_gpus: float, machine: Machine | None) -> None:
    device = resolve_device(engine.config.device, num_gpus)
    if device == "cuda" and not engine.runs_on_gpu:
        raise EngineLoadError(f"it runs on CPUs only, but its pool reserves {num_gpus:g} of a GPU; set num_gpus to 0")
    library = library_of(engine.packages)
    if device == "cuda" and library is not None and machine is not None:
        problem = machine.gpu_problem(library)
        if problem is not None:
            raise EngineLoadError(problem)


def _stage_problems(stages: Sequence[EngineCheck]) -> list[str]:
    """Problems of the stages. One language that can be spoken is enough; a dub into another is refused later."""
    speech = [stage for stage in stages if stage.task == "speech"]
    needed = [stage for stage in stages if stage.task != "speech"]
    if all(stage.problem is not None for stage in speech):
        needed += speech[:1]
    problems = [f"{stage.name}: {stage.problem}" for stage in needed if stage.problem is not None]
    if not speech:
        problems.append("speech.by_language must name an engine for at least one language; found none")
    return problems


# --- Ray


def check_ray(settings: RayConfig) -> RayCheck:
    address = None if settings.mode == "inline" else cluster_address(settings)
    if address is None:
        return RayCheck(mode=settings.mode, address=None, resources={}, problem=None)
    try:
        resources = _resources_of(address)
    except (OSError, RuntimeError, ValueError) as error:  # no such host, no answer, another version, no address
        why = " ".join(str(error).split())
        problem = (
            f"the Ray cluster at {address} must be reachable; {why}; start it, set RAY_AUTH_TOKEN if it needs a token, "
            "or set ray.mode to local"
        )
        return RayCheck(mode=settings.mode, address=address, resources={}, problem=problem)
    return RayCheck(mode=settings.mode, address=address, resources=resources, problem=None)


def _resources_of(address: str) -> dict[str, float]:
    """Resources of a running cluster, such as CPU and GPU."""
    import ray  # slow to import, and without a cluster not needed

    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():  # Ray itself tries a wrong address for minutes
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    try:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return resources
    finally:
        ray.shutdown()


def _gpu_problem(config: Config, stages: Sequence[NamedStage], machine: Machine, cluster: RayCheck) -> str | None:
    """The problem if the pools need more GPUs than there are: such replicas wait until their pool gives up."""
    if config.ray.mode == "inline" or cluster.problem is not None:
        return None
    available = machine.num_gpus if cluster.address is None else cluster.resources.get("GPU", 0)
    shares = [stage.settings.pool.num_gpus * max(1, stage.settings.pool.smallest) for stage in stages]
    speech = [share for stage, share in zip(stages, shares, strict=True) if stage.task == "speech"]
    others = [share for stage, share in zip(stages, shares, strict=True) if stage.task != "speech"]
    needed = round(sum(others) + min(speech, default=0.0), 3)
    if needed <= available:
        return None
    return (
        f"the pools need {needed:g} GPUs for one target language; found {available:g}; join a cluster that has them "
        "with --set ray.address=HOST:PORT, set each pool's num_gpus to 0, or use --config offline"
    )
