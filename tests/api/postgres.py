"""A PostgreSQL of a test's own, started and stopped at will."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


class Postgres:
    """In ``folder``; run by the user postgres where we are root, whom initdb refuses."""

    def __init__(self, folder: Path) -> None:
        if BINARIES is None:
            pytest.skip("PostgreSQL is not installed")
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self._data = folder / "data"
        folder.mkdir(parents=True)
        if self._as_user:
            shutil.chown(folder, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-D", str(self._data), "-o", options, "-l", str(self._data / "log"))

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._data))

    def _run(self, name: str, *arguments: str) -> None:
        assert BINARIES is not None
        subprocess.run(
            [*self._as_user, str(BINARIES / name), *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/tmp"
        )
