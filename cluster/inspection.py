"""Opens a stranger's file in a process of its own first, with bounded memory and time.

A few kilobytes can make FFmpeg's demuxers fill gigabytes before a single packet is read: a compressed
header, a sample table that is all repetition, a picture in the probing. What that takes is measured
where it harms nobody, rather than guessed from a list of tricks; a crash harms nobody either.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from actors.errors import MediaError
from cluster.media import MediaConfig, MediaInfo, probe

REFUSED, TOO_LARGE = 3, 4
"""Exit statuses of the process."""
LOOK_S = 0.01


def inspect(path: Path, config: MediaConfig) -> MediaInfo:
    """As ``probe``, of a file that nobody vouches for. Blocks; raises MediaError."""
    done = subprocess.run(  # noqa: S603 -- our own module; the path is an argument, not a command
        [sys.executable, "-m", "cluster.inspection", str(path.absolute()), config.model_dump_json()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return probe(path, config)
    if done.returncode == REFUSED:
        raise MediaError(done.stdout)
    if done.returncode == TOO_LARGE:
        raise MediaError(
            f"input must open within {config.max_open_bytes} bytes of memory, {path} takes more than that; "
            "convert it, or raise media.max_open_bytes"
        )
    if done.returncode == -signal.SIGXCPU:
        raise MediaError(
            f"input must open within {config.max_open_cpu_s} s of computing, {path} takes longer; "
            "convert it, or raise media.max_open_cpu_s"
        )
    raise MediaError(
        f"input must be a media file that FFmpeg can open, {path} ends it with status {done.returncode}; convert it"
    )


def _main() -> None:
    path, config = Path(sys.argv[1]), MediaConfig.model_validate_json(sys.argv[2])
    limit_bytes = _peak_bytes() + config.max_open_bytes
    resource.setrlimit(resource.RLIMIT_CPU, (config.max_open_cpu_s, config.max_open_cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_beyond, args=[limit_bytes], daemon=True).start()
    try:
        probe(path, config)
    except MediaError as error:
        sys.stdout.write(error.message)
        sys.stdout.flush()
        os._exit(REFUSED)
    if _peak_bytes() > limit_bytes:  # a peak between two looks
        os._exit(TOO_LARGE)


def _end_beyond(limit_bytes: int) -> None:
    while _peak_bytes() <= limit_bytes:
        time.sleep(LOOK_S)
    os._exit(TOO_LARGE)


def _peak_bytes() -> int:
    """Of this program: ``getrusage`` counts what the process was forked from too."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    _main()
