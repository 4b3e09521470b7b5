"""What this machine can run, and the command that mends what it cannot. Loads no model and fetches nothing."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import re
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from actors import weights
from actors.engine import Engine, engine_names, make_engine
from actors.errors import ConfigError, EngineLoadError
from actors.types import TASKS, Task
from cluster import models
from cluster.config import Config, RayConfig
from cluster.manifest import versions
from cluster.models import Stage
from cluster.pools import cluster_address

CONNECT_TIMEOUT_S = 3.0
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_REQUIREMENT_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaDevices:
    """The GPUs that one library sees; another may see others, if it was built without CUDA."""

    library: str
    num_devices: int
    names: tuple[str, ...]
    """Empty where the library does not tell."""
    error: str | None
    """Why the library could not be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    num_cpus: int
    memory_bytes: int
    cuda: tuple[CudaDevices, ...]

    @property
    def num_gpus(self) -> int:
        return max((seen.num_devices for seen in self.cuda), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCheck:
    """Whether an engine could be loaded here, as far as can be told without loading it."""

    name: str
    """Where it stands in the configuration; its task where all engines are listed."""
    task: Task
    engine: str
    problem: str | None
    """What is missing, with the command that mends it; None if nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    path: Path
    free_bytes: int
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RayCheck:
    mode: str
    address: str | None
    """None: no cluster is joined; Ray is started on this machine, or not used at all."""
    resources: Mapping[str, float]
    """Of the cluster that was reached."""
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    versions: Mapping[str, str]
    machine: Machine
    cache: Folder
    ray: RayCheck
    engines: tuple[EngineCheck, ...]
    """All there are, with default options."""
    stages: tuple[EngineCheck, ...]
    """Those of the configuration, with its options."""
    problems: tuple[str, ...]
    """Why the configuration cannot run here; none if it can."""


def diagnose(config: Config) -> Diagnosis:
    """Never raises for what it finds."""
    machine = look_at_machine()
    cache = check_cache()
    cluster = check_ray(config.ray)
    engines = [check_engine(task, task, name, {}, machine) for task in TASKS for name in engine_names(task)]
    stages = models.stages(config)
    checked = [
        check_engine(stage.name, stage.task, stage.settings.engine, stage.settings.options, machine) for stage in stages
    ]
    found = [cache.problem, cluster.problem, *_stage_problems(checked), _gpu_problem(config, stages, machine, cluster)]
    return Diagnosis(
        versions=_versions(),
        machine=machine,
        cache=cache,
        ray=cluster,
        engines=tuple(engines),
        stages=tuple(checked),
        problems=tuple(problem for problem in found if problem is not None),
    )


# --- the machine


def look_at_machine() -> Machine:
    return Machine(
        num_cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=_memory_bytes(),
        cuda=(_seen_by_ctranslate2(), _seen_by_torch()),
    )


def _memory_bytes() -> int:
    """What this process may use: the machine's, or its container's if that is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no such file; "max"
        return min(physical, int(_CGROUP_LIMIT.read_text()))
    return physical


def _seen_by_ctranslate2() -> CudaDevices:
    try:
        import ctranslate2

        num_devices = ctranslate2.get_cuda_device_count()
    except Exception as error:  # a damaged installation may raise anything
        return _unseen("ctranslate2", error)
    return CudaDevices(library="ctranslate2", num_devices=num_devices, names=(), error=None)


def _seen_by_torch() -> CudaDevices:
    try:
        import torch

        num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        names = tuple(torch.cuda.get_device_name(index) for index in range(num_devices))
    except Exception as error:  # a damaged installation, or a driver that does not suit it, may raise anything
        return _unseen("torch", error)
    return CudaDevices(library="torch", num_devices=num_devices, names=names, error=None)


def _unseen(library: str, error: Exception) -> CudaDevices:
    missing = isinstance(error, ModuleNotFoundError) and error.name == library
    why = "not installed" if missing else f"{type(error).__name__}: {' '.join(str(error).split())}"
    return CudaDevices(library=library, num_devices=0, names=(), error=why)


def check_cache() -> Folder:
    """The node's folder for derived weights, which is made when it is first needed."""
    path = weights.cache_dir().absolute()
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    problem = None if writable else f"the model cache must be writable; {path} is not; set RAYDUB_CACHE to one that is"
    return Folder(path=path, free_bytes=shutil.disk_usage(existing).free, problem=problem)


def _versions() -> dict[str, str]:
    """Of raydub, Python, and every package that some engine needs."""
    needs = [
        need for task in TASKS for name in engine_names(task) for need in make_engine(task, name, {}).packages.values()
    ]
    found = versions()
    for need in needs:
        match = _REQUIREMENT_NAME.match(need)
        assert match is not None, need
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[match[0]] = importlib.metadata.version(match[0])
    return found


# --- engines


def check_engine(name: str, task: Task, engine: str, options: Mapping[str, Any], machine: Machine) -> EngineCheck:
    try:
        made = make_engine(task, engine, options)
        made.check_packages()
        models.check_weights(made)
        _check_device(made, machine)
    except (ConfigError, EngineLoadError) as error:
        return EngineCheck(name=name, task=task, engine=engine, problem=error.message)
    return EngineCheck(name=name, task=task, engine=engine, problem=None)


def _check_device(engine: Engine[Any, Any], machine: Machine) -> None:
    if engine.config.device == "cuda" and not machine.num_gpus:
        raise EngineLoadError("device: cuda needs a GPU, none is seen here; set device: auto")


def _stage_problems(stages: Sequence[EngineCheck]) -> list[str]:
    """One language that can be spoken is enough; the others are reported, and refused when they are asked for."""
    speech = [stage for stage in stages if stage.task == "speech"]
    needed = [stage for stage in stages if stage.task != "speech"]
    if all(stage.problem is not None for stage in speech):
        needed += speech[:1]
    problems = [f"{stage.name}: {stage.problem}" for stage in needed if stage.problem is not None]
    return problems if speech else [*problems, "speech.by_language must name an engine for some language; it has none"]


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
            f"the Ray cluster at {address} must be reachable; {why}; start it, set RAY_AUTH_TOKEN if it wants a token, "
            "or set ray.mode to local"
        )
        return RayCheck(mode=settings.mode, address=address, resources={}, problem=problem)
    return RayCheck(mode=settings.mode, address=address, resources=resources, problem=None)


def _resources_of(address: str) -> dict[str, float]:
    """CPU, GPU and the rest of a running cluster."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():  # a wrong address costs Ray itself minutes of trying
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    try:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return resources
    finally:
        ray.shutdown()


def _gpu_problem(config: Config, stages: Sequence[Stage], machine: Machine, cluster: RayCheck) -> str | None:
    """Replicas that no node has a GPU for would wait until their pool gives up."""
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
        f"the pools need {needed:g} GPUs for one target language, found {available:g}; join a cluster that has them "
        "with --set ray.address=HOST:PORT, set each pool's num_gpus to 0, or use --config offline"
    )
