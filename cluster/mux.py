"""One file from the source and its dubs: every source packet copied, none re-encoded.

Everything is moved so that t = 0 of the media timeline is time 0 of the output, which is where the
dubs begin.
"""

from __future__ import annotations

import io
import logging
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.stream import AttachmentStream, Disposition, Stream

from actors.errors import ConfigError, MediaError
from actors.languages import iso639_2
from cluster.media import (
    AudioTrack,
    MediaConfig,
    MediaInfo,
    codec_name,
    codec_of,
    is_cover,
    open_media,
    tagged_language,
)
from cluster.remux import MILLISECOND, Copy, cue_packets, stream_packets, ticks, write_packets
from cluster.subtitles import Cue

log = logging.getLogger(__name__)

Muxer = Literal["mp4", "matroska"]
MP4_FAMILY = "mov,mp4,m4a,3gp,3g2,mj2"
MUXERS: dict[str, Muxer] = {".mp4": "mp4", ".mkv": "matroska", ".mka": "matroska"}
DUB_SUFFIXES: dict[Muxer, str] = {"mp4": ".m4a", "matroska": ".mka"}
COVER_TYPES = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}

MUXER_OPTIONS: dict[Muxer, dict[str, str]] = {
    # faststart: a browser plays before it has the whole file. movie_timescale: edit lists count in it,
    # and 1/1000 would move a stream that starts late by up to a millisecond.
    "mp4": {"movflags": "+faststart", "movie_timescale": "90000"},
    "matroska": {},
}
DELAY_STATING_FORMATS = frozenset({"matroska,webm", "ogg"})
"""Inputs whose codec delay FFmpeg reads into the stream's parameters, from where Matroska's header
gets it. MP4 keeps it in edit lists instead, which Matroska has not, and MP3 in its first packet."""

MAX_INTERLEAVE_US = 2_000_000
"""The muxer holds back packets until each stream has one; for sparse subtitles only this long."""

CONTAINER_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", "duration"})
"""Metadata that describes the container it was read from, wrong in any other."""

ASS_HEADER = b"""[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Alignment
Style: Default,Arial,16,&Hffffff,2
"""
"""FFmpeg makes MP4's subtitle sample description from it; without one a player has no font to draw in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceText:
    """What is known by now about the audio that was dubbed."""

    track: AudioTrack
    language: str | None
    """BCP-47, given or heard."""
    subtitles: tuple[Cue, ...] = ()
    """What was said, as ``subtitles.lay_out`` gives it; none makes no track."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DubTrack:
    language: str
    """BCP-47"""
    audio: Path
    """What ``AudioEncoder`` wrote, with the suffix of ``dub_suffix``."""
    subtitles: tuple[Cue, ...] = ()
    """As ``subtitles.lay_out`` gives them; none makes no track."""
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedStream:
    """A source stream that the output cannot hold."""

    index: int
    kind: str
    codec: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MuxResult:
    path: Path
    dropped: tuple[DroppedStream, ...]
    lost_metadata: tuple[str, ...]
    """Names of the source's file-level tags that the output's container cannot hold."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Plan:
    """What goes where, while the output's header is made up."""

    source: InputContainer
    target: OutputContainer
    muxer: Muxer
    info: MediaInfo
    config: MediaConfig
    streams: dict[int, Stream] = field(default_factory=dict)
    """Source stream index → output stream."""
    dubs: list[tuple[InputContainer, Stream]] = field(default_factory=list)
    cues: list[tuple[Sequence[Cue], Stream]] = field(default_factory=list)
    dropped: list[DroppedStream] = field(default_factory=list)


def output_suffix(info: MediaInfo, config: MediaConfig | None = None) -> str:
    """``.mka`` without video; ``.mp4`` for MP4 and QuickTime if MP4 holds all audio and video; else ``.mkv``.

    Raises MediaError if the file cannot be read.
    """
    if not info.video:
        return ".mka"
    if info.format != MP4_FAMILY:
        return ".mkv"
    with open_media(info.path, config or MediaConfig()) as source:
        played = [stream for stream in source.streams if stream.type in ("audio", "video")]
        return ".mp4" if all(_refusal(stream, "mp4") is None for stream in played) else ".mkv"


def dub_suffix(suffix: str) -> str:
    """What ``AudioEncoder`` must write for an output of this suffix. Raises ConfigError."""
    return DUB_SUFFIXES[_muxer(suffix)]


def mux(
    info: MediaInfo, dubs: Sequence[DubTrack], out: Path, *, source: SourceText, config: MediaConfig | None = None
) -> MuxResult:
    """Write the source with the dubs added; the first dub becomes the default audio.

    Source streams keep order, payload, relative timestamps, tags, chapters, rotation and dispositions,
    except that no source audio stays default, and that the dubbed track becomes "original" and gets
    the language that was heard if it had none. Dub audio stands before source audio, because players
    that ignore dispositions take the first. ``out`` appears when complete, or not at all.
    Raises ConfigError for a suffix other than .mp4, .mkv and .mka or audio of another ``dub_suffix``,
    MediaError if the source cannot be read or ``out`` not be written.
    """
    muxer, config = _muxer(out.suffix), config or MediaConfig()
    for dub in dubs:
        if dub.audio.suffix != DUB_SUFFIXES[muxer]:
            raise ConfigError(f"dub audio for {out.name} must be {DUB_SUFFIXES[muxer]}, found {dub.audio.name}")
    aside = out.with_name(f".{uuid.uuid4().hex}.partial")  # not longer than names can be, as out's with more would be
    try:
        dropped = _mux_aside(info, dubs, aside, muxer, source, config)
        aside.replace(out)
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"{out} must be writable, {error}; free space, or choose another folder") from error
    finally:
        aside.unlink(missing_ok=True)
    result = MuxResult(path=out, dropped=dropped, lost_metadata=_lost_metadata(info, out, config))
    if result.dropped or result.lost_metadata:
        log.warning("muxed with losses path=%s dropped=%s lost_metadata=%s", out, result.dropped, result.lost_metadata)
    return result


def _muxer(suffix: str) -> Muxer:
    muxer = MUXERS.get(suffix.lower())
    if muxer is None:
        raise ConfigError(f"output must end in {', '.join(MUXERS)}, found {suffix or 'no suffix'!r}")
    return muxer


def _mux_aside(
    info: MediaInfo, dubs: Sequence[DubTrack], aside: Path, muxer: Muxer, source: SourceText, config: MediaConfig
) -> tuple[DroppedStream, ...]:
    with ExitStack() as stack:
        container = stack.enter_context(open_media(info.path, config))
        audios = [stack.enter_context(open_media(dub.audio, config)) for dub in dubs]
        options = {"max_interleave_delta": str(MAX_INTERLEAVE_US), **MUXER_OPTIONS[muxer]}
        target = av.open(str(aside.absolute()), "w", format=muxer, container_options=options)
        plan = _Plan(source=container, target=target, muxer=muxer, info=info, config=config)
        try:
            _plan_streams(plan, source, dubs, audios)
            _plan_subtitles(plan, source, dubs)
            _copy_metadata(plan)
            _write(plan)
        except BaseException:
            # Closing also writes what is buffered; that it fails again says nothing new.
            with suppress(av.error.FFmpegError):
                target.close()
            raise
        target.close()
    return tuple(plan.dropped)


def _write(plan: _Plan) -> None:
    plan.target.start_encoding()
    added = [stream_packets(audio, audio.streams.audio[0].index, stream) for audio, stream in plan.dubs]
    added += [cue_packets(cues, stream, timed_text=plan.muxer == "mp4") for cues, stream in plan.cues]
    copy = Copy(
        source=plan.source,
        streams=plan.streams,
        start_s=plan.info.start_s,
        states_delay=plan.muxer == "mp4" or plan.info.format in DELAY_STATING_FORMATS,
    )
    write_packets(plan.target, copy, added)


def _plan_streams(plan: _Plan, source: SourceText, dubs: Sequence[DubTrack], audios: Sequence[InputContainer]) -> None:
    """Add the output streams of the source, and those of the dubs before its first audio."""
    first_audio = next(stream.index for stream in plan.source.streams if stream.type == "audio")
    for stream in plan.source.streams:
        if stream.index == first_audio:
            for dub, audio in zip(dubs, audios, strict=True):
                _add_dub(plan, dub, audio)
        added = None if _is_chapter_text(stream, plan) else _add_source(plan, stream)
        if added is None or stream.type != "audio":
            continue
        disposition = stream.disposition & ~Disposition.default if dubs else stream.disposition
        if stream.index == source.track.index:
            disposition |= Disposition.original
            if source.language is not None and tagged_language(stream) is None:
                added.metadata["language"] = iso639_2(source.language)
        added.disposition = disposition


def _is_chapter_text(stream: Stream, plan: _Plan) -> bool:
    """Whether this is how MP4 stores chapter titles; copying the chapters writes it anew."""
    return stream.type == "data" and stream.name == "bin_data" and bool(plan.source.chapters())


def _add_dub(plan: _Plan, dub: DubTrack, audio: InputContainer) -> None:
    added = plan.target.add_stream_from_template(audio.streams.audio[0], opaque=True)
    _name(added, dub.language, dub.title)
    added.disposition = Disposition.dub if plan.dubs else Disposition.dub | Disposition.default
    plan.dubs.append((audio, added))


def _add_source(plan: _Plan, stream: Stream) -> Stream | None:
    """The output stream for a source stream; None, with the reason in ``dropped``, if there can be none."""
    if plan.muxer == "matroska" and (isinstance(stream, AttachmentStream) or is_cover(stream)):
        return _add_attachment(plan, stream)
    why = _refusal(stream, plan.muxer)
    if why is not None:
        _drop(plan, stream, why)
        return None
    added = plan.target.add_stream_from_template(stream, opaque=True)
    _keep_tag(stream, added)
    added.metadata.update({key: text for key, text in stream.metadata.items() if key.lower() not in CONTAINER_TAGS})
    added.disposition = stream.disposition
    plan.streams[stream.index] = added
    return added


def _refusal(stream: Stream, muxer: Muxer) -> str | None:
    """Why the muxer cannot hold a stream, None if it can: found by letting it write such a header."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            added = trial.add_stream_from_template(stream, opaque=True)
            _keep_tag(stream, added)
            added.disposition = stream.disposition
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError) as error:
        return f"{muxer} cannot hold it: {error}"
    return None


def _keep_tag(stream: Stream, added: Stream) -> None:
    """HEVC as hvc1 plays on Apple devices; FFmpeg would rename it hev1, which does not."""
    codec = codec_of(stream)
    if codec is not None and codec.name == "hevc" and codec.codec_tag == "hvc1":
        added.codec_context.codec_tag = "hvc1"


def _add_attachment(plan: _Plan, stream: Stream) -> Stream | None:
    """A file or picture as a Matroska attachment, which is where Matroska keeps cover art too."""
    if isinstance(stream, AttachmentStream):
        name, mimetype, data = stream.name or "attachment", stream.mimetype or "application/octet-stream", stream.data
    else:
        name, mimetype = COVER_TYPES.get(codec_name(stream), ("", ""))
        data = _first_payload(plan, stream) if name else b""
        name = stream.metadata.get("filename", name)
    if not data:
        _drop(plan, stream, "it has no data that matroska could attach")
        return None
    return plan.target.add_attachment(name, mimetype, data)


def _first_payload(plan: _Plan, stream: Stream) -> bytes:
    # A container of its own: demuxing the source here would lose its first packets.
    with open_media(plan.info.path, plan.config) as container:
        return next((bytes(packet) for packet in container.demux(container.streams[stream.index]) if packet.size), b"")


def _drop(plan: _Plan, stream: Stream, why: str) -> None:
    plan.dropped.append(DroppedStream(index=stream.index, kind=stream.type, codec=codec_name(stream), why=why))


def _plan_subtitles(plan: _Plan, source: SourceText, dubs: Sequence[DubTrack]) -> None:
    for dub in dubs:
        if dub.subtitles:
            plan.cues.append((dub.subtitles, _add_subtitles(plan, dub.language, dub.title)))
    if source.subtitles:
        plan.cues.append((source.subtitles, _add_subtitles(plan, source.language or "und", "")))


def _add_subtitles(plan: _Plan, language: str, title: str) -> Stream:
    added: Stream
    if plan.muxer == "matroska":
        added = plan.target.add_mux_stream("subrip")
    else:
        added = plan.target.add_stream("mov_text")
        added.codec_context.subtitle_header = ASS_HEADER
    added.time_base = MILLISECOND
    _name(added, language, title)
    return added


def _name(stream: Stream, language: str, title: str) -> None:
    stream.metadata["language"] = iso639_2(language)
    if title:
        # Matroska players show the title, MP4 players the handler's name.
        stream.metadata.update(title=title, handler_name=title)


def _copy_metadata(plan: _Plan) -> None:
    tags = plan.source.metadata
    plan.target.metadata.update({key: text for key, text in tags.items() if key.lower() not in CONTAINER_TAGS})
    chapters = plan.source.chapters()
    for chapter in chapters:
        shift = ticks(plan.info.start_s, chapter["time_base"] or MILLISECOND)
        chapter["start"] = max(0, chapter["start"] - shift)
        chapter["end"] = max(chapter["start"], chapter["end"] - shift)
    plan.target.set_chapters(chapters)


def _lost_metadata(info: MediaInfo, out: Path, config: MediaConfig) -> tuple[str, ...]:
    with open_media(info.path, config) as source, open_media(out, config) as written:
        kept = {key.lower() for key in written.metadata}
        return tuple(sorted(key for key in source.metadata if key.lower() not in kept | CONTAINER_TAGS))
