"""Writes media of every kind from a few seconds of the demo's talk, by PyAV or by the ffmpeg command."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.stream import Disposition

from cluster.demo.talk import make_talk
from tests.media import SubtitleSpec, _chapter, _cover_stream, _cue_packet, _subtitle_stream, png

TALK_HZ = 48_000
SLICE_S = 4.0
PICTURES_PER_S = 25
SIZE = (160, 96)
AVERAGE_FRAME_SAMPLES = 1024


class UnmakeableError(Exception):
    """The input cannot be made here; its text says what is missing."""


@dataclass(frozen=True)
class Talk:
    """The first seconds of the demo's talk, decoded."""

    samples: npt.NDArray[np.float32]
    """(num_samples, 2) at ``TALK_HZ``."""
    pictures: list[npt.NDArray[np.uint8]]
    """RGB, ``SIZE``, ``PICTURES_PER_S``."""

    @classmethod
    def made_in(cls, folder: Path, duration_s: float = SLICE_S) -> Talk:
        path = folder / "talk.mp4"
        make_talk(path, 10.0)
        with av.open(str(path)) as container:
            resampler = av.AudioResampler("fltp", "stereo", TALK_HZ)
            sounds = [part.to_ndarray().T for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        with av.open(str(path)) as container:
            shapes = [
                frame.to_ndarray(width=SIZE[0], height=SIZE[1], format="rgb24")
                for frame in container.decode(video=0)
                if frame.time < duration_s
            ]
        return cls(samples=np.concatenate(sounds)[: round(duration_s * TALK_HZ)], pictures=shapes)

    @cached_property
    def duration_s(self) -> float:
        return len(self.samples) / TALK_HZ


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A track with the talk's sound, in every channel."""

    codec: str = "aac"
    hz: int = 48_000
    layout: str = "stereo"
    sample_format: str | None = None
    """None for the encoder's own."""
    start_s: float = 0.0
    language: str | None = None
    title: str | None = None
    default: bool = False
    bits_per_s: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    speed: float = 1.0
    """Above 1, the talk is cut short by as much."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A track with the talk's pictures."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = SIZE
    start_s: float = 0.0
    rotation: float | None = None
    colour: tuple[int, int, int, int] | None = None
    """Primaries, transfer, matrix, range, by their numbers in H.273; the range by FFmpeg's."""
    aspect: Fraction | None = None
    times_s: Callable[[int], float] = lambda number: number / PICTURES_PER_S
    base: Fraction = Fraction(1, PICTURES_PER_S)
    num_pictures: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    language: str | None = None
    default: bool = False


@dataclass(frozen=True, kw_only=True)
class File:
    """Everything that a file of the corpus holds."""

    sounds: Sequence[Sound] = (Sound(),)
    pictures: Sequence[Picture] = ()
    subtitles: Sequence[SubtitleSpec] = ()
    chapters: Sequence[tuple[float, float, str]] = ()
    attachments: Sequence[tuple[str, str, bytes]] = ()
    has_cover: bool = False
    data_codec: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    form: str | None = None
    """The muxer; None for that of the suffix."""
    options: dict[str, str] = field(default_factory=dict)
    """The muxer's."""


def write(path: Path, talk: Talk, file: File) -> Path:
    """Write the file, its packets in the order of their times. Raises UnmakeableError without an encoder or muxer."""
    try:
        with av.open(str(path), "w", format=file.form, options=dict(file.options)) as target:
            _write(target, talk, file)
    except (av.error.EncoderNotFoundError, av.codec.codec.UnknownCodecError) as error:
        raise UnmakeableError(f"PyAV has no such encoder: {error}") from error
    return path


def _write(target: Any, talk: Talk, file: File) -> None:
    encoders: list[tuple[Any, Callable[[], list[Any]]]] = []
    for picture in file.pictures:
        stream = _picture_stream(target, picture)
        encoders.append((stream, lambda stream=stream, spec=picture: _picture_packets(stream, talk, spec)))
    for sound in file.sounds:
        stream = _sound_stream(target, sound)
        encoders.append((stream, lambda stream=stream, spec=sound: _sound_packets(stream, talk, spec)))
    texts = [(_subtitle_stream(target, spec), spec) for spec in file.subtitles]
    for attachment in file.attachments:
        target.add_attachment(*attachment)
    cover = _cover_stream(target) if file.has_cover else None
    data = target.add_data_stream(file.data_codec) if file.data_codec else None
    if file.chapters:
        target.set_chapters([_chapter(number, *chapter) for number, chapter in enumerate(file.chapters)])
    target.metadata.update(file.tags)
    target.start_encoding()
    packets = [packet for _, encode in encoders for packet in encode() if _is_written(packet, target)]
    for stream, text in texts:
        packets += [_cue_packet(stream, target.format.name, 0.0, *cue) for cue in text.cues]
    if data is not None:
        packets += [_data_packet(data, number) for number in range(int(talk.duration_s))]
    if cover is not None:
        picture = av.Packet(png())
        picture.stream, picture.time_base, picture.pts, picture.dts = cover, Fraction(1, 25), 0, 0
        target.mux(picture)
    for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
        target.mux(packet)


def _is_written(packet: Any, target: Any) -> bool:
    """FLAC's last packet holds no sound, but the length for the header of a FLAC file; elsewhere it is in the way."""
    return packet.dts is not None and (packet.size > 0 or target.format.name == "flac")


def _data_packet(stream: Any, number: int) -> Any:
    packet = av.Packet(f"measure {number}".encode())
    packet.stream, packet.time_base = stream, Fraction(1, 1000)
    packet.pts = packet.dts = number * 1000
    packet.duration = 1000
    return packet


def _picture_stream(target: Any, spec: Picture) -> Any:
    stream = target.add_stream(spec.codec, rate=PICTURES_PER_S, options=dict(spec.options))
    stream.width, stream.height = spec.size
    stream.pix_fmt = spec.pix_fmt
    context = stream.codec_context
    context.thread_count = 1
    context.time_base = spec.base
    if spec.colour is not None:
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = spec.colour
    if spec.aspect is not None:
        context.sample_aspect_ratio = spec.aspect
    if spec.rotation is not None:
        stream.set_display_rotation(spec.rotation)
    if spec.language:
        stream.metadata["language"] = spec.language
    stream.disposition = Disposition.default if spec.default else Disposition(0)
    return stream


def _picture_packets(stream: Any, talk: Talk, spec: Picture) -> list[Any]:
    packets = []
    num_pictures = len(talk.pictures) if spec.num_pictures is None else spec.num_pictures
    for number in range(num_pictures):
        frame = av.VideoFrame.from_ndarray(talk.pictures[number % len(talk.pictures)], format="rgb24")
        frame = frame.reformat(width=spec.size[0], height=spec.size[1], format=spec.pix_fmt)
        if spec.colour is not None:
            frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = spec.colour
        frame.pts, frame.time_base = round((spec.start_s + spec.times_s(number)) / spec.base), spec.base
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


def _sound_stream(target: Any, spec: Sound) -> Any:
    stream = target.add_stream(spec.codec, rate=spec.hz, options=dict(spec.options))
    stream.layout = spec.layout
    if spec.sample_format is not None:
        stream.format = spec.sample_format
    if spec.bits_per_s is not None or spec.codec.startswith("wma"):
        stream.bit_rate = spec.bits_per_s or 128_000
    stream.codec_context.thread_count = 1
    stream.disposition = Disposition.default if spec.default else Disposition(0)
    for key, text in (("language", spec.language), ("title", spec.title)):
        if text:
            stream.metadata[key] = text
    return stream


def _sound_packets(stream: Any, talk: Talk, spec: Sound) -> list[Any]:
    stream.codec_context.open(strict=False)
    resampler = av.AudioResampler(
        format=stream.format.name,
        layout=spec.layout,
        rate=spec.hz,
        frame_size=stream.codec_context.frame_size or AVERAGE_FRAME_SAMPLES,
    )
    num_channels = av.AudioLayout(spec.layout).nb_channels
    kept = talk.samples[: round(len(talk.samples) / spec.speed)]
    spread = np.ascontiguousarray(kept[:, np.arange(num_channels) % 2]).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(spread, "flt", spec.layout)
    frame.sample_rate, frame.time_base, frame.pts = TALK_HZ, Fraction(1, TALK_HZ), 0
    packets = []
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        part.pts = part.pts + round(spec.start_s / part.time_base)
        packets += stream.encode(part)
    return [*packets, *stream.encode(None)]


def by_ffmpeg(path: Path, talk: Talk, arguments: Sequence[str], base: File | None = None) -> Path:
    """Write the file with Debian's ffmpeg from a lossless copy of the talk. Raises UnmakeableError without it."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise UnmakeableError("no ffmpeg command, and PyAV cannot write it")
    lossless = write(
        path.with_name("base.mkv"),
        talk,
        base or File(pictures=[Picture(options={"crf": "20"})], sounds=[Sound(codec="flac")]),
    )
    command = [program, "-nostdin", "-v", "error", "-y", "-i", str(lossless), *arguments, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lossless.unlink()
    if done.returncode != 0:
        raise UnmakeableError(
            f"ffmpeg says: {done.stderr.strip().splitlines()[-1] if done.stderr else done.returncode}"
        )
    return path
