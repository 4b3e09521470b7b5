"""Dubs one input of the corpus with stand-in speech, and says what came of it in one line.

``mkv: flv1 → h264, aac; without bin_data; flagged truncated`` is a dub: the container, each stream of the source copied
or encoded again, what is named as left out, and the flags of the input. ``refused: …`` is an error before the work.
Whatever the source had and the dub has not, and nobody said so, stands after ``lost``.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.stream import Disposition

from actors.errors import DubbingError
from actors.types import ASR_HZ
from cluster.audio.mixer import RATE_HZ
from cluster.flags import Flag
from cluster.manifest import printable
from cluster.media import sandbox, sandbox_server
from cluster.media.config import MediaConfig
from cluster.media.container import is_cover
from cluster.media.decode import Damage
from cluster.media.encode import AudioEncoder
from cluster.media.mux import CONTAINER_TAGS, DubTrack, MuxResult, SourceText
from cluster.media.plan import OutputPlan, dub_suffix
from cluster.media.probe import MediaInfo
from cluster.subtitles.layout import Cue, lay_out

POLL_S = 0.002
HUM_HZ = 220.0
MAX_PICTURE_ERROR = 12.0
"""Mean difference of 8-bit pixels: codecs stay far below it, wrong colours far above."""


@dataclass(frozen=True, kw_only=True)
class Result:
    outcome: str
    wall_s: float
    peak_bytes: int
    """Largest memory of a process that reads the file, Python and FFmpeg included."""


def run(path: Path, config: MediaConfig) -> Result:
    """Dub the file with a hum, into a folder beside it that is removed."""
    out = path.with_name("dubbed")
    out.mkdir()
    started_s = time.perf_counter()
    try:
        with _peak_memory() as peak:
            made = _dub(path, out, config)
        wall_s = time.perf_counter() - started_s
        text = _described(made)
    except DubbingError as error:
        wall_s = time.perf_counter() - started_s
        text = f"refused: {error.message.replace(str(path), 'FILE')}"
    finally:
        shutil.rmtree(out)
    return Result(outcome=text, wall_s=wall_s, peak_bytes=peak[0])


@dataclass(frozen=True, kw_only=True)
class _Made:
    info: MediaInfo
    plan: OutputPlan
    flags: tuple[Flag, ...]
    result: MuxResult


def _dub(path: Path, out: Path, config: MediaConfig) -> _Made:
    """The media's way through a dub: described, planned, decoded, mixed with a hum, muxed and compared."""
    info = sandbox.inspect(path, config)
    track, damage = info.audio[0], Damage()
    plan = sandbox.plan_output(info, config)
    for _ in sandbox.decode_audio(info, track, hz=ASR_HZ, channels="mono", config=config, damage=damage):
        pass
    audio = out / f"pt{dub_suffix(plan.suffix)}"
    hum = 0.2 * np.sin(2 * np.pi * HUM_HZ / RATE_HZ * np.arange(RATE_HZ), dtype=np.float32)[:, None]
    with AudioEncoder(audio, fast=True) as encoder:
        for block in sandbox.decode_audio(info, track, hz=RATE_HZ, channels=2, config=config):
            encoder.write(0.5 * block + hum[: len(block)])
    cue = Cue(start_s=0.5, end_s=1.5, text="Olá")
    dub = DubTrack(language="pt", audio=audio, subtitles=lay_out([cue]), title="português")
    text = SourceText(track=track, language="en")
    result = sandbox.mux(info, [dub], out / f"{printable(path.stem)}{plan.suffix}", source=text, config=config)
    raised = {Flag.DAMAGED: bool(damage), Flag.TRUNCATED: info.is_truncated, Flag.TIMESTAMPS_JOINED: bool(info.parts)}
    flags = tuple(flag for flag, is_raised in raised.items() if is_raised)
    return _Made(info=info, plan=plan, flags=flags, result=result)


@contextlib.contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """The largest memory of any child of the sandbox's server, while the block runs."""
    server = sandbox_server.server()
    server.start()
    process = server._process
    assert process is not None
    peak, is_over = [0], threading.Event()

    def watch() -> None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not is_over.wait(POLL_S):
            with contextlib.suppress(OSError, ValueError):
                for pid in children.read_text().split():
                    peak[0] = max(peak[0], _resident_bytes(pid, "VmHWM:"))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        is_over.set()
        watcher.join()


def _resident_bytes(pid: str, name: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/status").read_text().partition(name)[2].split()[0]) * 1024
    except (OSError, IndexError):
        return 0


# --- what came of it


def _described(made: _Made) -> str:
    words = ", ".join(
        stream.codec if stream.action == "copy" else f"{stream.codec} → {stream.new_codec}"
        for stream in made.plan.streams
        if stream.action != "drop"
    )
    parts = [f"{made.plan.suffix[1:]}: {words}"]
    dropped = [stream.codec for stream in made.result.dropped]
    parts += [f"without {', '.join(dropped)}"] if dropped else []
    tags = made.result.lost_metadata
    parts += [f"without the tags {', '.join(tags)}"] if tags else []
    parts += [f"flagged {', '.join(made.flags)}"] if made.flags else []
    lost = list(_lost(made))
    parts += [f"lost {', '.join(lost)}"] if lost else []
    return "; ".join(parts)


def _lost(made: _Made) -> Iterator[str]:
    """What the source had, the dub has not, and nobody named."""
    source, path = made.info.path, made.result.path
    named = {stream.index for stream in made.result.dropped}
    yield from _lost_files(source, path, named)
    with av.open(str(source), metadata_errors="replace") as before, av.open(str(path)) as after:
        yield from _lost_of_file(made.result.lost_metadata, before, after)
        yield from _lost_tracks(before, after, named)
        pairs = list(zip(_videos(before, named), _videos(after, set()), strict=False))
        indices = [(one.index, other.index) for one, other in pairs]
    for number, (one, other) in enumerate(indices):
        yield from (
            f"{what} of picture {number}"
            for what in _lost_of_picture(source, one, path, other, is_joined=bool(made.info.parts))
        )


def _lost_of_file(named: Sequence[str], before: Any, after: Any) -> Iterator[str]:
    titles = [[chapter["metadata"].get("title") for chapter in each.chapters()] for each in (before, after)]
    if titles[0] != titles[1]:
        yield "chapters"
    kept = {key.lower() for key in after.metadata} | {key.lower() for key in named}
    for key in before.metadata:
        if key.lower() not in kept | CONTAINER_TAGS:
            yield f"the tag {key}"


def _lost_files(source: Path, path: Path, named: set[int]) -> Iterator[str]:
    (covers, attached), (covers_there, attached_there) = _files(source, named), _files(path, set())
    if covers != covers_there:
        yield "the cover"
    if attached - attached_there:
        yield "an attachment"


def _files(path: Path, named: set[int]) -> tuple[list[bytes], set[str]]:
    """Covers, and names of attachments."""
    with av.open(str(path), metadata_errors="replace") as container:
        attached = {stream.name for stream in container.streams.attachments if stream.index not in named}
        indices = [stream.index for stream in container.streams.video if is_cover(stream) and stream.index not in named]
    covers = []
    for index in indices:
        with av.open(str(path), metadata_errors="replace") as container:
            covers.append(next(bytes(packet) for packet in container.demux(container.streams[index]) if packet.size))
    return covers, attached


def _lost_tracks(before: Any, after: Any, named: set[int]) -> Iterator[str]:
    for kind in ("audio", "subtitles", "data"):
        kept = [stream for stream in getattr(before.streams, kind) if stream.index not in named]
        if kind == "data" and before.chapters():
            kept = [stream for stream in kept if stream.name != "bin_data"]
        found = list(getattr(after.streams, kind))
        if kind == "data":
            found = [stream for stream in found if not (after.chapters() and stream.name == "bin_data")]
            if len(found) < len(kept):
                yield "a data track"
            continue
        found = [stream for stream in found if not stream.disposition & Disposition.dub][-len(kept) :] if kept else []
        if kind == "subtitles":
            continue
        for one, other in zip(kept, found, strict=False):
            if one.channels != other.channels or one.sample_rate != other.sample_rate:
                yield f"sound of {one.channels} channels at {one.sample_rate} Hz"
            for key in ("language", "title"):
                if one.metadata.get(key) not in (None, "und", "", other.metadata.get(key)):
                    yield f"the {key} {one.metadata.get(key)}"


def _videos(container: Any, named: set[int]) -> list[Any]:
    return [stream for stream in container.streams.video if not is_cover(stream) and stream.index not in named]


def _lost_of_picture(source: Path, one: int, made: Path, other: int, *, is_joined: bool) -> Iterator[str]:
    before, after = _look(source, one), _look(made, other)
    for what in before:
        if what not in ("times_s", "image") and before[what] and before[what] != after[what]:
            yield f"{what} ({before[what]} now {after[what]})"
    num_before, num_after = len(before["times_s"]), len(after["times_s"])
    if num_before - num_after > 1:
        yield f"{num_before - num_after} of {num_before} images"
    elif num_before and not is_joined:
        first_s = before["times_s"][0] - after["times_s"][0]
        moved_s = [a - b - first_s for a, b in zip(before["times_s"], after["times_s"], strict=False)]
        if max(map(abs, moved_s)) > 0.05:
            yield "the times"
    if before["image"] is not None and after["image"] is not None:
        error = np.abs(before["image"].astype(float) - after["image"].astype(float)).mean()
        if error > MAX_PICTURE_ERROR:
            yield f"its colours (by {error:.0f})"


def _look(path: Path, index: int) -> dict[str, Any]:
    """What can be seen of a video stream."""
    seen: dict[str, Any] = {"times_s": [], "image": None}
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams[index]
        context = stream.codec_context
        seen["aspect"] = stream.sample_aspect_ratio if stream.sample_aspect_ratio not in (None, 1) else None
        for name in ("color_primaries", "color_trc", "colorspace", "color_range"):
            value = int(getattr(context, name))
            seen[name] = value if value not in (0, 2) or (name == "color_range" and value) else None
        for packet in _readable(container, stream):
            frames: list[Any] = []
            with contextlib.suppress(av.error.FFmpegError):
                frames = packet.decode()
            for frame in frames:
                if seen["image"] is None:
                    seen["rotation"] = frame.rotation % 360
                    seen["hdr"] = sorted(
                        data.type.name
                        for data in frame.side_data
                        if data.type.name in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")
                    )
                    seen["captions"] = any(data.type.name == "A53_CC" for data in frame.side_data)
                    seen["image"] = frame.to_ndarray(width=80, height=48, format="rgb24")
                seen["times_s"].append(frame.time or 0.0)
    return seen


def _readable(container: Any, stream: Any) -> Iterator[Any]:
    """Packets up to the first that cannot be read."""
    with contextlib.suppress(av.error.FFmpegError):
        yield from container.demux(stream)


def matches(outcome: str, expected: str) -> bool:
    """True if the outcome is the expected one, which may leave out words of a refusal: ``refused: … few use``."""
    if "…" not in expected:
        return outcome == expected
    at = 0
    for part in expected.split("…"):
        found = outcome.find(part.strip(), at)
        if found < 0:
            return False
        at = found + len(part.strip())
    return True
