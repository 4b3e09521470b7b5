"""Dubs jobs for a command: connects to Ray, shows progress, ends in order when interrupted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import typer
from rich.console import Console

from cluster.batch.runner import ItemOutcome, run
from cluster.cli.display import make_display
from cluster.cli.options import EXIT_INTERRUPTED
from cluster.config.schema import Config
from cluster.pipeline import Job
from cluster.pools.ray_session import ray_session

T = TypeVar("T")


def dub_jobs(
    jobs: Sequence[Job], config: Config, console: Console, *, pools: Sequence[Config] = ()
) -> list[ItemOutcome]:
    """Dub every job; outcomes are in the order of the jobs.

    ``pools`` are the configurations that a local Ray must have room for, if not ``config``. Raises typer.Exit if
    interrupted.
    """
    try:
        with ray_session(*(pools or (config,))), make_display(console, len(jobs)) as display:
            outcomes = asyncio.run(_until_terminated(run(jobs, config, display.show, display.finish)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted: finished videos are kept, partial results were removed", highlight=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if len(jobs) > 1:
        display.summarise()
    return outcomes


async def _until_terminated(work: Coroutine[Any, Any, T]) -> T:
    """Cancel the work on SIGTERM and on a lost terminal, as asyncio does on Ctrl-C, so that it cleans up."""
    task = asyncio.create_task(work)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup the work goes on
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task
