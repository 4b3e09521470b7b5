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

    def __init__(self, folder: Path, *, copy_of: Postgres | None = None) -> None:
        """Of its own, or a standby that follows ``copy_of``."""
        if BINARIES is None:
            pytest.skip("PostgreSQL is not installed")
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self._data = folder / "data"
        folder.mkdir(parents=True)
        if self._as_user:
            for each in (folder.parent, folder):
                shutil.chown(each, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        if copy_of is None:
            self._run("initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "--no-sync")
        else:
            source = f"host=127.0.0.1 port={copy_of.port} user=postgres"
            self._run("pg_basebackup", "-d", source, "-D", str(self._data), "-R", "-c", "fast", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-D", str(self._data), "-o", options, "-l", str(self._data / "log"))

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._data))

    def promote(self) -> None:
        """Make a standby the primary."""
        self._run("pg_ctl", "promote", "-w", "-D", str(self._data))

    def run_sql(self, query: str) -> None:
        self._run("psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-c", query)

    def _run(self, name: str, *arguments: str) -> None:
        assert BINARIES is not None
        subprocess.run(
            [*self._as_user, str(BINARIES / name), *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/tmp"
        )


def url_of(*servers: Postgres) -> str:
    """The URL of whichever of these servers is the primary."""
    hosts = "&".join(f"host=127.0.0.1:{server.port}" for server in servers)
    return f"postgresql+asyncpg://postgres@/postgres?{hosts}&target_session_attrs=primary"
