"""``raydub doctor``: what can run on this machine, and how to mend what cannot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from cluster.cli.options import AsJson, ConfigName, ProfileName, Set

if TYPE_CHECKING:
    from rich.console import Console

    from actors.device import GpuDriver
    from cluster.admin.doctor import Diagnosis, EngineCheck, RayCheck
    from cluster.admin.gpus import CudaDevices

EXIT_PROBLEM = 1


def doctor(
    config: ConfigName = "offline", profile: ProfileName = None, assignments: Set = None, as_json: AsJson = False
) -> None:
    """Check what is installed and what can run here, and print how to mend the rest.

    The exit status is 1 if the configuration cannot run.
    """
    import dataclasses

    from cluster.admin.doctor import diagnose
    from cluster.cli.tables import wide_console
    from cluster.config.load import load_config

    found = diagnose(load_config(config, assignments or (), profile))
    if as_json:
        record = dataclasses.asdict(found) | {"config": config, "can_run": not found.problems}
        typer.echo(json.dumps(record, default=str))
    else:
        show(found, config, wide_console())
    raise typer.Exit(EXIT_PROBLEM if found.problems else 0)


def show(found: Diagnosis, config: str, console: Console) -> None:
    """Print a diagnosis for a person."""
    from cluster.cli.tables import gigabytes

    def line(label: str, text: str) -> None:
        console.print(f"{label:<10}{text}", markup=False, highlight=False, soft_wrap=True)

    machine, cache = found.machine, found.cache
    line("installed", ", ".join(f"{name} {version}" for name, version in found.versions.items()))
    line("machine", f"{machine.num_cpus} CPUs, {gigabytes(machine.memory_bytes)} of memory")
    line("driver", "none" if machine.driver is None else _driver(machine.driver))
    for devices in machine.cuda:
        line("CUDA", f"{devices.library}: {_devices(devices)}")
    line("cache", f"{cache.path}, {gigabytes(cache.free_bytes)} free")
    line("Ray", _ray(found.ray))
    console.print()
    _show_engines("engine, by default", found.engines, console)
    _show_engines(f"configuration {config}", found.stages, console)
    for text in _budget_lines(found):
        line("takes", text)
    if not found.problems:
        line("result", f"configuration {config} can run here")
    for problem in found.problems:
        line("problem", problem)


def _show_engines(title: str, checks: tuple[EngineCheck, ...], console: Console) -> None:
    from cluster.cli.tables import plain_table

    table = plain_table(title, "engine", "runs here")
    for check in checks:
        table.add_row(check.name, check.engine, "no" if check.problem else "yes")
    console.print(table)
    # Below the table, which would break the lines of commands that are to be copied.
    for problem in dict.fromkeys(check.problem for check in checks if check.problem):
        console.print(f"- {problem}", markup=False, highlight=False, soft_wrap=True)
    console.print()


def _budget_lines(found: Diagnosis) -> list[str]:
    """One line for each number of languages, one for known licences, and one for those that forbid commercial use."""
    lines = []
    for budget in found.budgets:
        languages = "1 language" if budget.num_languages == 1 else f"{budget.num_languages} languages"
        fits = "fits" if budget.num_gpus <= found.available_gpus else "does not fit"
        unknown = "".join(f"; no estimate for {name}" for name in budget.not_estimated if budget.num_gpus)
        lines.append(
            f"into {languages}: {budget.num_gpus:g} GPU, about {budget.gpu_gb:g} GB of its memory (estimate from the "
            f"sizes of weights, docs/models.md){unknown}; {fits} the {found.available_gpus:g} found"
            if budget.num_gpus
            else f"into {languages}: no GPU"
        )
    if names := list(dict.fromkeys(name for budget in found.budgets for name in budget.licences)):
        lines.append(f"licences: {', '.join(names)}")
    if names := list(dict.fromkeys(name for budget in found.budgets for name in budget.non_commercial)):
        lines.append(f"not for commercial use: {', '.join(names)}")
    return lines


def _devices(devices: CudaDevices) -> str:
    built = "" if devices.cuda_version is None else f", built for CUDA {devices.cuda_version}"
    if devices.error is not None:
        return f"{devices.error}{built}"
    return f"{devices.num_devices} devices{built}" + (f": {', '.join(devices.names)}" if devices.names else "")


def _driver(driver: GpuDriver) -> str:
    return f"NVIDIA {driver.version}, for CUDA up to {driver.cuda_version}"


def _ray(check: RayCheck) -> str:
    if check.problem is not None:
        return f"{check.address} not reachable"
    if check.address is None:
        return "not used" if check.mode == "inline" else "no cluster: started on this machine for each run"
    shown = ", ".join(f"{check.resources.get(name, 0):g} {name}s" for name in ("CPU", "GPU"))
    return f"{check.address} reachable: {shown}"
