"""Makes the media that tests read: small, exact, and by PyAV, so that no test needs a file from outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.stream import Disposition

Audio = npt.NDArray[np.float32]
"""float32 (num_samples, num_channels)"""

FORMATS = {
    ".mp4": "mp4",
    ".mov": "mov",
    ".m4a": "mp4",
    ".mkv": "matroska",
    ".mka": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
}
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
CLICK_SAMPLES = 24


@dataclass(frozen=True, kw_only=True)
class AudioSpec:
    samples: Audio
    hz: int = 48_000
    codec: str = "aac"
    start_s: float = 0.0
    gaps: Sequence[tuple[float, float]] = ()
    """Parts of the samples' time that are left out of the file."""
    language: str | None = None
    title: str | None = None
    default: bool = False


@dataclass(frozen=True, kw_only=True)
class VideoSpec:
    duration_s: float
    codec: str = "libx264"
    rate: int = 25
    start_s: float = 0.0
    times_s: Sequence[float] | None = None
    """Presentation times for variable frame rate; else every 1 / rate."""
    pix_fmt: str = "yuv420p"
    rotation: float | None = None
    options: dict[str, str] = field(default_factory=dict)
    language: str | None = None


@dataclass(frozen=True, kw_only=True)
class SubtitleSpec:
    cues: Sequence[tuple[float, float, str]]
    language: str | None = None


def silence(duration_s: float, hz: int = 48_000, channels: int = 2) -> Audio:
    return np.zeros((round(duration_s * hz), channels), np.float32)


def tone(duration_s: float, hz: int = 48_000, channels: int = 2, tone_hz: float = 440.0, gain: float = 0.3) -> Audio:
    wave = gain * np.sin(2 * np.pi * tone_hz * np.arange(round(duration_s * hz)) / hz)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def clicks(duration_s: float, at_s: Iterable[float], hz: int = 48_000, channels: int = 2) -> Audio:
    samples = silence(duration_s, hz, channels)
    for time_s in at_s:
        samples[round(time_s * hz) :][:CLICK_SAMPLES] = 0.8
    return samples


def click_error_s(mono: npt.NDArray[np.float32], at_s: float, hz: int = 48_000, around_s: float = 0.1) -> float:
    """How far the energy around ``at_s`` lies from where ``clicks`` put it."""
    first = max(0, round((at_s - around_s) * hz))
    power = mono[first : round((at_s + around_s) * hz)].astype(np.float64) ** 2
    centre = float(power @ np.arange(len(power)) / power.sum()) + first
    return (centre - (CLICK_SAMPLES - 1) / 2) / hz - at_s


def music(duration_s: float, hz: int = 48_000, channels: int = 2) -> Audio:
    """A chord with a beat: nothing a voice detector should take for speech."""
    times = np.arange(round(duration_s * hz)) / hz
    chord = sum(np.sin(2 * np.pi * tone_hz * times) for tone_hz in (110.0, 138.6, 164.8, 220.0)) / 12
    beat = 0.5 + 0.5 * np.exp(-8 * (times % 0.5))
    return np.repeat((chord * beat)[:, None], channels, axis=1).astype(np.float32)


def make_media(
    path: Path,
    *,
    audio: Sequence[AudioSpec] = (),
    video: Sequence[VideoSpec] = (),
    subtitles: Sequence[SubtitleSpec] = (),
    chapters: Sequence[tuple[float, float, str]] = (),
    attachments: Sequence[tuple[str, str, bytes]] = (),
    cover_png: bytes | None = None,
    metadata: dict[str, str] | None = None,
    start_s: float = 0.0,
) -> Path:
    """Write a file; ``start_s`` moves every stream. The suffix names the container."""
    container = av.open(str(path), "w", format=FORMATS.get(path.suffix))
    packets: list[Any] = []
    encoders: list[Any] = []
    for spec in video:
        encoders.append((_video_stream(container, spec), spec))
    for sound in audio:
        encoders.append((_audio_stream(container, sound), sound))
    texts = [(_subtitle_stream(container, spec), spec) for spec in subtitles]
    for name, mimetype, data in attachments:
        container.add_attachment(name, mimetype, data)
    cover = _cover_stream(container) if cover_png is not None else None
    if chapters:
        container.set_chapters([_chapter(number, *chapter) for number, chapter in enumerate(chapters)])
    container.metadata.update(metadata or {})
    container.start_encoding()
    for stream, spec in encoders:
        encode = _encode_video if isinstance(spec, VideoSpec) else _encode_audio
        packets += encode(stream, spec, start_s + spec.start_s)
    for stream, text in texts:
        packets += [_cue_packet(stream, container.format.name, start_s, *cue) for cue in text.cues]
    if cover is not None:
        picture = av.Packet(cover_png)
        picture.stream, picture.time_base, picture.pts, picture.dts = cover, Fraction(1, 25), 0, 0
        container.mux(picture)
    for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
        container.mux(packet)
    container.close()
    return path


def png(size: int = 16) -> bytes:
    context = av.CodecContext.create("png", "w")
    context.width = context.height = size
    context.pix_fmt, context.time_base = "rgb24", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.full((size, size, 3), 128, np.uint8), format="rgb24")
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def truncate(path: Path, share: float) -> Path:
    """Cut the file to the first ``share`` of its bytes."""
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))
    return path


def damage(path: Path, first_share: float, last_share: float) -> Path:
    """Overwrite part of the file with noise."""
    data = bytearray(path.read_bytes())
    first, last = int(len(data) * first_share), int(len(data) * last_share)
    data[first:last] = np.random.default_rng(0).integers(0, 256, last - first, np.uint8).tobytes()
    path.write_bytes(data)
    return path


def packets_of(path: Path, index: int) -> list[tuple[Fraction | None, Fraction | None, bytes]]:
    """(pts, dts, payload) of each packet of one stream, times in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams[index]
        return [
            (
                None if packet.pts is None else packet.pts * packet.time_base,
                None if packet.dts is None else packet.dts * packet.time_base,
                bytes(packet),
            )
            for packet in container.demux(stream)
            if packet.size
        ]


def _video_stream(container: Any, spec: VideoSpec) -> Any:
    stream = container.add_stream(spec.codec, rate=spec.rate, width=64, height=48, options=dict(spec.options))
    stream.pix_fmt = spec.pix_fmt
    stream.codec_context.thread_count = 1
    stream.codec_context.time_base = Fraction(1, 1000) if spec.times_s is not None else Fraction(1, spec.rate)
    if spec.rotation is not None:
        stream.set_display_rotation(spec.rotation)
    if spec.language:
        stream.metadata["language"] = spec.language
    return stream


def _audio_stream(container: Any, spec: AudioSpec) -> Any:
    stream = container.add_stream(spec.codec, rate=spec.hz)
    stream.layout = LAYOUTS[spec.samples.shape[1]]
    stream.disposition = Disposition.default if spec.default else Disposition(0)
    if spec.codec not in ("flac", "pcm_s16le"):
        stream.bit_rate = 64_000 * spec.samples.shape[1]
    if spec.language:
        stream.metadata["language"] = spec.language
    if spec.title:
        stream.metadata["title"] = spec.title
    return stream


def _subtitle_stream(container: Any, spec: SubtitleSpec) -> Any:
    if container.format.name in ("mp4", "mov"):
        stream = container.add_stream("mov_text")
        stream.codec_context.subtitle_header = (
            b"[V4+ Styles]\nFormat: Name, Fontname, Fontsize\nStyle: Default,Arial,16\n"
        )
    else:
        stream = container.add_mux_stream("subrip")
    stream.time_base = Fraction(1, 1000)
    if spec.language:
        stream.metadata["language"] = spec.language
    return stream


def _cover_stream(container: Any) -> Any:
    stream = container.add_stream("png")
    stream.width = stream.height = 16
    stream.pix_fmt = "rgb24"
    stream.disposition = Disposition.attached_pic
    return stream


def _chapter(number: int, start_s: float, end_s: float, title: str) -> Any:
    base = Fraction(1, 1000)
    return {
        "id": number,
        "start": round(start_s * 1000),
        "end": round(end_s * 1000),
        "time_base": base,
        "metadata": {"title": title},
    }


def _encode_video(stream: Any, spec: VideoSpec, start_s: float) -> list[Any]:
    times_s = spec.times_s
    base = Fraction(1, 1000) if times_s is not None else Fraction(1, spec.rate)
    times_s = times_s if times_s is not None else [n / spec.rate for n in range(round(spec.duration_s * spec.rate))]
    packets = []
    for number, time_s in enumerate(times_s):
        picture = np.full((48, 64, 3), (number * 7) % 256, np.uint8)
        picture[(number * 3) % 40 :][:8] = 255 - (number * 11) % 256
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = round((start_s + time_s) / base), base
        packets += stream.encode(frame)
    packets += stream.encode(None)
    return packets


def _encode_audio(stream: Any, spec: AudioSpec, start_s: float) -> list[Any]:
    name = stream.format.name
    packets = []
    size = 1024
    for first in range(0, len(spec.samples), size):
        block = spec.samples[first : first + size]
        frame = _audio_frame(block, name)
        frame.sample_rate, frame.time_base = spec.hz, Fraction(1, spec.hz)
        frame.pts = round(start_s * spec.hz) + first
        packets += stream.encode(frame)
    packets += stream.encode(None)

    def in_gap(packet: Any) -> bool:
        time_s = float(packet.pts * packet.time_base) - start_s
        return any(begin_s <= time_s < end_s for begin_s, end_s in spec.gaps)

    return [packet for packet in packets if not in_gap(packet)]


def _audio_frame(block: Audio, name: str) -> Any:
    layout = LAYOUTS[block.shape[1]]
    values: Any = block if name.startswith("flt") else np.round(block * 32767).astype(np.int16)
    if name.startswith("s32"):
        values = np.round(block.astype(np.float64) * (2**31 - 1)).astype(np.int32)
    arranged = values.T if name.endswith("p") else values.reshape(1, -1)
    return av.AudioFrame.from_ndarray(np.ascontiguousarray(arranged), name, layout)


def _cue_packet(stream: Any, format_name: str, offset_s: float, start_s: float, end_s: float, text: str) -> Any:
    data = text.encode()
    packet = av.Packet(len(data).to_bytes(2, "big") + data if format_name in ("mp4", "mov") else data)
    packet.stream, packet.time_base = stream, Fraction(1, 1000)
    packet.pts = packet.dts = round((offset_s + start_s) * 1000)
    packet.duration = round((end_s - start_s) * 1000)
    return packet


def speech(text: str, hz: int = 48_000, channels: int = 2) -> Audio:
    """English speech by a small offline model."""
    import hibari
    import soxr

    mono = soxr.resample(hibari.Hibari()(text, seed=0), hibari.SAMPLE_RATE, hz).astype(np.float32)
    return np.repeat(mono[:, None], channels, axis=1)


def make_short_talk(path: Path, duration_s: float = 12.0) -> Path:
    """Two English sentences, at 0.5 and 5 s, and a picture that can be cut every 2 s."""
    samples = silence(duration_s)
    for start_s, sentence in ((0.5, "Good morning, everyone, and welcome."), (5.0, "Today we talk about the sea.")):
        said = speech(sentence)
        samples[round(start_s * 48_000) :][: len(said)] = said
    picture = VideoSpec(duration_s=duration_s, options={"g": "50"})
    return make_media(path, audio=[AudioSpec(samples=samples)], video=[picture])
