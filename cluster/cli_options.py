"""What the commands that dub have in common: options, exit statuses, folders for results, an orderly end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

T = TypeVar("T")

EXIT_INPUT, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Inputs = Annotated[list[Path], typer.Argument(help="Video or audio files.", metavar="INPUT...")]
From = Annotated[str | None, typer.Option("--from", help="Language spoken; heard by itself if not given.")]
ConfigName = Annotated[str, typer.Option("--config", help="A configuration's name, or a YAML file.")]
ProfileName = Annotated[str | None, typer.Option("--profile", help="What to trade: quality, balanced or speed.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="K=V", help="A setting: fitting.max_rate=1.3.")]
AudioTrack = Annotated[int | None, typer.Option("--audio-track", min=0, help="Which audio track, from 0.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object at the end, on standard output.")]
Level = Annotated[LogLevel, typer.Option("--log-level", help="Of the log on standard error.")]


async def until_terminated(work: Coroutine[Any, Any, T]) -> T:
    """SIGTERM ends the work as Ctrl-C does: cancelled, cleaned up."""
    task = asyncio.create_task(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task
