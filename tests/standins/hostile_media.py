"""A sandbox server whose decoder and live stream do what a file's name says: crash, hang, doze, compute, grow, or tell
their rights. With the name of a step before it, as in ``mux-hang``, that step does it instead.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from actors.errors import MediaError
from actors.types import Samples
from cluster.media import sandbox_process
from cluster.media.probe import MediaInfo

PROGRAM = "from tests.standins.hostile_media import main; main()"


def main() -> None:
    """Serve as ``sandbox_process.main`` does."""
    sandbox_process.decode_audio = _decode_audio(sandbox_process.decode_audio)
    sandbox_process.HlsWriter = _hls_writer(sandbox_process.HlsWriter)  # type: ignore[misc]
    for step in ("probe", "plan_output", "mux", "extract"):
        setattr(sandbox_process, step, _step(step, getattr(sandbox_process, step)))
    sandbox_process.main()


def _step(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    def spoiled(subject: Any, *arguments: Any, **options: Any) -> Any:
        path = subject if isinstance(subject, Path) else subject.path
        step, _, harm = path.stem.partition("-")
        if step == name:
            HARMS[harm](subject)
        return work(subject, *arguments, **options)

    return spoiled


def _decode_audio(decode: Callable[..., Iterator[Samples]]) -> Any:
    def spoiled(info: MediaInfo, *arguments: Any, **options: Any) -> Iterator[Samples]:
        harm = HARMS.get(info.path.stem)
        for number, block in enumerate(decode(info, *arguments, **options)):
            if number == 1 and harm is not None:  # after a good block: decoders fail in the middle of their work
                harm(info)
            yield block

    return spoiled


def _hls_writer(writer: Any) -> Any:
    class Spoiled(writer):  # type: ignore[misc]
        def __init__(self, folder: Path, info: MediaInfo, *arguments: Any, **options: Any) -> None:
            super().__init__(folder, info, *arguments, **options)
            self._info, self._number = info, 0

        def write(self, block: Samples) -> None:
            self._number += 1
            if self._number == 2 and self._info.path.stem in HARMS:
                HARMS[self._info.path.stem](self._info)
            super().write(block)

    return Spoiled


def _crash(_: MediaInfo) -> None:
    ctypes.string_at(0)


def _hang(_: MediaInfo) -> None:
    while True:
        time.sleep(3600)


def _doze(_: MediaInfo) -> None:
    while True:
        time.sleep(0.2)


def _compute(_: MediaInfo) -> None:
    while True:
        pass


def _grow(_: MediaInfo) -> None:
    kept = []
    while True:
        kept.append(bytes(range(256)) * 2**14)


def _err(_: MediaInfo) -> None:
    raise ZeroDivisionError("division by zero")


def _tell(info: MediaInfo) -> None:
    """What the process may do, as the message of an error."""
    rights = {
        "environment": sorted(os.environ),
        "network": _reaches_network(),
        "writes": _writes(info.path),
        "reads": _reads(info.path),
        "runs": _runs(),
    }
    raise MediaError(json.dumps(rights))


def _reaches_network() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # no packet is sent; it needs a route
        except OSError:
            return False
    return True


def _writes(beside: Path) -> bool:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        beside.with_name("written").write_bytes(b"x")
    except OSError:
        return False
    return True


def _reads(beside: Path) -> bool:
    try:
        return bool(beside.with_name("secret").read_bytes())
    except PermissionError:
        return False


def _runs() -> bool:
    try:
        return os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1] == 0
    except PermissionError:
        return False


HARMS: dict[str, Callable[[MediaInfo], None]] = {
    "crash": _crash,
    "hang": _hang,
    "doze": _doze,
    "compute": _compute,
    "grow": _grow,
    "err": _err,
    "tell": _tell,
}
