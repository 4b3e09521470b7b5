"""Options and exit statuses that commands share, and their entry point."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from actors.errors import ConfigError, DubbingError
from actors.garbage import collect_rarely
from cluster.logs import FORMAT_VARIABLE, LogFormat

EXIT_INPUT, EXIT_USAGE, EXIT_VERDICT, EXIT_INTERRUPTED = 1, 2, 3, 130
"""Some input failed; wrong usage or configuration; ``--strict`` and a failed verdict on a video; interrupted."""


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _config_names() -> list[str]:
    from cluster.config.load import config_names

    return config_names()


def _profile_names() -> list[str]:
    from cluster.config.load import profile_names

    return profile_names()


From = Annotated[str | None, typer.Option("--from", help="Language spoken in the input; detected if not given.")]
ConfigName = Annotated[
    str,
    typer.Option(
        "--config", help="Name of a configuration that comes with raydub, or a YAML file.", autocompletion=_config_names
    ),
]
ProfileName = Annotated[
    str | None,
    typer.Option("--profile", help="Trade-off: quality, balanced or speed.", autocompletion=_profile_names),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="K=V", help="Change one setting, as in fitting.max_rate=1.3; repeatable."),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Exit with 3 if more lines than quality.max_flagged_share of a video should be looked at."
    ),
]
TracePath = Annotated[
    Path | None,
    typer.Option("--trace", metavar="FILE", help="Write what ran when, for Perfetto and raydub analyze."),
]
AudioTrack = Annotated[int | None, typer.Option("--audio-track", min=0, help="Audio track to dub, counted from 0.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on standard output.")]
Level = Annotated[LogLevel, typer.Option("--log-level", help="Lowest level that is logged, on standard error.")]

Format = Annotated[
    LogFormat | None,
    typer.Option("--log-format", help="Lines of text, or JSON objects.", envvar=FORMAT_VARIABLE, show_default="text"),
]


def with_strict(assignments: Sequence[str] | None, strict: bool) -> list[str]:
    """The assignments of ``--set``, and that of ``--strict``."""
    return [*(assignments or ()), *(["quality.strict=true"] if strict else [])]


def with_trace(assignments: Sequence[str], trace: Path | None) -> list[str]:
    """The assignments, and that of ``--trace``."""
    return [*assignments, *([] if trace is None else [f"trace.path={json.dumps(str(trace))}"])]


def run_app(app: typer.Typer, prog_name: str | None = None) -> None:
    """Run a process's command; an error that raydub raises on purpose becomes one line and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A file name may hold bytes that are not text; printing one must not end the run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    collect_rarely()
    # Before NumPy is imported: OpenBLAS's threads spin while they wait, which took a third of the service's CPU.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app(prog_name=prog_name)
    except DubbingError as error:
        print(f"raydub: {error.message}", file=sys.stderr)
        sys.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_INPUT)
