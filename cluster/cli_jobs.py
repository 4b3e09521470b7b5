"""``raydub submit`` and ``raydub jobs``: batches on a cluster, by way of Ray's job API."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tenacity
import typer
from ray.exceptions import AuthenticationError
from rich.console import Console
from rich.table import Table

import cluster
from actors.errors import ConfigError, DubbingError, MediaError
from cluster import ledger, places
from cluster.cli_options import EXIT_INPUT, ConfigName, From, ProfileName, Set
from cluster.config import load_config
from cluster.items import jobs_of
from cluster.job import Spec, items_of, read_spec

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

SUCCEEDED = "SUCCEEDED"
ENDED = (SUCCEEDED, "FAILED", "STOPPED")
"""Of Ray's JobStatus, whose members are strings."""

START_S = 60.0

jobs_app = typer.Typer(no_args_is_help=True, help="Batches on a cluster.")

Address = Annotated[
    str | None,
    typer.Option("--address", help="Of the dashboard, http://head:8265; else RAY_API_SERVER_ADDRESS."),
]
JobId = Annotated[str, typer.Argument(help="As `raydub submit` printed it.", metavar="JOB")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def submit(
    inputs: Annotated[list[str], typer.Argument(help="Manifests (CSV, JSONL, Parquet), media, folders, URLs.")],
    out: Annotated[str, typer.Option("--out", help="Folder or bucket that every node can write.")],
    to: Annotated[str | None, typer.Option("--to", help="Languages of items that name none.")] = None,
    source: From = None,
    config: ConfigName = "offline",
    profile: ProfileName = None,
    assignments: Set = None,
    num_drivers: Annotated[int, typer.Option("--drivers", min=1, help="Each has pools of its own.")] = 1,
    address: Address = None,
    ship: Annotated[
        bool, typer.Option("--ship", help="Send this installation's code along; else the nodes' own is used.")
    ] = False,
    python: Annotated[str, typer.Option("--python", help="The nodes' interpreter.")] = "python",
    env: Annotated[list[str] | None, typer.Option("--env", metavar="K=V", help="Set for the job's processes.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Print the log and end with the job's exit status.")] = False,
) -> None:
    """Dub a batch on a Ray cluster. The same again goes on where it ended."""
    settings = load_config(config, [*(assignments or ()), "ray.mode=cluster"], profile)
    items = items_of(inputs, to, source)
    jobs_of(items, out, settings)  # what is wrong with an item is told here, not on the cluster
    if not places.is_url(out):
        out = str(Path(out).resolve())
    items = tuple(
        item if places.is_url(item.source) else item.model_copy(update={"source": str(Path(item.source).resolve())})
        for item in items
    )
    spec = Spec(items=items, out=out, num_drivers=num_drivers, config=settings.model_dump(mode="json"))
    job = f"raydub-{uuid.uuid4().hex[:12]}"
    place = places.join(out, f".{job}.json")
    places.write_bytes(place, spec.model_dump_json(by_alias=False).encode())
    client = _client(address)
    _submit(
        client,
        entrypoint=f"{shlex.quote(python)} -m cluster.job {shlex.quote(place)}",
        submission_id=job,
        runtime_env=_runtime_env(ship, env or ()),
        metadata={"raydub_spec": place, "raydub_out": out},
    )
    typer.echo(job)
    if wait:
        raise typer.Exit(asyncio.run(_follow(client, job)))


@jobs_app.command("list")
def list_jobs(address: Address = None, as_json: AsJson = False) -> None:
    """The batches that the cluster knows of."""
    found = [details for details in _client(address).list_jobs() if "raydub_out" in (details.metadata or {})]
    rows = [
        {
            "job": details.submission_id,
            "status": details.status.value,
            "started_ms": details.start_time,
            "out": (details.metadata or {})["raydub_out"],
        }
        for details in sorted(found, key=lambda details: details.start_time or 0)
    ]
    if as_json:
        typer.echo(json.dumps({"jobs": rows}))
        return
    table = Table("job", "status", "out")
    for row in rows:
        table.add_row(str(row["job"]), str(row["status"]), str(row["out"]))
    Console().print(table)


@jobs_app.command("show")
def show(job: JobId, address: Address = None, as_json: AsJson = False) -> None:
    """What became of every item so far."""
    details = _client(address).get_job_info(job)
    if "raydub_spec" not in (details.metadata or {}):
        raise ConfigError(f"a batch must be named as `raydub submit` printed it; {job} is another job")
    spec = read_spec((details.metadata or {})["raydub_spec"])
    config = spec.settings()
    jobs = jobs_of(spec.items, spec.out, config)
    has_ended = details.status in ENDED
    known, waiting = [], []
    for each in jobs:
        try:
            status = ledger.read_status(each.out_place)
        except MediaError as error:
            status = ledger.unknown(each, error)
        if status is None or (has_ended and status.state == ledger.RUNNING):
            waiting.append(each.source_place)
        else:
            known.append(status)
    summary = ledger.summarise(known, len(jobs), 0, config, ended=has_ended)
    if as_json:
        typer.echo(json.dumps({"status": details.status.value, "summary": summary.model_dump(mode="json")}))
        return
    console = Console()
    counts = ", ".join(f"{count} {state}" for state, count in summary.states.items())
    console.print(f"{job}: {details.status.value}: {counts}", highlight=False, soft_wrap=True)
    plain: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
    for status in known:
        console.print(f"  {status.state:9} {status.source} {status.error or ''}", **plain)
    for source in waiting:
        console.print(f"  waiting   {source}", **plain)


@jobs_app.command("logs")
def logs(job: JobId, address: Address = None, follow: Annotated[bool, typer.Option("--follow")] = False) -> None:
    """The job's log."""
    client = _client(address)
    if follow:
        raise typer.Exit(asyncio.run(_follow(client, job)))
    typer.echo(client.get_job_logs(job), nl=False)


@jobs_app.command("stop")
def stop(job: JobId, address: Address = None) -> None:
    """End it; what is finished stands, and the same submitted again goes on."""
    _client(address).stop_job(job)


def _submit(client: JobSubmissionClient, **job: Any) -> None:
    """Raises DubbingError. A cluster that has just started takes no jobs for some seconds."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(RuntimeError),
        stop=tenacity.stop_after_delay(START_S),
        wait=tenacity.wait_fixed(1),
        reraise=True,
    )
    try:
        retrying(client.submit_job, **job)
    except RuntimeError as error:
        raise DubbingError(f"the cluster must take the job; {' '.join(str(error).split())}") from error


async def _follow(client: JobSubmissionClient, job: str) -> int:
    async for lines in client.tail_job_logs(job):
        typer.echo(lines, nl=False)
    return 0 if client.get_job_status(job) == SUCCEEDED else EXIT_INPUT


def _runtime_env(ship: bool, env: list[str] | tuple[str, ...]) -> dict[str, Any]:
    variables = {}
    for assignment in env:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise ConfigError(f"--env must look like KEY=VALUE; found {assignment!r}")
        variables[key] = value
    runtime_env: dict[str, Any] = {"env_vars": variables} if variables else {}
    if ship:
        # Nothing is downloaded: the folder goes through the head, its dependencies are the nodes'.
        root = Path(cluster.__file__).parent.parent
        excludes = [name for name in os.listdir(root) if name not in ("actors", "cluster", "serve", "configs")]
        runtime_env |= {"working_dir": str(root), "excludes": [f"/{name}" for name in excludes]}
    return runtime_env


def _client(address: str | None) -> JobSubmissionClient:
    address = address or os.environ.get("RAY_API_SERVER_ADDRESS")
    if address is None:
        raise ConfigError("the cluster must be named; give --address http://head:8265 or set RAY_API_SERVER_ADDRESS")
    from ray.job_submission import JobSubmissionClient  # a quarter of what every command would wait for

    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise DubbingError(
            f"the cluster at {address} must be shown its token; there is none here, or another; set "
            f"RAY_AUTH_MODE=token, and have the head's ~/.ray/auth_token here too, or in RAY_AUTH_TOKEN"
        ) from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise DubbingError(
            f"the cluster's dashboard at {address} must answer; {' '.join(str(error).split())}; is it running, "
            f"and is RAY_AUTH_MODE set as there?"
        ) from error
