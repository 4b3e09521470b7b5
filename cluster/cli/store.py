"""``raydub store``: the results that are kept to be used again."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from actors.errors import ConfigError, MediaError
from cluster.cli.options import AsJson, ConfigName

if TYPE_CHECKING:
    from cluster.storage.store import Store

EXIT_DAMAGED = 1
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

app = typer.Typer(no_args_is_help=True, help="Inspect and clean the store of computed results.")

Url = Annotated[str | None, typer.Option("--url", help="URL of the store, instead of the configured one.")]


@app.command("stats")
def stats(url: Url = None, config: ConfigName = "offline", as_json: AsJson = False) -> None:
    """Show the number and size of results, by task."""
    from rich.console import Console
    from rich.table import Table

    with _opened(url, config) as store:
        values = list(store.list())
    by_task: dict[str, list[int]] = defaultdict(list)
    for value in values:
        by_task[value.task].append(value.num_bytes)
    oldest_s = min((value.used_s for value in values if value.used_s is not None), default=None)
    if as_json:
        tasks = {task: {"num_values": len(sizes), "num_bytes": sum(sizes)} for task, sizes in sorted(by_task.items())}
        typer.echo(json.dumps({"url": store.url, "tasks": tasks, "unused_since_s": oldest_s}))
        return
    table = Table(title=store.url, title_justify="left")
    for column in ("task", "results", "MB"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task, sizes in sorted(by_task.items()):
        table.add_row(task, str(len(sizes)), f"{sum(sizes) / 1e6:.1f}")
    table.add_row("all", str(len(values)), f"{sum(value.num_bytes for value in values) / 1e6:.1f}")
    console = Console()
    console.print(table)
    if oldest_s is not None:
        console.print(f"least recently used on {time.strftime('%Y-%m-%d', time.localtime(oldest_s))}")


@app.command("gc")
def gc(
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size", metavar="SIZE", help="Size to keep, as in 500M or 20G, instead of the configured one."
        ),
    ] = None,
    url: Url = None,
    config: ConfigName = "offline",
    as_json: AsJson = False,
) -> None:
    """Remove the least recently used results until the rest fits."""
    max_bytes = None if max_size is None else _bytes(max_size)
    with _opened(url, config) as store:
        num_removed, num_bytes = store.gc(max_bytes)
    if as_json:
        typer.echo(json.dumps({"url": store.url, "num_removed": num_removed, "num_bytes": num_bytes}))
    else:
        typer.echo(f"{store.url}: removed {num_removed} results, {num_bytes / 1e6:.1f} MB")


@app.command("verify")
def verify(url: Url = None, config: ConfigName = "offline", as_json: AsJson = False) -> None:
    """Read every result and remove damaged ones; the exit status is 1 if there were any."""
    with _opened(url, config) as store:
        checked = [store.verify(value) for value in list(store.list())]
    num_damaged = checked.count(False)
    if as_json:
        typer.echo(json.dumps({"url": store.url, "num_values": len(checked), "num_damaged": num_damaged}))
    else:
        typer.echo(f"{store.url}: {len(checked)} results, {num_damaged} damaged and removed")
    raise typer.Exit(EXIT_DAMAGED if num_damaged else 0)


@contextmanager
def _opened(url: str | None, config: str) -> Iterator[Store]:
    from cluster.config.load import load_config
    from cluster.storage.store import NONE, StoreError, open_store

    store = open_store(load_config(config, [] if url is None else [f"store.url={json.dumps(url)}"]).store)
    if store is None:
        raise ConfigError(f"the configuration must have a store; store.url is {NONE}; name one with --url")
    try:
        yield store
    except StoreError as error:
        raise MediaError(f"the store must answer; {error}") from error


def _bytes(size: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGT]?)B?", size)
    if match is None:
        raise ConfigError(f"--max-size must look like 500M or 20G; found {size!r}")
    return int(float(match[1]) * UNITS[match[2]])
