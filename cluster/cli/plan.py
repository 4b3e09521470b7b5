"""``raydub plan``: the replicas, GPUs, nodes, time and money of a batch, by measured times."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.errors import ConfigError
from cluster.cli.options import AsJson, ConfigName, Set

if TYPE_CHECKING:
    from cluster.analysis.plan import CapacityPlan
    from cluster.analysis.workload import Workload
    from cluster.config.schema import Config

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

Hours = Annotated[float, typer.Option("--hours", min=0, help="Hours of media.")]
Languages = Annotated[int, typer.Option("--languages", min=1, help="Number of target languages.")]
Deadline = Annotated[str | None, typer.Option("--deadline", help="Wall time that must do: 24h, 90m, 2d.")]
MaxGpus = Annotated[
    int | None, typer.Option("--gpus", min=1, help="GPUs that must do; without --deadline, the shortest time on them.")
]
FromManifest = Annotated[
    list[Path] | None,
    typer.Option(
        "--from-manifest", metavar="PATH", help="Manifest, or folder of a dub or a batch, with the times; repeatable."
    ),
]
Times = Annotated[
    Path | None, typer.Option("--times", help="Times in YAML or JSON, such as --json prints, instead of manifests.")
]
VideoMinutes = Annotated[
    float | None, typer.Option("--video-minutes", min=0.1, help="Length of each video; as measured if not given.")
]
StartTime = Annotated[float, typer.Option("--start-s", min=0, help="Seconds until drivers and replicas are ready.")]
DriverCpu = Annotated[
    float, typer.Option("--driver-cpu-s", min=0, help="CPU seconds of a driver for a second of media and language.")
]
NodeGpus = Annotated[int, typer.Option("--node-gpus", min=1, help="GPUs of a node.")]
NodeCpus = Annotated[float, typer.Option("--node-cpus", min=1, help="CPUs of a node.")]


def plan(
    hours: Hours,
    languages: Languages,
    deadline: Deadline = None,
    max_gpus: MaxGpus = None,
    manifests: FromManifest = None,
    times: Times = None,
    config: ConfigName = "gpu",
    assignments: Set = None,
    video_minutes: VideoMinutes = None,
    start_s: StartTime = 120.0,
    driver_cpu_s: DriverCpu = 0.08,
    node_gpus: NodeGpus = 8,
    node_cpus: NodeCpus = 128.0,
    as_json: AsJson = False,
) -> None:
    """Plan a batch: replicas, GPUs, nodes, time and money, by measured times.

    The configuration is that of the manifests, or with --times that of --config; --set changes it.
    """
    from cluster.analysis.packing import NodeShape
    from cluster.analysis.plan import PlanTask
    from cluster.analysis.plan import plan as planned

    workload, settings = _measured(manifests or [], times, config, assignments or [])
    task = PlanTask(
        hours=hours,
        languages=languages,
        deadline_s=None if deadline is None else _seconds(deadline),
        max_gpus=max_gpus,
        video_s=None if video_minutes is None else 60 * video_minutes,
        start_s=start_s,
        driver_cpu_s=driver_cpu_s,
        shape=NodeShape(gpus=node_gpus, cpus=node_cpus),
    )
    found = planned(workload, settings, task)
    if as_json:
        typer.echo(json.dumps({**dataclasses.asdict(found), "workload": workload.model_dump(mode="json")}))
    else:
        _print(found)


def _measured(paths: list[Path], times: Path | None, config: str, assignments: list[str]) -> tuple[Workload, Config]:
    from cluster.analysis.recorded import read_dubs
    from cluster.analysis.workload import measured_workload, read_times
    from cluster.config.load import load_config, recorded_config

    if bool(paths) == (times is not None):
        raise ConfigError("plan must be given times, by --from-manifest or by --times; see raydub plan --help")
    if times is not None:
        return read_times(times), load_config(config, assignments)
    found = [dub.manifest for dub in read_dubs(paths) if dub.manifest is not None]
    workload = measured_workload(found)
    return workload, recorded_config(found[0].config, assignments)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if match is None:
        raise ConfigError(f"--deadline must be a number with s, m, h or d, such as 24h; found {text!r}")
    return float(match[1]) * UNITS_S[match[2]]


def _print(found: CapacityPlan) -> None:
    from cluster.cli.tables import plain_table, wide_console

    console = wide_console()
    console.print(_text(found), highlight=False, markup=False)
    table = plain_table("pool", "replicas", "GPU each", "requests", "engine time", "busy", "setting, in each driver")
    for pool in found.pools:
        each = f", in each of {pool.num_pools} languages' pools" if pool.num_pools > 1 else ""
        table.add_row(
            pool.name,
            str(pool.total_replicas),
            f"{pool.gpus:g}",
            f"{pool.requests:,.0f}",
            f"{pool.engine_s / 3600:,.1f} h",
            f"{pool.busy:.0%}",
            f"--set {pool.setting}={pool.replicas}{each}",
        )
    console.print(table)
    for assumption in found.assumptions:
        console.print(f"assumed: {assumption}", highlight=False, markup=False)


def _text(found: CapacityPlan) -> str:
    videos = f"{found.num_videos:,} videos, {found.num_lines:,} lines"
    nodes = f"{found.num_nodes} node{'s' if found.num_nodes > 1 else ''} of {found.shape}"
    gpus = f"{found.num_gpus} GPUs on {nodes}" if found.shape.gpus else nodes
    gpu_hours = f"{found.gpu_hours:,.1f} GPU hours, " if found.shape.gpus else ""
    price = f"{found.cost:,.2f} {found.currency}, {found.cost_per_minute:.4f} for each dubbed minute"
    return (
        f"{found.hours:g} h of media into {found.languages} languages ({videos}): {found.wall_s / 3600:.2f} h on "
        f"{gpus}.\n"
        f"{gpu_hours}{found.cpu_hours:,.1f} CPU hours; {price if found.cost else 'no price: set price.gpu_hour'}.\n"
        f"raydub submit --drivers {found.num_drivers} --set pipeline.max_videos={found.max_videos}; the longest video "
        f"alone would take {found.alone_s / 60:.1f} min."
    )
