"""``raydub submit``: a batch as a job on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import cluster
from actors.errors import ConfigError
from cluster.cli.options import ConfigName, From, ProfileName, Set, Strict, with_strict

if TYPE_CHECKING:
    from cluster.batch.items import Item
    from cluster.batch.run import BatchSpec
    from cluster.config.schema import Config

Address = Annotated[
    str | None,
    typer.Option("--address", help="Dashboard of the cluster, http://head:8265.", envvar="RAY_API_SERVER_ADDRESS"),
]
Inputs = Annotated[
    list[str], typer.Argument(help="Manifests (CSV, JSONL, Parquet), media, folders, URLs.", metavar="INPUT...")
]
Out = Annotated[str, typer.Option("--out", help="Folder or bucket that every node can write to.")]
To = Annotated[str | None, typer.Option("--to", help="Target languages of items that name none.")]
NumDrivers = Annotated[
    int, typer.Option("--drivers", min=1, help="Processes that share the items; each has its own pools.")
]
Ship = Annotated[
    bool, typer.Option("--ship", help="Send the code of this installation; without it, the nodes use theirs.")
]
Python = Annotated[str, typer.Option("--python", help="Python interpreter on the nodes.")]
Env = Annotated[
    list[str] | None, typer.Option("--env", metavar="K=V", help="Environment variable of the job; repeatable.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Print the log, and exit with the job's status.")]


def submit(
    inputs: Inputs,
    out: Out,
    to: To = None,
    source: From = None,
    config: ConfigName = "offline",
    profile: ProfileName = None,
    assignments: Set = None,
    num_drivers: NumDrivers = 1,
    address: Address = None,
    ship: Ship = False,
    python: Python = "python",
    env: Env = None,
    wait: Wait = False,
    strict: Strict = False,
) -> None:
    """Dub a batch on a Ray cluster.

    Submit the same batch again to continue it: finished items are kept.
    """
    import asyncio
    import shlex

    from cluster.cli.ray_jobs import OUT_KEY, SPEC_KEY, connect, follow_job, submit_job
    from cluster.config.load import load_config

    settings = load_config(config, [*with_strict(assignments, strict), "ray.mode=cluster"], profile)
    spec = _spec(inputs, out, to, source, num_drivers, settings)
    job, location = _write_spec(spec)
    client = connect(address)
    submit_job(
        client,
        entrypoint=f"{shlex.quote(python)} -m cluster.cli.batch_job {shlex.quote(location)}",
        submission_id=job,
        runtime_env=_runtime_env(ship, env or ()),
        metadata={SPEC_KEY: location, OUT_KEY: spec.out},
    )
    typer.echo(job)
    if wait:
        raise typer.Exit(asyncio.run(follow_job(client, job)))


def _spec(
    inputs: Sequence[str], out: str, to: str | None, source: str | None, num_drivers: int, settings: Config
) -> BatchSpec:
    """The batch, with absolute paths. Raises ConfigError for a wrong item, before the cluster would."""
    from cluster.batch.items import check_items
    from cluster.batch.run import BatchSpec, items_of

    items = items_of(inputs, to, source)
    check_items(items, out, settings)
    return BatchSpec(
        items=_with_absolute_sources(items),
        out=_absolute(out),
        num_drivers=num_drivers,
        config=settings.model_dump(mode="json"),
        are_checked=True,
    )


def _write_spec(spec: BatchSpec) -> tuple[str, str]:
    """Write the batch beside its results; returns its name and the file's location."""
    import uuid

    from cluster.storage import locations

    job = f"raydub-{uuid.uuid4().hex[:12]}"
    location = locations.join(spec.out, f".{job}.json")
    locations.write_bytes(location, spec.model_dump_json(by_alias=False).encode())
    return job, location


def _with_absolute_sources(items: Sequence[Item]) -> tuple[Item, ...]:
    folders: dict[str, str] = {}
    """Real paths of the sources' folders, which are few."""
    absolute = []
    for item in items:
        folder, name = os.path.split(item.source)
        if folder not in folders:
            folders[folder] = _absolute(folder)
        source = item.source if _is_url(item.source) else os.path.join(folders[folder], name)
        absolute.append(item if source == item.source else item.model_copy(update={"source": source}))
    return tuple(absolute)


def _absolute(location: str) -> str:
    return location if _is_url(location) else str(Path(location).resolve())


def _is_url(location: str) -> bool:
    from cluster.storage import locations

    return locations.is_url(location)


def _runtime_env(ship: bool, env: Sequence[str]) -> dict[str, Any]:
    variables = {}
    for assignment in env:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise ConfigError(f"--env must look like KEY=VALUE; found {assignment!r}")
        variables[key] = value
    runtime_env: dict[str, Any] = {"env_vars": variables} if variables else {}
    if ship:
        # The folder goes through the head, so the nodes download nothing else: dependencies must be installed there.
        root = Path(cluster.__file__).parent.parent
        excludes = [name for name in os.listdir(root) if name not in ("actors", "cluster", "serve", "configs")]
        runtime_env |= {"working_dir": str(root), "excludes": [f"/{name}" for name in excludes]}
    return runtime_env
