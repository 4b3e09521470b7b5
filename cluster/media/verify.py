"""Opens a finished file again, and compares it with what was to be in it.

Streams in their order, languages, the default sound, chapters, lengths, a picture that decodes, and the sound of
each track at the places where it was in the file that it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Disposition, Stream

from actors.errors import MediaError
from actors.types import Samples
from cluster.media.config import MediaConfig
from cluster.media.container import is_cover, open_media
from cluster.media.decode import decode_excerpt
from cluster.media.joins import joined_packets
from cluster.media.picture import has_picture
from cluster.media.probe import AudioTrack, MediaInfo, probe, tagged_language

LENGTH_TOLERANCE_S = 1.0
TAIL_S = 10.0
EXCERPT_S = 4.0
PROOF_HZ = 8_000
BIN_SAMPLES = PROOF_HZ // 50
MAX_SHIFT_BINS = 5
"""Twentieths of 100 ms: the priming of some codecs, which no header states, moves sound by that much."""
MIN_SIMILARITY = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class PromisedStream:
    """A stream that the finished file must have."""

    kind: str
    language: str | None
    default: bool
    file: Path | None = None
    """The file that its sound or picture comes from; None if it has neither."""
    index: int = 0
    """The stream's index there."""


def promised(stream: Stream, file: Path | None, index: int) -> PromisedStream:
    """The promise for a stream that is about to be written."""
    return PromisedStream(
        kind=stream.type,
        language=tagged_language(stream),
        default=bool(stream.disposition & Disposition.default),
        file=file,
        index=index,
    )


def verify(
    path: Path,
    streams: Sequence[PromisedStream],
    info: MediaInfo,
    num_chapters: int,
    config: MediaConfig,
) -> None:
    """Raise MediaError, naming every difference, if the file at ``path`` is not as promised.

    ``streams`` are those of sound, picture and subtitles, in order; ``info`` describes the source.
    """
    made = probe(path, config)
    with open_media(path, config) as container:
        found = [stream for stream in container.streams if _is_compared(stream)]
        differences = [*_stream_differences(streams, found), *_chapter_differences(num_chapters, container)]
        indices = [stream.index for stream in found]
    if not differences:
        pairs = list(zip(streams, indices, strict=True))
        differences = [
            *_length_differences(pairs, made, info, config),
            *_picture_differences(pairs, made, config),
            *_sound_differences(pairs, made, info, config),
        ]
    if differences:
        raise MediaError(
            f"the finished file must be as planned, found {'; '.join(differences)}; "
            f"{info.path} is not dubbed; convert it to MP4 or MKV first"
        )


def _is_compared(stream: Stream) -> bool:
    return stream.type in ("audio", "video", "subtitle") and not is_cover(stream)


def _stream_differences(streams: Sequence[PromisedStream], found: Sequence[Stream]) -> Iterator[str]:
    kinds, found_kinds = [stream.kind for stream in streams], [stream.type for stream in found]
    if kinds != found_kinds:
        yield f"streams {', '.join(found_kinds) or 'none'} instead of {', '.join(kinds)}"
        return
    for number, (stream, other) in enumerate(zip(streams, found, strict=True)):
        if stream.language != tagged_language(other):
            yield f"{stream.kind} {number} in {tagged_language(other)} instead of {stream.language}"
    is_default = [stream.default for stream in streams if stream.kind == "audio"]
    is_default_there = [bool(stream.disposition & Disposition.default) for stream in found if stream.type == "audio"]
    if is_default != is_default_there and any(is_default):
        yield "another sound track as the default"


def _chapter_differences(num_chapters: int, container: InputContainer) -> Iterator[str]:
    found = len(container.chapters())
    if found != num_chapters:
        yield f"{found} chapters instead of {num_chapters}"


Pairs = Sequence[tuple[PromisedStream, int]]
"""Each promised stream, and its index in the finished file."""


def _length_differences(pairs: Pairs, made: MediaInfo, info: MediaInfo, config: MediaConfig) -> Iterator[str]:
    """Differences between the ends of the pictures; the sound of a dub is as long as the source by its making."""
    if abs(made.duration_s - info.duration_s) > LENGTH_TOLERANCE_S:
        yield f"{made.duration_s:.1f} s instead of {info.duration_s:.1f} s"
    ends_s, source_ends_s = _video_ends_s(made, config), _video_ends_s(info, config)
    for stream, index in pairs:
        wanted_s, found_s = source_ends_s.get(stream.index), ends_s.get(index)
        if stream.kind != "video" or wanted_s is None:
            continue
        if found_s is None or abs(found_s - wanted_s) > LENGTH_TOLERANCE_S:
            yield f"a picture until {'no time' if found_s is None else f'{found_s:.1f} s'} instead of {wanted_s:.1f} s"


def _video_ends_s(info: MediaInfo, config: MediaConfig) -> dict[int, float]:
    """End of each video stream that reaches into the last seconds, on the media timeline."""
    ends_s: dict[int, float] = {}
    with open_media(info.path, config) as container, suppress(av.error.FFmpegError):
        if not info.parts:
            container.seek(int((info.start_s + max(0.0, info.duration_s - TAIL_S)) * av.time_base))
        videos = [stream for stream in container.streams.video if not is_cover(stream)]
        for packet in joined_packets(container, videos, info.parts) if videos else ():
            if packet.pts is None or packet.size == 0:
                continue
            end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base) - info.start_s
            ends_s[packet.stream_index] = max(end_s, ends_s.get(packet.stream_index, 0.0))
    return ends_s


def _picture_differences(pairs: Pairs, made: MediaInfo, config: MediaConfig) -> Iterator[str]:
    for stream, index in pairs:
        if stream.kind != "video" or stream.file is None:
            continue
        if has_picture(stream.file, stream.index, config) and not has_picture(made.path, index, config):
            yield f"no picture that decodes in stream {index}"


def _sound_differences(pairs: Pairs, made: MediaInfo, info: MediaInfo, config: MediaConfig) -> Iterator[str]:
    """Tracks whose sound is not where it is in the file that they come from."""
    tracks = {track.index: track for track in made.audio}
    for stream, index in pairs:
        if stream.kind != "audio" or stream.file is None or index not in tracks:
            continue
        origin = info if stream.file == info.path else probe(stream.file, config)
        track = next((track for track in origin.audio if track.index == stream.index), None)
        if track is None:
            continue
        for start_s in _places_s(origin, info):
            if not _same_sound(
                _excerpt(origin, track, start_s, config), _excerpt(made, tracks[index], start_s, config)
            ):
                yield f"other sound in track {tracks[index].number} at {start_s:.1f} s"
                break


def _places_s(origin: MediaInfo, info: MediaInfo) -> list[float]:
    """Times to listen at. A stranger's file is read from its start only: not every format finds other times."""
    if origin is info:
        return [0.0]
    return sorted({0.0, max(0.0, origin.duration_s / 2 - EXCERPT_S), max(0.0, origin.duration_s - 2 * EXCERPT_S)})


def _excerpt(info: MediaInfo, track: AudioTrack, start_s: float, config: MediaConfig) -> Samples:
    return decode_excerpt(info, track, start_s=start_s, duration_s=EXCERPT_S, hz=PROOF_HZ, config=config)


def _same_sound(wanted: Samples, found: Samples) -> bool:
    """True if loudness rises and falls alike in both, a few hundredths of a second apart at most."""
    wanted_db, found_db = _loudness_db(wanted), _loudness_db(found)
    if np.ptp(wanted_db) < 6.0:  # nothing rises or falls: only the level can be compared
        return abs(float(np.mean(wanted_db) - np.mean(found_db))) < 6.0
    shifts = range(-MAX_SHIFT_BINS, MAX_SHIFT_BINS + 1)
    return max(_similarity(wanted_db, np.roll(found_db, shift)) for shift in shifts) >= MIN_SIMILARITY


def _loudness_db(samples: Samples) -> Samples:
    bins = samples[: len(samples) // BIN_SAMPLES * BIN_SAMPLES].reshape(-1, BIN_SAMPLES)
    level: Samples = 10 * np.log10(np.mean(bins.astype(np.float64) ** 2, axis=1) + 1e-7)
    return level


def _similarity(one: Samples, other: Samples) -> float:
    if np.ptp(other) < 1e-6:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
