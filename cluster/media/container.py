"""Opens untrusted media files, and finds their start and end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import av
import av.error
import av.logging
from av.audio.stream import AudioStream
from av.codec import CodecContext
from av.container import InputContainer
from av.stream import Disposition, Stream

from actors.errors import MediaError
from cluster.media.allowed import REFUSED_FORMATS, AllowedMedia, decoders, formats, is_codec_allowed
from cluster.media.joins import JOINABLE_FORMATS, TimePart, find_parts
from cluster.media.lengths import is_followed, is_mp4, missing_ratio

T = TypeVar("T")

StreamKind = Literal["video", "audio", "subtitle", "data", "attachment", "cover", "unknown"]
"""``cover`` is a picture that belongs to the file (attached_pic), not video; ``audio`` has no decoder here."""

GUESSED_DURATION_FORMATS = frozenset(
    {"aac", "ac3", "amr", "dts", "eac3", "latm", "loas", "mp3", "mpeg", "mpegts", "truehd"}
)
"""They state no duration, and FFmpeg guesses it from the bit rate, so packets are counted instead."""
BYTES_STATING_FORMATS = frozenset({"asf", "avi", "wav"})
"""FFmpeg believes the bytes of a file that was cut off; its header states how many there should be."""

ENDS_STATING_FORMATS = frozenset({"matroska,webm", "flv", "live_flv"})
"""The duration that their header states counts from 0, also if the first packet comes later."""

TAIL_S = 10.0
CLAIM_TOLERANCE_S = 0.5
"""A header whose duration differs more than this from the last packets is not believed."""


class MediaLimits(AllowedMedia, Protocol):
    """The part of ``MediaConfig`` that matters when a file is opened."""

    @property
    def max_streams(self) -> int: ...
    @property
    def max_pixels(self) -> int: ...
    @property
    def max_time_jump_s(self) -> float: ...


@contextmanager
def open_media(path: Path, limits: MediaLimits) -> Iterator[InputContainer]:
    """The opened container of a local file. FFmpeg may open nothing but this file, and no network.

    Only the formats and codecs of ``allowed`` are read. Raises MediaError: no such file, not a file, not readable,
    empty, not media, a playlist or device, of a format that is not allowed.
    """
    _check_file(path)
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": formats(limits),
        "codec_whitelist": decoders(limits),
        "max_streams": str(limits.max_streams),
    }
    try:
        # Absolute, so that a name like "http:x" can never be taken for a protocol.
        container = av.open(str(path.absolute()), container_options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(_why_not_opened(path, options)) from error
    with container:
        for stream in container.streams:
            if stream.type in ("audio", "video") and codec_of(stream) is not None:
                stream.codec_context.options = {"codec_whitelist": decoders(limits)}
        yield container


def _why_not_opened(path: Path, options: dict[str, str]) -> str:
    """Why FFmpeg cannot open a file, by opening it again and listening to its log."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as logged, suppress(av.error.FFmpegError, ValueError):
            av.open(str(path.absolute()), container_options=options).close()
    finally:
        av.logging.set_level(level)
    # A demuxer is named by all names it has.
    names = next((name.split(",") for _, name, message in logged if "not on whitelist" in message), [])
    if REFUSED_FORMATS & set(names):
        return (
            f"input must be one self-contained media file, found at {path} a playlist, picture sequence or session "
            f"description ({names[0]}), which would make FFmpeg open other files; give the media file itself"
        )
    if names:
        return (
            f"input must be of a format that is read here, {path} is {names[0]}, which few use; convert it, or add "
            f"{names[0]} to media.more_formats"
        )
    if is_mp4(path) and any("moov atom not found" in message for _, _, message in logged):
        return (
            f"input must be a media file that FFmpeg can read, {path} is an MP4 without its index, which is written "
            "last: the recording or the download was cut off; fetch it again, or repair it"
        )
    return f"input must be a media file that FFmpeg can read, {path} is not; convert it, or check the download"


def _check_file(path: Path) -> None:
    if not path.exists():
        raise MediaError(f"input must exist, found no such file: {path}")
    if path.is_dir():
        raise MediaError(f"a folder must hold media to dub, found none in {path}; name a file, or another folder")
    if not path.is_file():
        raise MediaError(f"input must be a regular file, found a device: {path}")
    if not os.access(path, os.R_OK):
        raise MediaError(f"input must be readable, permission denied: {path}; check its mode and owner")
    if path.stat().st_size == 0:
        raise MediaError(f"input must be media, found an empty file: {path}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The start and end of a file by its own timestamps."""

    start_s: float
    end_s: float | None
    """None without packets."""
    claimed_end_s: float | None
    """The end by the headers; None if they do not tell."""
    parts: tuple[TimePart, ...]
    """The parts of a file whose times jump; none if they do not."""


def survey(path: Path, limits: MediaLimits, describe: Callable[[InputContainer, MediaLimits], T]) -> tuple[T, Extent]:
    """Open a file; returns the result of ``describe``, and where the file starts and ends.

    Reads headers and the last seconds; the whole file only if these disagree, or if its kind may have jumping times.
    Raises MediaError as ``open_media``, and for a file without audio or with too large pictures.
    """
    with open_media(path, limits) as container:
        _check_pictures(container, path, limits)
        if not decodable_audio(container, limits):
            raise MediaError(_no_sound(container, path))
        described = describe(container, limits)
        start_s = (container.start_time or 0) / av.time_base
        name = container.format.name
        claimed_s = None if _guesses_duration(container, path) else _claimed_end_s(container)
        end_s = _believable_end_s(container)
    parts = _parts(path, limits) if name in JOINABLE_FORMATS or is_followed(path) else ()
    if parts:
        start_s, end_s, claimed_s = parts[0].start_s, parts[-1].end_s + parts[-1].shift_s, None
    if end_s is None:
        with open_media(path, limits) as container:
            end_s = _last_end_s(container)
    if end_s is not None and name in BYTES_STATING_FORMATS:
        claimed_s = start_s + (end_s - start_s) * missing_ratio(path)
    return described, Extent(start_s=start_s, end_s=end_s, claimed_end_s=claimed_s, parts=parts)


def _parts(path: Path, limits: MediaLimits) -> tuple[TimePart, ...]:
    """The parts of a file whose times jump; none if they do not."""
    try:
        with open_media(path, limits) as container:
            parts = find_parts(container, _timed_streams(container), limits.max_time_jump_s)
    except av.error.FFmpegError:
        return ()  # a damaged file is read as far as it goes, by its own times
    return parts if len(parts) > 1 else ()


def _guesses_duration(container: InputContainer, path: Path) -> bool:
    """True if the header does not state the duration, and FFmpeg guesses it from the bit rate."""
    if container.format.name != "mp3":
        return container.format.name in GUESSED_DURATION_FORMATS
    with path.open("rb") as file:
        first = file.read(2**16)
    return b"Xing" not in first and b"Info" not in first


def decodable_audio(container: InputContainer, limits: MediaLimits) -> list[AudioStream]:
    """The sound streams that have a decoder, and one that is allowed."""
    return [
        stream
        for stream in container.streams.audio
        if codec_of(stream) is not None and stream.channels > 0 and is_codec_allowed(codec_name(stream), limits)
    ]


def _no_sound(container: InputContainer, path: Path) -> str:
    """Why a file without sound that can be decoded is refused."""
    sounds = [stream for stream in container.streams if stream.type == "audio"]
    if not sounds:
        kinds = ", ".join(sorted({kind_of(stream) for stream in container.streams})) or "nothing"
        return f"input must have an audio stream to dub, {path} holds only: {kinds}"
    codecs = ", ".join(sorted({codec_name(stream) for stream in sounds}))
    return (
        f"sound must be of a codec that is decoded here, that of {path} is {codecs}; convert it, or, if FFmpeg knows "
        "the codec, add it to media.more_codecs"
    )


def kind_of(stream: Stream) -> StreamKind:
    return "cover" if is_cover(stream) else stream.type


def _check_pictures(container: InputContainer, path: Path, limits: MediaLimits) -> None:
    for stream in container.streams.video:
        if codec_of(stream) is not None and stream.width * stream.height > limits.max_pixels:
            raise MediaError(
                f"pictures must have at most {limits.max_pixels} pixels, stream {stream.index} of {path} has "
                f"{stream.width} × {stream.height}; make it smaller, or raise media.max_pixels"
            )


def is_cover(stream: Stream) -> bool:
    """True for a picture attached to the file, which is not video."""
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


def codec_of(stream: Stream) -> CodecContext | None:
    """The stream's codec; None where this FFmpeg has no decoder, a case missing from PyAV's types."""
    return stream.codec_context


def codec_name(stream: Stream) -> str:
    """FFmpeg's name of the stream's codec, "unknown" if it has none here."""
    codec = codec_of(stream)
    if codec is not None:
        return codec.codec.canonical_name
    return getattr(stream, "name", None) or "unknown"


def _believable_end_s(container: InputContainer) -> float | None:
    """The end of audio and video by the headers, or None if the last packets contradict them."""
    claimed_s = _claimed_end_s(container)
    if claimed_s is None or container.format.name in GUESSED_DURATION_FORMATS:
        return None
    try:
        container.seek(int(max(0.0, claimed_s - TAIL_S) * av.time_base))
    except av.error.FFmpegError:
        return None
    found_s = _last_end_s(container)
    if found_s is None or abs(found_s - claimed_s) > CLAIM_TOLERANCE_S:
        return None
    return claimed_s


def _claimed_end_s(container: InputContainer) -> float | None:
    ends_s = [
        float((stream.start_time or 0) * stream.time_base + stream.duration * stream.time_base)
        for stream in _timed_streams(container)
        if stream.duration is not None and stream.time_base is not None
    ]
    if ends_s and len(ends_s) == len(_timed_streams(container)):
        return max(ends_s)
    if container.duration is None:
        return None
    start = 0 if container.format.name in ENDS_STATING_FORMATS else container.start_time or 0
    return (start + container.duration) / av.time_base


def _last_end_s(container: InputContainer) -> float | None:
    """The latest end of an audio or video packet from the container's position on; None without any."""
    last_s: float | None = None
    try:
        for packet in container.demux(_timed_streams(container)):
            time = packet.pts if packet.pts is not None else packet.dts
            if time is None or packet.size == 0 or packet.is_discard:
                continue
            end_s = float((time + (packet.duration or 0)) * packet.time_base)
            last_s = end_s if last_s is None else max(last_s, end_s)
    except av.error.FFmpegError:
        # A damaged file is as long as what can be read of it.
        return last_s
    return last_s


def _timed_streams(container: InputContainer) -> list[Stream]:
    return [stream for stream in container.streams if stream.type in ("audio", "video") and not is_cover(stream)]
