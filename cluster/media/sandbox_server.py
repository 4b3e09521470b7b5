"""The server process of the sandbox, as seen from the process that dubs: started once, it forks for every request."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from actors.errors import MediaError
from cluster.media.sandbox_process import BLOCK, HEADER, MAX_JSON_BYTES

PROGRAM = "from cluster.media.sandbox_process import main; main()"
KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Variables that the process needs to find its libraries; it gets no others."""
STATUS_TIMEOUT_S = 10.0


class Connection:
    """One request and its answers; a context manager. Leaving it ends the work."""

    def __init__(self, data: socket.socket, status: int, failure: Callable[[int | None], MediaError]) -> None:
        self._data = data
        self._status = status
        self._failure = failure

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Go on with the request. That the process has ended is told by reading its answer."""
        with contextlib.suppress(ConnectionError):
            self._data.sendall(HEADER.pack(kind, len(payload)) + payload)

    def answers(self, max_block_bytes: int) -> Iterator[tuple[bytes, bytearray]]:
        """Each answer with its kind, the last one a result or an error. Raises MediaError if the process ends."""
        while True:
            kind, size = HEADER.unpack(self._read(HEADER.size))
            if size > (max_block_bytes if kind == BLOCK else MAX_JSON_BYTES):
                raise self._failure(None)
            yield kind, self._read(size)
            if kind != BLOCK:
                return

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        done = 0
        while done < size:
            try:
                got = self._data.recv_into(view[done:])
            except ConnectionError:
                got = 0
            if got == 0:
                raise self._failure(self._exit_status())
            done += got
        return data

    def _exit_status(self) -> int | None:
        ready, _, _ = select.select([self._status], [], [], STATUS_TIMEOUT_S)
        text = os.read(self._status, 16) if ready else b""
        return int(text) if text else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._data.close()
        os.close(self._status)


class Server:
    """A process with FFmpeg loaded, which forks for every connection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._lock:
            self._started()

    def connect(self, request: bytes, failure: Callable[[int | None], MediaError]) -> Connection:
        """Send a request; ``failure`` makes the error for a process that ends with a status."""
        data, far_data = socket.socketpair()
        status, far_status = os.pipe()
        try:
            with self._lock:
                try:
                    socket.send_fds(self._started(), [b"."], [far_data.fileno(), far_status])
                except ConnectionError:  # the server was killed since the last request
                    self._control = None
                    socket.send_fds(self._started(), [b"."], [far_data.fileno(), far_status])
        finally:
            far_data.close()
            os.close(far_status)
        # The process may be dead already; reading its answer then says why.
        with contextlib.suppress(ConnectionError):
            data.sendall(struct.pack("!I", len(request)) + request)
        return Connection(data, status, failure)

    def _started(self) -> socket.socket:
        if self._control is None or self._process is None or self._process.poll() is not None:
            self._control, far = socket.socketpair()
            environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
            environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
            with far:
                self._process = subprocess.Popen(  # noqa: S603 -- our own module
                    [sys.executable, "-c", PROGRAM],
                    stdin=far.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is for the program, which ends its work in order
                )
        return self._control


_server = Server()


def server() -> Server:
    """The server of this process."""
    return _server


def _renew() -> None:
    global _server
    _server = Server()


os.register_at_fork(after_in_child=_renew)
