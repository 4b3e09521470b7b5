"""Reads and writes untrusted media in processes that may die, with bounded memory, time and rights.

A few bytes can make FFmpeg fill gigabytes, compute for hours, or crash. So every file of a stranger is probed,
decoded and muxed in a process of its own: an empty environment, no network and no other files where the kernel allows
that. Whatever happens there is a MediaError for that one input.

One server process is started for each process that dubs; it has FFmpeg loaded, and forks for every file that is
opened, which takes milliseconds. Requests go there pickled; answers come back as JSON and raw samples, never pickled.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import numpy as np
from pydantic import TypeAdapter

from actors.errors import ConfigError, MediaError
from actors.types import Samples
from cluster.media.config import MediaConfig
from cluster.media.decode import BLOCK_S, Damage
from cluster.media.mux import DubTrack, MuxResult, SourceText
from cluster.media.plan import OutputPlan
from cluster.media.probe import AudioTrack, MediaInfo
from cluster.media.sandbox_process import BLOCK, END, ERROR, TOO_LARGE, Limits, Request
from cluster.media.sandbox_server import Connection, server

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_DESCRIBED = 64
"""Files whose description is remembered: those that are being dubbed."""
KINDS = {"ConfigError": ConfigError, "MediaError": MediaError}


def start() -> None:
    """Start the server process, so that it is ready by the time a file is opened. Does not wait for it."""
    server().start()


def inspect(path: Path, config: MediaConfig) -> MediaInfo:
    """Describe an untrusted file, as ``probe`` does; again only once it has changed. Blocks; raises MediaError."""
    try:
        status = path.stat()
    except OSError:
        return _inspect(path, config)
    version = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return _inspected(path, config, version)


@functools.lru_cache(maxsize=MAX_DESCRIBED)
def _inspected(path: Path, config: MediaConfig, version: tuple[int, ...]) -> MediaInfo:
    """The description of this version of a file."""
    return _inspect(path, config)


def _inspect(path: Path, config: MediaConfig) -> MediaInfo:
    described = _ask("probe", (path, config), path, config, _limits(path, config, 0.0, by_block=False))
    return dataclasses.replace(_as(MediaInfo, described), path=path)


def plan_output(info: MediaInfo, config: MediaConfig) -> OutputPlan:
    """The output's container and streams, as ``plan.plan_output``. Blocks; raises MediaError."""
    limits = _limits(info.path, config, info.duration_s, by_block=False)
    return _as(OutputPlan, _ask("plan", (info, config), info.path, config, limits))


def decode_audio(
    info: MediaInfo,
    track: AudioTrack,
    *,
    hz: int,
    channels: int | Literal["mono"],
    config: MediaConfig | None = None,
    damage: Damage | None = None,
) -> Iterator[Samples]:
    """Decode the whole track, as ``decode.decode_audio`` does. Raises MediaError."""
    config = config or MediaConfig()
    limits = _limits(info.path, config, info.duration_s, by_block=True)
    request = ("audio", (info, track, hz, channels, config))
    max_bytes = round(hz * BLOCK_S) * (1 if channels == "mono" else channels) * 4
    with _session(info.path, config, limits, *request) as session:
        for kind, payload in session.answers(max_bytes):
            if kind == BLOCK:
                samples = np.frombuffer(payload, np.float32)
                yield samples if channels == "mono" else samples.reshape(-1, channels)
                continue
            found = Damage(**_checked(kind, payload))
            if found:
                log.warning("repaired audio path=%s track=%d %s", info.path, track.number, found)
            if damage is not None:
                for field in dataclasses.fields(Damage):
                    setattr(damage, field.name, getattr(found, field.name))


def decode_excerpt(
    info: MediaInfo, track: AudioTrack, *, start_s: float, duration_s: float, hz: int, config: MediaConfig | None = None
) -> Samples:
    """Decode a part of the track, as ``decode.decode_excerpt`` does: float32 (num_samples,). Raises MediaError."""
    config = config or MediaConfig()
    request = ("excerpt", (info, track, start_s, duration_s, hz, config))
    limits = _limits(info.path, config, info.duration_s, by_block=True)
    with _session(info.path, config, limits, *request) as session:
        answers = list(session.answers(round(duration_s * hz + 1) * 4))
    _checked(*answers[-1])
    return np.concatenate([np.frombuffer(payload, np.float32) for _, payload in answers[:-1]])


def mux(info: MediaInfo, dubs: Sequence[DubTrack], out: Path, *, source: SourceText, config: MediaConfig) -> MuxResult:
    """Write the source with its dubs, as ``mux.mux`` does. Blocks; raises ConfigError, MediaError."""
    limits = _limits(info.path, config, info.duration_s, by_block=False, written=out.parent)
    limits = limits._replace(readable=(info.path, *(dub.audio for dub in dubs)))
    muxed = _as(MuxResult, _ask("mux", (info, dubs, out, source, config), info.path, config, limits))
    if muxed.dropped or muxed.lost_metadata:
        log.warning("muxed with losses path=%s dropped=%s lost_metadata=%s", out, muxed.dropped, muxed.lost_metadata)
    return dataclasses.replace(muxed, path=out)


def extract(info: MediaInfo, out: Path, index: int, *, with_video: bool, config: MediaConfig) -> None:
    """Write one sound track of a file to ``out``, as ``extract.extract`` does. Blocks; raises MediaError."""
    limits = _limits(info.path, config, info.duration_s, by_block=False, written=out.parent)
    _ask("extract", (info.path, out, index, with_video, config), info.path, config, limits)


class SandboxedHls:
    """Writes a live stream, as ``hls.HlsWriter`` does. Use as a context manager. Raises MediaError."""

    def __init__(
        self, folder: Path, info: MediaInfo, config: MediaConfig, *, num_channels: int, bits_per_s: int
    ) -> None:
        limits = _limits(info.path, config, info.duration_s, by_block=True, written=folder)
        arguments = (folder, info, config, num_channels, bits_per_s)
        with ExitStack() as stack:
            self._session = stack.enter_context(_session(info.path, config, limits, "hls", arguments))
            self._take_answer()
            self._open = stack.pop_all()

    def write(self, block: Samples) -> None:
        """Append float32 (num_samples, num_channels) at the mixer's rate, and the video of the same time."""
        self._session.send(BLOCK, np.ascontiguousarray(block, np.float32).tobytes())
        self._take_answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open:
            if kind is None:
                self._session.send(END)
                self._take_answer()

    def _take_answer(self) -> None:
        _checked(*next(self._session.answers(0)))


def _limits(
    path: Path, config: MediaConfig, duration_s: float, *, by_block: bool, written: Path | None = None
) -> Limits:
    """The limits of a process that reads ``path`` and may make files in ``written``, a folder."""
    return Limits(
        memory_bytes=config.max_open_bytes,
        cpu_s=config.max_open_cpu_s + round(duration_s * config.max_cpu_ratio),
        block_wall_s=config.max_block_wall_s if by_block else 0,
        stall_s=0 if by_block else config.max_stall_s,
        readable=(path,),
        writable=() if written is None else (_existing(written),),
    )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists, in which it can be made."""
    return next((each for each in (folder, *folder.absolute().parents) if each.is_dir()), folder)


def _ask(operation: str, arguments: tuple[Any, ...], path: Path, config: MediaConfig, limits: Limits) -> Any:
    with _session(path, config, limits, operation, arguments) as session:
        kind, payload = next(session.answers(0))
        return _checked(kind, payload)


def _checked(kind: bytes, payload: bytearray) -> Any:
    """The result; raises the error that came instead."""
    content = json.loads(bytes(payload))
    if kind == ERROR:
        if content["type"] in KINDS:
            raise KINDS[content["type"]](content["message"])
        log.error("reading media failed: %s", content["message"])
        last = content["message"].strip().rpartition("\n")[2]
        raise MediaError(f"input must be media that can be read, its process failed with {last}; convert it")
    return content


def _as(kind: type[T], content: Any) -> T:
    made: T = _adapter(kind).validate_python(content)
    return made


_adapter: Callable[[Any], TypeAdapter[Any]] = functools.cache(TypeAdapter)
"""Each is built once: that takes as long as to open a small file."""


def _session(path: Path, config: MediaConfig, limits: Limits, operation: str, arguments: tuple[Any, ...]) -> Connection:
    request = Request(operation=operation, arguments=arguments, limits=limits, folder=os.getcwd())
    return server().connect(pickle.dumps(request), lambda status: _ended(path, config, limits, status))


def _ended(path: Path, config: MediaConfig, limits: Limits, status: int | None) -> MediaError:
    """The error for a process that ended without an answer."""
    if status == TOO_LARGE:
        return MediaError(
            f"input must open and decode within {config.max_open_bytes} bytes of memory, {path} takes more than that; "
            "convert it, or raise media.max_open_bytes"
        )
    if status == -signal.SIGXCPU:
        return MediaError(
            f"input must open and decode within {limits.cpu_s} s of computing, {path} takes longer; "
            "convert it, or raise media.max_open_cpu_s or media.max_cpu_ratio"
        )
    if status == -signal.SIGALRM:
        return MediaError(
            f"a second of sound must be read or written within {limits.block_wall_s} s, {path} takes longer; "
            "convert it, or raise media.max_block_wall_s"
            if limits.block_wall_s
            else f"work on an input must not stand still for {limits.stall_s} s, that on {path} does; "
            "check its disk, convert it, or raise media.max_stall_s"
        )
    name = "" if status is None or status >= 0 else f" ({signal.Signals(-status).name})"
    return MediaError(
        f"input must be media that FFmpeg can read, {path} ends its process with status {status}{name}; convert it"
    )
