"""The entry point of a batch as a Ray job: ``python -m cluster.cli.batch_job SPEC``.

``SPEC`` is the file that ``raydub submit`` wrote beside the results, or a manifest of items together with ``--to``
and ``--out``.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

import typer

from cluster import logs
from cluster.batch.run import BatchSpec, items_of, read_spec, run_batch
from cluster.cli.options import EXIT_INPUT, EXIT_VERDICT, Strict, run_app, with_strict
from cluster.config.load import load_config
from cluster.pools.ray_session import ray_session
from cluster.storage import locations


def run_spec(spec: BatchSpec) -> int:
    """Run the batch and print its counts; the exit status is 1 if an item failed, 3 for a failed strict verdict."""
    config = spec.settings()
    with ray_session(config):
        summary = asyncio.run(run_batch(spec, config))
    counts = ", ".join(f"{count} {state}" for state, count in summary.states.items())
    page = locations.join(spec.out, "summary.html")
    typer.echo(f"{summary.num_items} items: {counts}; {summary.num_kept} kept from an earlier run; {page}")
    if "failed" in summary.states:
        return EXIT_INPUT
    return EXIT_VERDICT if config.quality.strict and summary.num_failed_verdicts else 0


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    inputs: Annotated[list[str], typer.Argument(help="The file that `raydub submit` wrote, or manifests and media.")],
    to: Annotated[str | None, typer.Option("--to")] = None,
    source: Annotated[str | None, typer.Option("--from")] = None,
    out: Annotated[str, typer.Option("--out")] = "out",
    config: Annotated[str, typer.Option("--config")] = "offline",
    assignments: Annotated[list[str] | None, typer.Option("--set")] = None,
    num_drivers: Annotated[int, typer.Option("--drivers", min=1)] = 1,
    strict: Strict = False,
) -> None:
    """Dub a batch on the cluster that this process belongs to."""
    logs.set_up(logging.INFO)
    if len(inputs) == 1 and inputs[0].endswith(".json"):
        raise typer.Exit(run_spec(read_spec(inputs[0])))
    settings = load_config(config, with_strict(assignments, strict))
    spec = BatchSpec(
        items=items_of(inputs, to, source), out=out, num_drivers=num_drivers, config=settings.model_dump(mode="json")
    )
    raise typer.Exit(run_spec(spec))


if __name__ == "__main__":
    run_app(app)
