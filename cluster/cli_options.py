"""What commands have in common: options, their entry point and its exit statuses, an orderly end."""

from __future__ import annotations

import asyncio
import io
import signal
import sys
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from actors.errors import ConfigError, DubbingError

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


def run_app(app: typer.Typer) -> None:
    """A process's entry point: errors raydub raises on purpose become one line and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        # File names may hold bytes that are no text; to print one must not end the run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except DubbingError as error:
        print(f"raydub: {error.message}", file=sys.stderr)
        sys.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_INPUT)


async def until_terminated(work: Coroutine[Any, Any, T]) -> T:
    """SIGTERM ends the work as Ctrl-C does: cancelled, cleaned up."""
    task = asyncio.create_task(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task
