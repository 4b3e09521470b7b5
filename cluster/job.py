"""A batch on a Ray cluster: what runs there as the job's entry point, ``python -m cluster.job SPEC``.

``SPEC`` is what ``raydub submit`` wrote beside the results, or a manifest of items together with ``--to``
and ``--out``. Running it again goes on: what stands is kept, and what was computed is in the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors import languages
from actors.errors import ConfigError, MediaError
from cluster import ledger, logs, places
from cluster.cli_options import EXIT_INPUT, run_app
from cluster.config import Config, load_config
from cluster.drivers import run_sharded
from cluster.items import Item, is_manifest, jobs_of, read_items
from cluster.ledger import ItemStatus, Summary
from cluster.manifest import printable
from cluster.pipeline import Job
from cluster.pools import ray_session
from cluster.runner import Outcome

log = logging.getLogger("cluster.job")  # as an entry point this module is called __main__


class Spec(BaseModel):
    """A batch, complete: any machine of the cluster can run it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: tuple[Item, ...]
    out: str
    num_drivers: int = Field(default=1, ge=1, le=10_000)
    config: dict[str, Any]

    def settings(self) -> Config:
        """Raises ConfigError."""
        try:
            return Config.model_validate(self.config)
        except ValidationError as error:
            raise ConfigError(f"the batch's configuration must be valid: {error.errors()[0]['msg']}") from error


def items_of(inputs: Sequence[str], to: str | None, source_language: str | None) -> tuple[Item, ...]:
    """Rows of manifests, and media; ``to`` and ``source_language`` where an item says nothing else."""
    targets = () if to is None else tuple(languages.normalise(tag.strip()) for tag in to.split(","))
    spoken = None if source_language is None else languages.normalise(source_language)
    items: list[Item] = []
    for place in inputs:
        found = read_items(place) if is_manifest(place) else [Item(source=each) for each in places.expand([place])]
        items += [
            item.model_copy(
                update={"to": item.to or targets, "source_language": item.source_language or spoken},
            )
            for item in found
        ]
    for item in items:
        if item.source != printable(item.source):
            raise ConfigError(
                f"a file's name must be text (UTF-8) to stand in a batch; that of {printable(item.source)} is not; "
                f"rename it, or dub it with `raydub dub`"
            )
    return tuple(items)


async def run_batch(spec: Spec, config: Config) -> Summary:
    """Dub what does not stand yet, and write down what became of each as it comes.

    Raises MediaError if the summary cannot be written.
    """
    jobs = jobs_of(spec.items, spec.out, config)
    marks, found = await asyncio.to_thread(ledger.standing, jobs, config)
    kept = [status for status in found if status is not None]
    waiting = [job for job, status in zip(jobs, found, strict=True) if status is None]
    mark_of = {job.out_place: mark for job, mark in zip(jobs, marks, strict=True)}
    batch = _Batch(spec.out, config, kept, len(jobs))
    log.info("batch items=%d kept=%d drivers=%d", len(jobs), len(kept), spec.num_drivers)
    async with asyncio.TaskGroup() as writes:

        def note(outcome: Outcome) -> None:
            writes.create_task(batch.note(ledger.status_of(outcome, mark_of[outcome.job.out_place])))

        def note_start(job: Job) -> None:
            writes.create_task(batch.note_start(ledger.running(job, mark_of[job.out_place])))

        if waiting:
            await run_sharded(waiting, config, spec.num_drivers, note, note_start)
    return await batch.end()


class _Batch:
    """Writes statuses, one at a time and in order, and the summary.

    A status that cannot be written costs no dub: the summary has it, and it is tried once more at the end.
    """

    def __init__(self, out: str, config: Config, kept: Sequence[ItemStatus], num_items: int) -> None:
        self._out = out
        self._config = config
        self._statuses = list(kept)
        self._num_kept = len(kept)
        self._num_items = num_items
        self._unwritten: dict[str, ItemStatus] = {}
        """The latest of each item, by its output."""
        self._writing = asyncio.Lock()

    async def note_start(self, status: ItemStatus) -> None:
        async with self._writing:
            await self._write(status)

    async def note(self, status: ItemStatus) -> None:
        async with self._writing:
            self._statuses.append(status)
            log.info("item state=%s source=%s error=%s", status.state, status.source, status.error)
            await self._write(status)

    async def end(self) -> Summary:
        """Raises MediaError."""
        await asyncio.gather(*map(self._write, tuple(self._unwritten.values())))
        summary = ledger.summarise(self._statuses, self._num_items, self._num_kept, self._config, ended=True)
        try:
            await asyncio.to_thread(ledger.write_summary, summary, self._out)
        except MediaError as error:
            raise MediaError(
                f"the batch's summary must be written; {error.message}; the log has what became of each item, and the "
                f"same batch again keeps what stands"
            ) from error
        return summary

    async def _write(self, status: ItemStatus) -> None:
        try:
            await asyncio.to_thread(ledger.write_status, status)
        except MediaError as error:
            log.warning("status not written state=%s out=%s error=%s", status.state, status.out, error.message)
            self._unwritten[status.out] = status
        else:
            self._unwritten.pop(status.out, None)


def run_spec(spec: Spec) -> int:
    config = spec.settings()
    with ray_session(config):
        summary = asyncio.run(run_batch(spec, config))
    counts = ", ".join(f"{count} {state}" for state, count in summary.states.items())
    typer.echo(f"{summary.num_items} items: {counts}; {summary.num_kept} kept; {places.join(spec.out, 'summary.html')}")
    return EXIT_INPUT if "failed" in summary.states else 0


def read_spec(place: str) -> Spec:
    data = places.read_bytes(place)
    if data is None:
        raise ConfigError(f"the batch must be written where the cluster can read it; {place} is not there")
    try:
        return Spec.model_validate_json(data)
    except ValidationError as error:
        raise ConfigError(
            f"{place} must be a batch as `raydub submit` writes it: {error.errors()[0]['msg']}"
        ) from error


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    inputs: Annotated[list[str], typer.Argument(help="What `raydub submit` wrote, or manifests and media.")],
    to: Annotated[str | None, typer.Option("--to")] = None,
    source: Annotated[str | None, typer.Option("--from")] = None,
    out: Annotated[str, typer.Option("--out")] = "out",
    config: Annotated[str, typer.Option("--config")] = "offline",
    assignments: Annotated[list[str] | None, typer.Option("--set")] = None,
    num_drivers: Annotated[int, typer.Option("--drivers", min=1)] = 1,
) -> None:
    """Dub a batch on the cluster that this process belongs to."""
    logs.set_up(logging.INFO)
    if len(inputs) == 1 and inputs[0].endswith(".json"):
        raise typer.Exit(run_spec(read_spec(inputs[0])))
    settings = load_config(config, assignments or ())
    spec = Spec(
        items=items_of(inputs, to, source), out=out, num_drivers=num_drivers, config=settings.model_dump(mode="json")
    )
    raise typer.Exit(run_spec(spec))


if __name__ == "__main__":
    run_app(app)
