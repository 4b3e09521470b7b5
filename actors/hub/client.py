"""Runs the client of a package registry, npm or pip, within a time limit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from actors.errors import EngineLoadError

MAX_REASON_CHARACTERS = 300


def first_words(text: str) -> str:
    """The beginning of an error text, on one line: npm begins with the reason."""
    line = " ".join(text.split())
    if len(line) <= MAX_REASON_CHARACTERS:
        return line
    kept = line[:MAX_REASON_CHARACTERS]
    return f"{kept.rpartition(' ')[0] or kept} …"


def last_words(text: str) -> str:
    """The end of an error text, on one line: pip ends with the reason."""
    line = " ".join(text.split())
    if len(line) <= MAX_REASON_CHARACTERS:
        return line
    kept = line[-MAX_REASON_CHARACTERS:]
    return f"… {kept.partition(' ')[2] or kept}"


def run_client(
    name: str,
    command: Sequence[str],
    folder: Path,
    *,
    timeout_variable: str,
    default_s: float,
    reason: Callable[[str], str],
) -> None:
    """Run a client inside ``folder``, where no project's configuration is in effect.

    The limit is the seconds in the environment variable ``timeout_variable``, else ``default_s``. Raises
    EngineLoadError, with the ``reason`` found in what the client wrote to stderr.
    """
    limit_s = _limit_s(timeout_variable, default_s)
    try:
        subprocess.run(  # noqa: S603 - the caller makes the command, of pinned names
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=limit_s
        )
    except subprocess.CalledProcessError as error:
        said = reason(error.stderr.decode(errors="replace"))
        raise EngineLoadError(f"{name} must succeed; it ended with {error.returncode}: {said}") from error
    except subprocess.TimeoutExpired as error:
        raise EngineLoadError(
            f"{name} must end within {limit_s:g} s; it has not; check the network, or raise {timeout_variable}"
        ) from error
    except OSError as error:
        raise EngineLoadError(f"{name} must run; {error}") from error


def _limit_s(variable: str, default_s: float) -> float:
    given = os.environ.get(variable, "")
    try:
        limit_s = float(given or default_s)
    except ValueError:
        limit_s = 0.0
    if not 0 < limit_s < float("inf"):
        raise EngineLoadError(f"{variable} must be seconds above 0; found {given!r}")
    return limit_s
