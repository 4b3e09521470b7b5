"""Plans the output's streams before any work: which are copied, encoded again, or dropped and why.

A stream is copied wherever the container can hold it. Sound and picture that it cannot hold are encoded
again, text subtitles are written as the container's own kind; only what is neither is left out, by name.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import AttachmentStream, Stream

from actors.errors import ConfigError, MediaError
from cluster.media.config import MediaConfig
from cluster.media.container import codec_name, codec_of, is_cover, kind_of, open_media
from cluster.media.picture import has_picture, picture_codec
from cluster.media.probe import MediaInfo, tagged_language

Muxer = Literal["mp4", "mov", "matroska"]
Action = Literal["copy", "encode", "drop"]
MP4_FAMILY = "mov,mp4,m4a,3gp,3g2,mj2"
MUXERS: dict[str, Muxer] = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".mka": "matroska"}
DUB_SUFFIXES: dict[Muxer, str] = {"mp4": ".m4a", "mov": ".m4a", "matroska": ".mka"}
LOSSLESS: dict[Muxer, str] = {"mp4": "flac", "mov": "pcm_s16le", "matroska": "flac"}
MAX_FLAC_CHANNELS = 8
COVER_TYPES = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """The fate of one source stream: copied, encoded again, or dropped."""

    index: int
    kind: str
    codec: str
    language: str | None
    action: Action
    new_codec: str = ""
    """The codec of an encoded stream, by FFmpeg's name."""
    why: str = ""
    """The reason why it cannot be copied."""

    def describe(self) -> str:
        """A few words for people: "audio 1 (amr_nb, en) encoded as flac"."""
        words = f"{self.kind} {self.index} ({self.codec}{f', {self.language}' if self.language else ''})"
        if self.action == "encode":
            return f"{words} encoded as {self.new_codec}"
        return f"{words} {'copied' if self.action == 'copy' else 'left out'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlan:
    """The output's container, and the fate of each source stream."""

    suffix: str
    streams: tuple[StreamPlan, ...]

    def describe(self) -> str:
        """One line for people, with what needs a reason last."""
        listed = [stream.describe() for stream in self.streams if stream.action != "drop"]
        listed += [f"{stream.describe()}: {stream.why}" for stream in self.streams if stream.action == "drop"]
        return f"{self.suffix[1:]}: {'; '.join(listed)}"


def output_suffix(info: MediaInfo, config: MediaConfig | None = None) -> str:
    """The suffix of the container that holds most of the source unchanged; see ``plan_output``."""
    return plan_output(info, config).suffix


def plan_output(info: MediaInfo, config: MediaConfig | None = None) -> OutputPlan:
    """Choose the container, and what becomes of each stream.

    ``.mka`` without video. MP4 and QuickTime stay in ``.mp4``, or in ``.mov``, if that holds all audio and video;
    everything else goes to ``.mkv``, or to ``.mov`` for pictures that only it can hold. Raises MediaError if the
    file cannot be read, or if a picture can neither be copied nor decoded.
    """
    with open_media(info.path, config or MediaConfig()) as source:
        suffix = _suffix(source, info)
        return OutputPlan(suffix=suffix, streams=plan_streams(source, info, suffix, config or MediaConfig()))


def plan_streams(source: InputContainer, info: MediaInfo, suffix: str, config: MediaConfig) -> tuple[StreamPlan, ...]:
    """The fate of each stream of the opened source in an output with this suffix. Raises MediaError."""
    muxer = muxer_of(suffix)
    kept = [
        stream
        for stream in source.streams
        if not _is_chapter_text(stream, source) and not _is_timecode(stream, source, muxer)
    ]
    return tuple(_stream_plan(stream, info, muxer, config) for stream in kept)


def muxer_of(suffix: str) -> Muxer:
    muxer = MUXERS.get(suffix.lower())
    if muxer is None:
        raise ConfigError(f"output must end in {', '.join(MUXERS)}, found {suffix or 'no suffix'!r}")
    return muxer


def dub_suffix(suffix: str) -> str:
    """The suffix that ``AudioEncoder`` must be given for an output with this suffix. Raises ConfigError."""
    return DUB_SUFFIXES[muxer_of(suffix)]


def keep_tag(stream: Stream, added: Stream) -> None:
    """HEVC as hvc1 plays on Apple devices; FFmpeg would rename it hev1, which does not."""
    codec = codec_of(stream)
    if codec is not None and codec.name == "hevc" and codec.codec_tag == "hvc1":
        added.codec_context.codec_tag = "hvc1"


def _suffix(source: InputContainer, info: MediaInfo) -> str:
    if not info.video:
        return ".mka"
    pictures = [stream for stream in source.streams if stream.type == "video" and not is_cover(stream)]
    if info.format == MP4_FAMILY:
        played = [*pictures, *source.streams.audio]
        return ".mp4" if _holds("mp4", played) else ".mov" if _holds("mov", played) else ".mkv"
    return ".mov" if not _holds("matroska", pictures) and _holds("mov", pictures) else ".mkv"


def _holds(muxer: Muxer, streams: Sequence[Stream]) -> bool:
    return all(_refusal(stream, muxer) is None for stream in streams)


def _stream_plan(stream: Stream, info: MediaInfo, muxer: Muxer, config: MediaConfig) -> StreamPlan:
    why = _why_not_attached(stream) if _is_file(stream, muxer) else _refusal(stream, muxer)
    new_codec = "" if why is None else _new_codec(stream, muxer)
    if why is not None and _is_lost_picture(stream, new_codec, info, config):
        raise MediaError(
            f"a picture must be one that {muxer} can hold, or that FFmpeg can decode; stream {stream.index} of "
            f"{info.path} is {codec_name(stream)}; convert the picture, or dub a copy without it"
        )
    return StreamPlan(
        index=stream.index,
        kind=kind_of(stream),
        codec=codec_name(stream),
        language=tagged_language(stream),
        action="copy" if why is None else "encode" if new_codec else "drop",
        new_codec=new_codec,
        why=why or "",
    )


def _is_lost_picture(stream: Stream, new_codec: str, info: MediaInfo, config: MediaConfig) -> bool:
    """True for pictures that can neither be copied nor encoded again."""
    if stream.type != "video" or is_cover(stream):
        return False
    return not new_codec or not has_picture(info.path, stream.index, config)


def _is_file(stream: Stream, muxer: Muxer) -> bool:
    """True for what Matroska keeps as an attachment, cover art included."""
    return muxer == "matroska" and (isinstance(stream, AttachmentStream) or is_cover(stream))


def _why_not_attached(stream: Stream) -> str | None:
    has_data = bool(stream.data) if isinstance(stream, AttachmentStream) else codec_name(stream) in COVER_TYPES
    return None if has_data else "it has no data that matroska could attach"


def _is_chapter_text(stream: Stream, source: InputContainer) -> bool:
    """True for the stream in which MP4 stores chapter titles; copying the chapters writes a new one."""
    return stream.type == "data" and stream.name == "bin_data" and bool(source.chapters())


def _is_timecode(stream: Stream, source: InputContainer, muxer: Muxer) -> bool:
    """True for the track with a picture's timecode: MP4 and QuickTime write it anew from the picture's own tag."""
    timecode = stream.metadata.get("timecode")
    if stream.type != "data" or timecode is None or muxer == "matroska":
        return False
    return any(picture.metadata.get("timecode") == timecode for picture in source.streams.video)


def _refusal(stream: Stream, muxer: Muxer) -> str | None:
    """The reason why a muxer cannot hold a stream, None if it can; found by letting it write such a header."""
    if codec_name(stream) == "rawvideo":
        return f"{muxer} would lose the order of its pixels"  # PyAV drops the tag that states it
    if codec_name(stream) == "tta" and muxer == "matroska":
        return "matroska takes its length for that of the longest track"
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            added = trial.add_stream_from_template(stream, opaque=True)
            keep_tag(stream, added)
            added.disposition = stream.disposition
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError) as error:
        return f"{muxer} cannot hold it: {error}"
    return None


def _new_codec(stream: Stream, muxer: Muxer) -> str:
    """The codec that the stream is encoded with; empty if it cannot be decoded, or is neither sound, picture nor text.

    Sound is encoded without loss, as its decoder gives it.
    """
    if codec_of(stream) is None or is_cover(stream):
        return ""
    if isinstance(stream, AudioStream) and stream.channels > 0:
        return LOSSLESS[muxer] if stream.channels <= MAX_FLAC_CHANNELS else "pcm_s16le"
    if stream.type == "video":
        return picture_codec(stream)
    return "subrip" if codec_name(stream) == "mov_text" and muxer == "matroska" else ""
