"""The processes of the sandbox: a server that forks, and its children, each of which does one request and ends."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import io
import json
import logging
import math
import os
import pickle
import resource
import select
import signal
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import numpy as np

from actors.errors import DubbingError, MediaError
from actors.types import ASR_HZ, Samples
from cluster.media.decode import Damage, decode_audio, decode_excerpt
from cluster.media.encode import ENCODE_HZ
from cluster.media.extract import extract
from cluster.media.frames import audio_frame
from cluster.media.hls import HlsWriter
from cluster.media.landlock import restrict
from cluster.media.mux import mux
from cluster.media.plan import plan_output
from cluster.media.probe import probe

HEADER = struct.Struct("!cI")
"""Kind and size of an answer, or of what a request goes on with."""
BLOCK, RESULT, ERROR, END = b"B", b"R", b"E", b"Z"
MAX_JSON_BYTES = 64 * 2**20
TOO_LARGE = 4
"""Exit status of a process that takes too much memory."""
POLL_S, LONG_POLL_S, OPENING_S = 0.01, 0.05, 2.0
STALL_CHECKS = 8
"""Times that a process is looked at before it counts as stalled."""
MIN_PROGRESS_S = 0.001
"""Computing time between two such looks; a process that only waits, even in short turns, takes less."""
MAX_OPEN_FILES = 64
CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000


class Limits(NamedTuple):
    memory_bytes: int
    """Above what the server itself has."""
    cpu_s: int
    block_wall_s: int
    """Wall time to the next block of sound; 0 for no limit."""
    stall_s: int
    """Wall time without any computing; 0 for no limit."""
    readable: tuple[Path, ...]
    writable: tuple[Path, ...] = ()
    """Folders in which files may be made."""


class Request(NamedTuple):
    operation: str
    arguments: tuple[Any, ...]
    limits: Limits
    folder: str
    """The working folder, from which relative paths count."""


class Spare(NamedTuple):
    """A process that was forked before its request came, and waits for it."""

    pid: int
    control: socket.socket
    """Takes the socket of a request; the process ends when this is closed."""


def main() -> None:
    """Have a process serve each pair of descriptors that comes through standard input; end when that is closed."""
    logging.disable()
    _leave_network()
    with contextlib.suppress(Exception):  # it saves time, no more
        _warm_up()
    gc.freeze()
    control = socket.socket(fileno=0)
    awake, wake = os.pipe()
    for end in (awake, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake)
    children: dict[int, int] = {}
    spare = _fork([awake, wake])
    while True:
        ready, _, _ = select.select([control.fileno(), awake], [], [])
        if awake in ready:
            os.read(awake, 4096)
            _report_ended(children)
        if control.fileno() not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not message:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            os._exit(0)
        data, status = descriptors
        if spare is None or not _handed(data, spare):
            spare = _fork([*children.values(), data, status, awake, wake])
            if spare is not None and not _handed(data, spare):
                spare = None
        os.close(data)
        if spare is None:
            os.close(status)
            continue
        children[spare.pid] = status
        spare = _fork([*children.values(), awake, wake])


def _fork(not_its_own: Iterable[int]) -> Spare | None:
    """A process that does the request it is given, without these descriptors; None if there can be no more."""
    try:
        near, far = socket.socketpair()
    except OSError:
        return None
    try:
        pid = os.fork()
    except OSError:
        near.close()
        far.close()
        return None
    if pid != 0:
        far.close()
        return Spare(pid, near)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    near.close()
    for descriptor in (*not_its_own, 0):
        os.close(descriptor)
    with far:
        _, descriptors, _, _ = socket.recv_fds(far, 1, 1)
    if not descriptors:
        os._exit(0)
    _serve(socket.socket(fileno=descriptors[0]))
    raise AssertionError("unreachable: it ends the process")


def _handed(data: int, spare: Spare) -> bool:
    """False if the process that was to do it has been killed, or the kernel lets no descriptor through."""
    with spare.control:
        try:
            socket.send_fds(spare.control, [b"."], [data])
        except OSError:
            return False
        return True


def _warm_up() -> None:
    """Do once what each child would do anew: FFmpeg's tables, its list of decoders, imports at the first use."""
    sound = io.BytesIO()
    silence = audio_frame(np.zeros((ENCODE_HZ // 4, 2), np.float32), "fltp", hz=ENCODE_HZ, position=0)
    with av.open(sound, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=ENCODE_HZ)
        stream.codec_context.thread_count = 1
        for frame in (silence, None):
            container.mux(stream.encode(frame))
    with open(os.memfd_create("warm-up"), "wb") as file:
        file.write(sound.getvalue())
        file.flush()
        info = probe(Path(f"/proc/self/fd/{file.fileno()}"))
        for hz in (ENCODE_HZ, ASR_HZ):
            list(decode_audio(info, info.audio[0], hz=hz, channels="mono"))


def _report_ended(children: dict[int, int]) -> None:
    """Tell the exit status of each child that ended; nobody waits for that of one without a request."""
    with contextlib.suppress(ChildProcessError):  # none is left
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            status = children.pop(ended[0], None)
            if status is None:
                continue
            with contextlib.suppress(OSError):
                os.write(status, str(os.waitstatus_to_exitcode(ended[1])).encode())
            os.close(status)


def _leave_network() -> None:
    """Leave the host's network, where the kernel lets this user do so."""
    with contextlib.suppress(OSError, AttributeError):
        unshare = ctypes.CDLL(None, use_errno=True).unshare
        if unshare(CLONE_NEWNET) != 0 and os.geteuid() != 0:
            unshare(CLONE_NEWUSER | CLONE_NEWNET)


def _serve(data: socket.socket) -> None:
    """Do one request and end the process."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # nobody waits any more
    size = struct.unpack("!I", data.recv(4, socket.MSG_WAITALL))[0]
    # From the process that dubs, which is trusted.
    request: Request = pickle.loads(data.recv(size, socket.MSG_WAITALL))  # noqa: S301
    try:
        os.chdir(request.folder)
        _limit(request.limits)
        _send(data, RESULT, _result(request, data))
    except DubbingError as error:
        _send(data, ERROR, {"type": type(error).__name__, "message": error.message})
    except Exception:
        _send(data, ERROR, {"type": "", "message": traceback.format_exc()})
    finally:
        os._exit(0)


def _result(request: Request, data: socket.socket) -> Any:
    return OPERATIONS[request.operation](data, request.limits, *request.arguments)


def _limit(limits: Limits) -> None:
    limit_bytes = _peak_bytes() + limits.memory_bytes
    restrict(limits.readable, limits.writable)
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    if not limits.writable:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    threading.Thread(target=_end_beyond, args=[limit_bytes, limits.stall_s], daemon=True).start()


def _end_beyond(limit_bytes: int, stall_s: int) -> None:
    started_s = time.monotonic()
    stall = Stall(stall_s)
    while _peak_bytes() <= limit_bytes:
        stall.check()
        # Files that fill memory do so while they are opened; long decoding is watched more lightly.
        time.sleep(POLL_S if time.monotonic() - started_s < OPENING_S else LONG_POLL_S)
    os._exit(TOO_LARGE)


class Stall:
    """Ends a process that has computed nothing for ``stall_s``: an alarm, set anew as long as other threads compute.

    A process that computes for ever is ended by its limit of computing time.
    """

    def __init__(self, stall_s: int) -> None:
        self._stall_s = stall_s
        self._computed_s = -math.inf
        self._next_check_s = -math.inf

    def check(self) -> None:
        now_s = time.monotonic()
        if not self._stall_s or now_s < self._next_check_s:
            return
        self._next_check_s = now_s + self._stall_s / STALL_CHECKS
        computed_s = time.process_time() - time.thread_time()
        if computed_s - self._computed_s >= MIN_PROGRESS_S:
            signal.setitimer(signal.ITIMER_REAL, self._stall_s)
        self._computed_s = computed_s


def _peak_bytes() -> int:
    """Peak memory of this program; that of ``getrusage`` includes the process from which it was forked."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _send(data: socket.socket, kind: bytes, content: Any) -> None:
    payload = json.dumps(content, default=str).encode()
    data.sendall(HEADER.pack(kind, len(payload)) + payload)


def _send_blocks(data: socket.socket, limits: Limits, blocks: Iterator[Samples]) -> None:
    while True:
        # Ends the process if the next block takes too long; not while it waits for its reader.
        signal.setitimer(signal.ITIMER_REAL, limits.block_wall_s)
        block = next(blocks, None)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if block is None:
            return
        data.sendall(HEADER.pack(BLOCK, block.nbytes))
        data.sendall(block.tobytes())


def _probe(data: socket.socket, limits: Limits, *arguments: Any) -> Any:
    return dataclasses.asdict(dataclasses.replace(probe(*arguments), path=Path()))


def _plan(data: socket.socket, limits: Limits, *arguments: Any) -> Any:
    return dataclasses.asdict(plan_output(*arguments))


def _audio(data: socket.socket, limits: Limits, info: Any, track: Any, hz: int, channels: Any, config: Any) -> Any:
    damage = Damage()
    _send_blocks(data, limits, decode_audio(info, track, hz=hz, channels=channels, config=config, damage=damage))
    return dataclasses.asdict(damage)


def _excerpt(
    data: socket.socket,
    limits: Limits,
    info: Any,
    track: Any,
    start_s: float,
    duration_s: float,
    hz: int,
    config: Any,
) -> Any:
    part = (decode_excerpt(info, track, start_s=start_s, duration_s=duration_s, hz=hz, config=config) for _ in range(1))
    _send_blocks(data, limits, part)
    return {}


def _mux(data: socket.socket, limits: Limits, info: Any, dubs: Any, out: Path, source: Any, config: Any) -> Any:
    return dataclasses.asdict(dataclasses.replace(mux(info, dubs, out, source=source, config=config), path=Path()))


def _extract(
    data: socket.socket, limits: Limits, path: Path, out: Path, index: int, with_video: bool, config: Any
) -> Any:
    extract(path, out, index, with_video=with_video, config=config)
    return {}


def _hls(
    data: socket.socket, limits: Limits, folder: Path, info: Any, config: Any, num_channels: int, bits_per_s: int
) -> Any:
    signal.setitimer(signal.ITIMER_REAL, limits.block_wall_s)
    try:
        with HlsWriter(folder, info, config, num_channels=num_channels, bits_per_s=bits_per_s) as writer:
            _send(data, RESULT, {})
            for block in _received(data, limits.block_wall_s):
                writer.write(np.frombuffer(block, np.float32).reshape(-1, num_channels))
                _send(data, RESULT, {})
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            f"{folder} must be writable for a live stream: {error.strerror or error}; free space"
        ) from error
    return {}


def _received(data: socket.socket, wall_s: int) -> Iterator[bytes]:
    """The blocks that a request goes on with, up to its end, each to be done in ``wall_s``.

    Raises EOFError if it ends without one.
    """
    while True:
        signal.setitimer(signal.ITIMER_REAL, 0)
        header = data.recv(HEADER.size, socket.MSG_WAITALL)
        signal.setitimer(signal.ITIMER_REAL, wall_s)
        if len(header) < HEADER.size:
            raise EOFError
        kind, size = HEADER.unpack(header)
        if kind == END:
            return
        yield data.recv(size, socket.MSG_WAITALL)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "probe": _probe,
    "plan": _plan,
    "audio": _audio,
    "excerpt": _excerpt,
    "mux": _mux,
    "extract": _extract,
    "hls": _hls,
}
