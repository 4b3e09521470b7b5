"""``raydub jobs``: the batches on a cluster."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from actors.errors import ConfigError, MediaError
from cluster.cli.options import AsJson
from cluster.cli.submit import Address

app = typer.Typer(no_args_is_help=True, help="List, watch and stop batches on a cluster.")

JobId = Annotated[str, typer.Argument(help="Name of the batch, as `raydub submit` printed it.", metavar="JOB")]


@app.command("list")
def list_jobs(address: Address = None, as_json: AsJson = False) -> None:
    """List the batches on the cluster."""
    from rich.console import Console
    from rich.table import Table

    from cluster.cli.ray_jobs import OUT_KEY, connect

    found = [details for details in connect(address).list_jobs() if OUT_KEY in (details.metadata or {})]
    rows = [
        {
            "job": details.submission_id,
            "status": details.status.value,
            "started_ms": details.start_time,
            "out": (details.metadata or {})[OUT_KEY],
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


@app.command("show")
def show(job: JobId, address: Address = None, as_json: AsJson = False) -> None:
    """Show the state of every item of a batch."""
    from rich.console import Console

    from cluster.batch import ledger
    from cluster.batch.items import ItemJobs
    from cluster.batch.run import read_spec
    from cluster.cli.ray_jobs import ENDED, SPEC_KEY, connect

    details = connect(address).get_job_info(job)
    if SPEC_KEY not in (details.metadata or {}):
        raise ConfigError(f"the job must be a batch that `raydub submit` started; {job} is not")
    spec = read_spec((details.metadata or {})[SPEC_KEY])
    config = spec.settings()
    jobs = ItemJobs(spec.items, spec.out)
    has_ended = details.status in ENDED
    known, waiting = [], []
    for each, status in zip(jobs, ledger.read_statuses(jobs), strict=True):
        if status is None or (has_ended and status.state == ledger.RUNNING):
            waiting.append(each.source_location)
        else:
            known.append(status)
    try:
        held_up = () if has_ended else ledger.read_waiting(spec.out)
    except MediaError as error:
        held_up = (error.message,)
    summary = ledger.summarise(known, len(jobs), 0, config, ended=has_ended)
    if as_json:
        tree = {"status": details.status.value, "waiting": held_up, "summary": summary.model_dump(mode="json")}
        typer.echo(json.dumps(tree))
        return
    console = Console()
    counts = ", ".join(f"{count} {state}" for state, count in summary.states.items())
    console.print(f"{job}: {details.status.value}: {counts}", highlight=False, soft_wrap=True)
    plain: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
    for text in held_up:
        console.print(f"  {text}", **plain)
    for status in known:
        console.print(f"  {status.state:9} {status.source} {status.error or ''}", **plain)
    for source in waiting:
        console.print(f"  waiting   {source}", **plain)


@app.command("logs")
def logs(
    job: JobId,
    address: Address = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print the log as it grows, and exit with the job's status.")
    ] = False,
) -> None:
    """Print the log of a batch."""
    import asyncio

    from cluster.cli.ray_jobs import connect, follow_job

    client = connect(address)
    if follow:
        raise typer.Exit(asyncio.run(follow_job(client, job)))
    typer.echo(client.get_job_logs(job), nl=False)


@app.command("stop")
def stop(job: JobId, address: Address = None) -> None:
    """Stop a batch. Finished items are kept; submit it again to continue."""
    from cluster.cli.ray_jobs import connect

    connect(address).stop_job(job)
