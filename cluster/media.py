"""What a media file holds, and how one is opened without trusting it.

The media timeline: t = 0 is the container's earliest presented moment (FFmpeg's ``start_time``);
every time in raydub counts from there, so a transport stream that starts at 1.4 s and an MP4 with
an edit list read alike. The timeline ends where the last video or audio stops; subtitles and
chapters may run past it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import av.error
from av.codec import CodecContext
from av.container import InputContainer
from av.stream import Disposition, Stream
from pydantic import BaseModel, ConfigDict, Field

from actors.errors import ConfigError, MediaError
from actors.languages import normalise

StreamKind = Literal["video", "audio", "subtitle", "data", "attachment", "cover", "unknown"]
"""``cover`` is a picture that belongs to the file (attached_pic), not video; ``audio`` is one no decoder knows."""

REFUSED_FORMATS = frozenset(
    {
        *("concat", "concatf", "dash", "hds", "hls", "imf", "rtp", "rtsp", "sap", "sdp", "smoothstreaming"),
        *("image2", "ivr", "lavfi", "mlv", "realtext", "tedcaptions", "tty", "vobsub", "webm_dash_manifest"),
        *("alsa", "fbdev", "kmsgrab", "oss", "v4l2", "video4linux2", "x11grab"),
    }
)
"""FFmpeg inputs that are not one file: playlists, capture devices, picture sequences, scripts. Each
could make FFmpeg open paths that the caller never named."""

GUESSED_DURATION_FORMATS = frozenset({"aac", "ac3", "amr", "dts", "eac3", "latm", "loas", "mp3", "truehd"})
"""Bare codec streams: FFmpeg guesses their duration from the bit rate, so packets are counted instead."""

TAIL_S = 10.0
CLAIM_TOLERANCE_S = 0.5
"""A header whose duration differs more than this from the last packets is not believed."""

SIDE_COMMENTARY = Disposition.comment | Disposition.visual_impaired | Disposition.descriptions


class MediaConfig(BaseModel):
    """Limits on input. They bound time, memory and disk against hostile or broken files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_duration_s: float = Field(default=6 * 3600.0, gt=0)
    max_channels: int = Field(default=16, ge=1, le=64)
    max_sample_hz: int = Field(default=384_000, ge=8_000)
    max_streams: int = Field(default=200, ge=1)
    max_pixels: int = Field(default=8192 * 8192, ge=1)
    """Of a picture, cover art included."""
    max_open_bytes: int = Field(default=2**30, ge=2**20)
    """Memory that opening a stranger's file may take."""
    max_open_cpu_s: int = Field(default=120, ge=1)
    track_listen_s: float = Field(default=30.0, gt=0, le=600)
    """Audio listened to per track when several could be the one with speech."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSummary:
    """A stream that is carried along, not worked on."""

    index: int
    kind: StreamKind
    codec: str
    language: str | None
    """BCP-47; None if undefined."""
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTrack:
    number: int
    """Counts the decodable audio tracks from 0: the N of ``--audio-track N``."""
    index: int
    """The stream's index in the container."""
    codec: str
    channels: int
    layout: str
    channel_names: tuple[str, ...]
    """FFmpeg's names in sample order: FL, FR, FC, LFE, …"""
    sample_hz: int
    language: str | None
    """BCP-47; None if undefined."""
    title: str
    default: bool
    commentary: bool
    """A commentary or a description for the blind, going by the file's own flags."""

    def describe(self) -> str:
        """One line for people: "1: aac 5.1 48000 Hz por 'Director'"."""
        words = [f"{self.number}: {self.codec} {self.layout} {self.sample_hz} Hz {self.language or 'und'}"]
        words += [repr(self.title)] if self.title else []
        words += ["(default)"] if self.default else []
        return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    path: Path
    format: str
    """FFmpeg's demuxer name, such as ``mov,mp4,m4a,3gp,3g2,mj2``."""
    start_s: float
    """The container's timestamp of t = 0 on the media timeline."""
    duration_s: float
    """Where the last video or audio ends on the media timeline."""
    audio: tuple[AudioTrack, ...]
    video: tuple[StreamSummary, ...]
    subtitles: tuple[StreamSummary, ...]
    others: tuple[StreamSummary, ...]
    """Cover art, attachments, data, and what no decoder here knows."""


@functools.cache
def _format_whitelist() -> str:
    names = {name for joined in av.formats_available for name in joined.split(",")}
    return ",".join(sorted(names - REFUSED_FORMATS))


@contextmanager
def open_media(path: Path, config: MediaConfig) -> Iterator[InputContainer]:
    """The opened container of a local file. FFmpeg may open nothing but this file, and no network.

    Raises MediaError: no such file, not a file, not readable, empty, not media, a playlist or device.
    """
    _check_file(path)
    try:
        container = av.open(
            # Absolute, so that a name like "http:x" can never be taken for a protocol.
            str(path.absolute()),
            container_options={
                "protocol_whitelist": "file",
                "format_whitelist": _format_whitelist(),
                "max_streams": str(config.max_streams),
            },
            metadata_errors="replace",
        )
    except av.error.ArgumentError as error:
        raise MediaError(
            f"input must be one self-contained media file, found at {path} a playlist, picture sequence or session "
            "description, which would make FFmpeg open other files, or a broken header; give the media file itself"
        ) from error
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(
            f"input must be a media file that FFmpeg can read, {path} is not: {error}; convert it or check the download"
        ) from error
    with container:
        yield container


def _check_file(path: Path) -> None:
    if not path.exists():
        raise MediaError(f"input must exist, found no such file: {path}")
    if not path.is_file():
        raise MediaError(f"input must be a regular file, found a folder or device: {path}")
    if not os.access(path, os.R_OK):
        raise MediaError(f"input must be readable, permission denied: {path}; check its mode and owner")
    if path.stat().st_size == 0:
        raise MediaError(f"input must be media, found an empty file: {path}")


def probe(path: Path, config: MediaConfig | None = None) -> MediaInfo:
    """What the file holds. Reads headers and the last seconds; the whole file only if they disagree.

    Raises MediaError: as ``open_media``, no audio stream, or over the limits of ``config``.
    """
    config = config or MediaConfig()
    with open_media(path, config) as container:
        start_s = (container.start_time or 0) / av.time_base
        _check_pictures(container, path, config)
        tracks = _audio_tracks(container)
        decodable = {track.index for track in tracks}
        streams = [_summary(stream) for stream in container.streams if stream.index not in decodable]
        name = container.format.name
        end_s = _believable_end_s(container)
    if not tracks:
        kinds = ", ".join(sorted({stream.kind for stream in streams})) or "nothing"
        raise MediaError(f"input must have an audio stream to dub, {path} holds only: {kinds}")
    if end_s is None:
        with open_media(path, config) as container:
            end_s = _last_end_s(container)
    if end_s is None or end_s <= start_s:
        raise MediaError(f"input must hold some audio or video, {path} has headers but no packets; it may be truncated")
    if end_s - start_s > config.max_duration_s:
        raise MediaError(
            f"input must be at most {config.max_duration_s:.0f} s long, {path} has {end_s - start_s:.0f} s; "
            "cut it, or raise media.max_duration_s"
        )
    return MediaInfo(
        path=path,
        format=name,
        start_s=start_s,
        duration_s=end_s - start_s,
        audio=tracks,
        video=tuple(stream for stream in streams if stream.kind == "video"),
        subtitles=tuple(stream for stream in streams if stream.kind == "subtitle"),
        others=tuple(stream for stream in streams if stream.kind not in ("video", "subtitle")),
    )


def _check_pictures(container: InputContainer, path: Path, config: MediaConfig) -> None:
    for stream in container.streams.video:
        if codec_of(stream) is not None and stream.width * stream.height > config.max_pixels:
            raise MediaError(
                f"pictures must have at most {config.max_pixels} pixels, stream {stream.index} of {path} has "
                f"{stream.width} × {stream.height}; make it smaller, or raise media.max_pixels"
            )


def is_cover(stream: Stream) -> bool:
    """Whether the stream is a picture attached to the file rather than video."""
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


def tagged_language(stream: Stream) -> str | None:
    """The stream's BCP-47 language; None if it has none, or one that is not a language."""
    tag = stream.metadata.get("language")
    if not tag or tag in ("und", "mis", "zxx"):
        return None
    try:
        return normalise(tag)
    except ConfigError:
        return None


def codec_of(stream: Stream) -> CodecContext | None:
    """The stream's codec; None where this FFmpeg has no decoder for it, which PyAV's types leave out."""
    return stream.codec_context


def codec_name(stream: Stream) -> str:
    """FFmpeg's name of the stream's codec, "unknown" if it has none here."""
    codec = codec_of(stream)
    if codec is not None:
        return codec.codec.canonical_name
    return getattr(stream, "name", None) or "unknown"


def _audio_tracks(container: InputContainer) -> tuple[AudioTrack, ...]:
    decodable = [stream for stream in container.streams.audio if codec_of(stream) is not None and stream.channels > 0]
    return tuple(
        AudioTrack(
            number=number,
            index=stream.index,
            codec=codec_name(stream),
            channels=stream.channels,
            layout=stream.layout.name,
            channel_names=tuple(channel.name for channel in stream.layout.channels),
            sample_hz=stream.sample_rate,
            language=tagged_language(stream),
            title=stream.metadata.get("title", ""),
            default=bool(stream.disposition & Disposition.default),
            commentary=bool(stream.disposition & SIDE_COMMENTARY),
        )
        for number, stream in enumerate(decodable)
    )


def _summary(stream: Stream) -> StreamSummary:
    return StreamSummary(
        index=stream.index,
        kind="cover" if is_cover(stream) else stream.type,
        codec=codec_name(stream),
        language=tagged_language(stream),
        title=stream.metadata.get("title", ""),
    )


def _believable_end_s(container: InputContainer) -> float | None:
    """Where the headers say that audio and video end, or None if the last packets say otherwise."""
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
    return ((container.start_time or 0) + container.duration) / av.time_base


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
