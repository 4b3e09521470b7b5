"""One file from the source and its dubs: every source packet copied that the container can hold.

Everything is moved so that t = 0 of the media timeline is time 0 of the output, which is where the
dubs begin.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Disposition, Stream
from av.video.stream import VideoStream

from actors.errors import ConfigError, MediaError
from actors.languages import iso639_2
from cluster.media.config import MediaConfig
from cluster.media.container import codec_name, is_cover, open_media
from cluster.media.encode import not_writable
from cluster.media.picture import add_picture, look_of, picture_packets
from cluster.media.plan import COVER_TYPES, DUB_SUFFIXES, Muxer, StreamPlan, keep_tag, muxer_of, plan_streams
from cluster.media.probe import AudioTrack, MediaInfo, tagged_language
from cluster.media.reencode import add_audio, audio_packets, text_packets
from cluster.media.remux import MILLISECOND, UNWRITABLE, Copy, cue_packets, stream_packets, ticks, write_packets
from cluster.media.verify import PromisedStream, promised, verify
from cluster.storage.files import replaced
from cluster.subtitles.layout import Cue

log = logging.getLogger(__name__)

MUXER_OPTIONS: dict[Muxer, dict[str, str]] = {
    # faststart: a browser plays before it has the whole file. movie_timescale: edit lists count in it,
    # and 1/1000 would move a stream that starts late by up to a millisecond.
    "mp4": {"movflags": "+faststart", "movie_timescale": "90000"},
    "mov": {"movflags": "+faststart", "movie_timescale": "90000"},
    "matroska": {},
}
DELAY_STATING_FORMATS = frozenset({"matroska,webm", "ogg"})
"""Inputs whose codec delay FFmpeg reads into the stream's parameters, from where Matroska's header
gets it. MP4 keeps it in edit lists instead, which Matroska lacks, and MP3 in its first packet."""

MAX_INTERLEAVE_US = 2_000_000
"""The muxer holds packets back until each stream has one; for sparse subtitles only this long."""

CONTAINER_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", "duration"})
"""Metadata that describes the container it was read from, wrong in any other."""

ASS_HEADER = b"""[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Alignment
Style: Default,Arial,16,&Hffffff,2
"""
"""FFmpeg makes MP4's subtitle sample description from it; without one a player has no font to draw in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceText:
    """Facts about the dubbed audio track that are known only after transcription."""

    track: AudioTrack
    language: str | None
    """BCP-47, given or detected."""
    subtitles: tuple[Cue, ...] = ()
    """The transcript, laid out by ``subtitles.lay_out``; without cues no track is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DubTrack:
    language: str
    """BCP-47"""
    audio: Path
    """A file of ``AudioEncoder`` with the suffix of ``dub_suffix``."""
    subtitles: tuple[Cue, ...] = ()
    """The translation, laid out by ``subtitles.lay_out``; without cues no track is made."""
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedStream:
    """A source stream that is not in the output."""

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
    """The output's streams, collected before its header is written."""

    source: InputContainer
    target: OutputContainer
    muxer: Muxer
    suffix: str
    info: MediaInfo
    config: MediaConfig
    streams: dict[int, Stream] = field(default_factory=dict)
    """Source stream index → output stream."""
    dubs: list[tuple[InputContainer, Stream]] = field(default_factory=list)
    cues: list[tuple[Sequence[Cue], Stream]] = field(default_factory=list)
    origins: dict[int, tuple[Path, int]] = field(default_factory=dict)
    """Index in the output → the file and the stream in it that its sound or picture comes from."""
    encoded: list[Callable[[], Iterator[Packet[Stream]]]] = field(default_factory=list)
    """The packets of source streams that are encoded again."""
    dropped: list[DroppedStream] = field(default_factory=list)


def mux(
    info: MediaInfo, dubs: Sequence[DubTrack], out: Path, *, source: SourceText, config: MediaConfig | None = None
) -> MuxResult:
    """Write the source with the dubs added; the first dub becomes the default audio.

    Source streams keep order, payload, relative timestamps, tags, chapters, rotation and dispositions,
    except that no source audio stays default, and that the dubbed track becomes "original" and gets
    the detected language if it had none. Dub audio stands before source audio, because players that
    ignore dispositions take the first. ``out`` appears when complete, or not at all.
    Raises ConfigError for a suffix other than .mp4, .mov, .mkv and .mka or audio of another ``dub_suffix``,
    MediaError if the source cannot be read, ``out`` cannot be written, or is not as it was planned.
    """
    muxer, config = muxer_of(out.suffix), config or MediaConfig()
    for dub in dubs:
        if dub.audio.suffix != DUB_SUFFIXES[muxer]:
            raise ConfigError(f"dub audio for {out.name} must be {DUB_SUFFIXES[muxer]}, found {dub.audio.name}")
    try:
        with replaced(out) as temporary:
            dropped = _write_output(info, dubs, temporary, out.suffix, source, config)
    except UNWRITABLE as error:
        raise MediaError(
            f"{info.path} must be sound enough to be copied; {error.strerror}; convert it with ffmpeg first"
        ) from error
    except (av.error.FFmpegError, OSError) as error:
        raise not_writable(out, error) from error
    result = MuxResult(path=out, dropped=dropped, lost_metadata=_lost_metadata(info, out, config))
    if result.dropped or result.lost_metadata:
        log.warning("muxed with losses path=%s dropped=%s lost_metadata=%s", out, result.dropped, result.lost_metadata)
    return result


def _write_output(
    info: MediaInfo, dubs: Sequence[DubTrack], out: Path, suffix: str, source: SourceText, config: MediaConfig
) -> tuple[DroppedStream, ...]:
    muxer = muxer_of(suffix)
    with ExitStack() as stack:
        container = stack.enter_context(open_media(info.path, config))
        audios = [stack.enter_context(open_media(dub.audio, config)) for dub in dubs]
        options = {"max_interleave_delta": str(MAX_INTERLEAVE_US), **MUXER_OPTIONS[muxer]}
        target = av.open(str(out.absolute()), "w", format=muxer, container_options=options)
        plan = _Plan(source=container, target=target, muxer=muxer, suffix=suffix, info=info, config=config)
        try:
            _plan_streams(plan, source, dubs, audios)
            _plan_subtitles(plan, source, dubs)
            _copy_metadata(plan)
            promises = _promises(plan)
            if _write(plan):  # what a decoder makes of the others depends on those before
                promises = [replace(each, file=None) if each.file == info.path else each for each in promises]
        except BaseException:
            # Closing also writes buffered packets; that it fails again says nothing new.
            with suppress(av.error.FFmpegError):
                target.close()
            raise
        target.close()
        num_chapters = len(container.chapters())
    verify(out, promises, info, num_chapters, config)
    return tuple(plan.dropped)


def _promises(plan: _Plan) -> list[PromisedStream]:
    """The streams of sound, picture and subtitles that the output must have."""
    compared = [stream for stream in plan.target.streams if stream.type in ("audio", "video", "subtitle")]
    return [promised(stream, *plan.origins.get(stream.index, (None, 0))) for stream in compared if not is_cover(stream)]


def _write(plan: _Plan) -> int:
    """Write all packets. Returns the number of packets of the source that are too damaged to be copied."""
    plan.target.start_encoding()
    added = [stream_packets(audio, audio.streams.audio[0].index, stream) for audio, stream in plan.dubs]
    added += [cue_packets(cues, stream, timed_text=plan.muxer != "matroska") for cues, stream in plan.cues]
    added += [packets() for packets in plan.encoded]
    copy = Copy(
        source=plan.source,
        streams=plan.streams,
        start_s=plan.info.start_s,
        parts=plan.info.parts,
        states_delay=plan.muxer != "matroska" or plan.info.format in DELAY_STATING_FORMATS,
    )
    return write_packets(plan.target, copy, added)


def _plan_streams(plan: _Plan, source: SourceText, dubs: Sequence[DubTrack], audios: Sequence[InputContainer]) -> None:
    """Add the output streams of the source, and those of the dubs before its first audio."""
    first_audio = next(stream.index for stream in plan.source.streams if stream.type == "audio")
    for planned in plan_streams(plan.source, plan.info, plan.suffix, plan.config):
        stream = plan.source.streams[planned.index]
        if stream.index == first_audio:
            for dub, audio in zip(dubs, audios, strict=True):
                _add_dub(plan, dub, audio)
        added = _add_source(plan, stream, planned)
        if added is None or stream.type != "audio":
            continue
        disposition = stream.disposition & ~Disposition.default if dubs else stream.disposition
        if stream.index == source.track.index:
            disposition |= Disposition.original
            if source.language is not None and tagged_language(stream) is None:
                added.metadata["language"] = iso639_2(source.language)
        added.disposition = disposition


def _add_dub(plan: _Plan, dub: DubTrack, audio: InputContainer) -> None:
    added = plan.target.add_stream_from_template(audio.streams.audio[0], opaque=True)
    _name(added, dub.language, dub.title)
    added.disposition = Disposition.dub if plan.dubs else Disposition.dub | Disposition.default
    plan.dubs.append((audio, added))
    plan.origins[added.index] = (dub.audio, audio.streams.audio[0].index)


def _add_source(plan: _Plan, stream: Stream, planned: StreamPlan) -> Stream | None:
    """The output stream for a source stream; None, with the reason in ``dropped``, if there is none."""
    if planned.action == "drop":
        _drop(plan, stream, planned.why)
        return None
    if plan.muxer == "matroska" and (isinstance(stream, AttachmentStream) or is_cover(stream)):
        return _add_attachment(plan, stream)
    if planned.action == "encode":
        added = _add_encoded(plan, stream, planned.new_codec)
    else:
        added = plan.target.add_stream_from_template(stream, opaque=True)
        keep_tag(stream, added)
        plan.streams[stream.index] = added
    plan.origins[added.index] = (plan.info.path, stream.index)
    added.metadata.update({key: text for key, text in stream.metadata.items() if key.lower() not in CONTAINER_TAGS})
    added.disposition = stream.disposition
    return added


def _add_encoded(plan: _Plan, stream: Stream, codec: str) -> Stream:
    """The output stream for a source stream that is encoded again, whose packets are made while writing."""
    if isinstance(stream, AudioStream):
        track = next(track for track in plan.info.audio if track.index == stream.index)
        sound = add_audio(plan.target, track, codec)
        plan.encoded.append(lambda: audio_packets(plan.info, track, sound, plan.config))
        return sound
    if isinstance(stream, VideoStream):
        look = look_of(plan.info, stream.index, plan.config)
        picture = add_picture(plan.target, stream, codec, look)
        plan.encoded.append(lambda: picture_packets(plan.info, stream.index, picture, look, plan.config))
        return picture
    text = plan.target.add_mux_stream(codec)
    text.time_base = MILLISECOND
    plan.encoded.append(lambda: text_packets(plan.info, stream.index, text, plan.config))
    return text


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
