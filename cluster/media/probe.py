"""Describes media files: their streams, tracks, start and duration.

The media timeline: t = 0 is the container's earliest presented moment (FFmpeg's ``start_time``);
every time in raydub counts from there, so a transport stream that starts at 1.4 s and an MP4 with
an edit list read alike. The timeline ends where the last video or audio stops; subtitles and
chapters may run past it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from av.container import InputContainer
from av.stream import Disposition, Stream

from actors.errors import ConfigError, MediaError
from actors.languages import normalise
from cluster.media.config import MediaConfig
from cluster.media.container import MediaLimits, StreamKind, codec_name, decodable_audio, kind_of, survey
from cluster.media.joins import TimePart

TRUNCATED_S = 1.0
"""A file that is this much shorter than its header says was cut off."""

SIDE_TITLE = re.compile(
    r"comment|coment|kommentar|audio.?(d|b)es[ck]|descri(ptive|bed|ção|pción)|visual|hörfilm|isolated score",
    re.IGNORECASE,
)
"""Titles of commentaries and descriptions for the blind, which few files mark by their flags."""
SIDE_COMMENTARY = Disposition.comment | Disposition.visual_impaired | Disposition.descriptions


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSummary:
    """A stream that is only copied to the output."""

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
    """A commentary or a description for the blind, going by the file's own flags and titles."""

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
    """End of the last video or audio on the media timeline."""
    claimed_s: float | None = None
    """Duration by the file's header; None if it does not tell."""
    parts: tuple[TimePart, ...] = ()
    """Parts that are joined, as the file's times jump between them; none if they do not jump."""
    audio: tuple[AudioTrack, ...]
    video: tuple[StreamSummary, ...]
    subtitles: tuple[StreamSummary, ...]
    others: tuple[StreamSummary, ...]
    """Cover art, attachments, data, and streams that no decoder here knows."""

    @property
    def is_truncated(self) -> bool:
        """True if the file ends well before its header says."""
        return self.claimed_s is not None and self.claimed_s - self.duration_s > TRUNCATED_S

    @property
    def joins_s(self) -> tuple[float, ...]:
        """Times at which parts were joined."""
        return tuple(part.joined_s - self.start_s for part in self.parts[1:])


def probe(path: Path, config: MediaConfig | None = None) -> MediaInfo:
    """Describe a file, by its headers and last seconds; reads the whole file only if these disagree.

    Raises MediaError as ``open_media``, and for a file without audio or over the limits of ``config``.
    """
    config = config or MediaConfig()
    (name, tracks, streams), extent = survey(path, config, _describe)
    start_s, end_s = extent.start_s, extent.end_s
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
        claimed_s=None if extent.claimed_end_s is None else extent.claimed_end_s - start_s,
        parts=extent.parts,
        audio=tracks,
        video=tuple(stream for stream in streams if stream.kind == "video"),
        subtitles=tuple(stream for stream in streams if stream.kind == "subtitle"),
        others=tuple(stream for stream in streams if stream.kind not in ("video", "subtitle")),
    )


def tagged_language(stream: Stream) -> str | None:
    """The stream's BCP-47 language; None without a tag, or if the tag is not a language."""
    tag = stream.metadata.get("language")
    if not tag or tag in ("und", "mis", "zxx"):
        return None
    try:
        return normalise(tag)
    except ConfigError:
        return None


def _describe(
    container: InputContainer, limits: MediaLimits
) -> tuple[str, tuple[AudioTrack, ...], list[StreamSummary]]:
    """The container's format, its audio tracks and its other streams."""
    tracks = _audio_tracks(container, limits)
    decodable = {track.index for track in tracks}
    streams = [_summary(stream) for stream in container.streams if stream.index not in decodable]
    return container.format.name, tracks, streams


def _audio_tracks(container: InputContainer, limits: MediaLimits) -> tuple[AudioTrack, ...]:
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
            commentary=bool(stream.disposition & SIDE_COMMENTARY)
            or SIDE_TITLE.search(stream.metadata.get("title", "")) is not None,
        )
        for number, stream in enumerate(decodable_audio(container, limits))
    )


def _summary(stream: Stream) -> StreamSummary:
    return StreamSummary(
        index=stream.index,
        kind=kind_of(stream),
        codec=codec_name(stream),
        language=tagged_language(stream),
        title=stream.metadata.get("title", ""),
    )
