"""One audio track as a contiguous stream of samples on the media timeline.

Sample n lies at n / hz seconds, from t = 0 to the media's end, whatever the file does: late starts,
gaps and lost packets become silence, overlaps are cut, and the rate may change midway. Frames that
follow one another form a run; a run is resampled as one piece and placed by its own timestamp, so
that rounding never adds up to drift.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import av.error
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard

from actors.errors import MediaError
from actors.types import Samples
from cluster.audio.downmix import fold_to_mono, to_channels
from cluster.media.config import MediaConfig
from cluster.media.container import open_media
from cluster.media.joins import joined_packets
from cluster.media.probe import AudioTrack, MediaInfo

log = logging.getLogger(__name__)

BLOCK_S = 1.0

JITTER_S = 0.025
"""Timestamps may be this far off the sample count before the samples are moved: containers round to
milliseconds, and AVI and ASF jitter by up to one codec frame."""

SAMPLE_TYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(kind)
    for name, kind in (("u8", "u1"), ("s16", "i2"), ("s32", "i4"), ("s64", "i8"), ("flt", "f4"), ("dbl", "f8"))
}
"""FFmpeg's sample formats, packed."""

CHUNK_S = 0.25
"""Sound that is resampled at a time: a codec's frame is 5 to 30 ms, and each call costs as much as its samples do."""

DECODED_SLACK_S = 30.0
"""Sound that a file may decode to whatever its duration: codecs have delays, and headers are wrong."""

MAX_FRAME_SAMPLES = 1 << 20
"""Samples one packet may decode to. The largest real frames (WavPack, TAK) hold about 2^18."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Frame:
    start_s: float | None
    """On the media timeline; None without a timestamp."""
    samples: Samples
    """float32 (num_samples, num_channels)"""
    hz: int
    after_loss: bool
    """Packets just before were lost, so even a small jump in time is real."""


@dataclass(slots=True, kw_only=True)
class Damage:
    """Faults that decoding repaired so far."""

    corrupt_packets: int = 0
    silence_s: float = 0.0
    """Silence inserted into gaps of the track; not before its start or after its end."""
    overlap_s: float = 0.0
    """Audio cut off where timestamps went back."""
    cut_short: bool = False
    """True if reading failed before the end of the file."""

    def __bool__(self) -> bool:
        return self != Damage()


def decode_audio(
    info: MediaInfo,
    track: AudioTrack,
    *,
    hz: int,
    channels: int | Literal["mono"],
    config: MediaConfig | None = None,
    damage: Damage | None = None,
) -> Iterator[Samples]:
    """Decode the whole track in blocks of one second, the last one shorter: ``duration_s * hz`` samples in all.

    ``"mono"`` gives float32 (num_samples,) by ``fold_to_mono``; a number gives float32
    (num_samples, channels): unchanged, repeated from mono, or the ITU downmix to stereo. Corrupt
    packets are replaced by silence, and a truncated file is continued with silence to its end: that is
    logged once, and noted in ``damage``. Memory: about two blocks. Raises MediaError for a track over the
    limits of ``config``, or if the file vanished.
    """
    damage = Damage() if damage is None else damage
    yield from _decode(info, track, 0.0, info.duration_s, hz, channels, config or MediaConfig(), damage)
    if damage:
        log.warning("repaired audio path=%s track=%d %s", info.path, track.number, damage)


def decode_excerpt(
    info: MediaInfo, track: AudioTrack, *, start_s: float, duration_s: float, hz: int, config: MediaConfig | None = None
) -> Samples:
    """Decode a part of the track, found by seeking: float32 (num_samples,), mono.

    Raises MediaError as ``decode_audio``.
    """
    blocks = _decode(info, track, start_s, duration_s, hz, "mono", config or MediaConfig(), Damage())
    return np.concatenate(list(blocks))


def _decode(
    info: MediaInfo,
    track: AudioTrack,
    from_s: float,
    duration_s: float,
    hz: int,
    channels: int | Literal["mono"],
    config: MediaConfig,
    damage: Damage,
) -> Iterator[Samples]:
    _check_limits(info, track, config)
    num_channels = track.channels if channels == "mono" else channels
    num_samples = round(duration_s * hz)
    with open_media(info.path, config) as container:
        if from_s > 0 and not info.parts:
            container.seek(int((info.start_s + from_s) * av.time_base))
        frames = _frames(container, track, info, info.start_s + from_s, num_channels, damage)
        frames = _not_endless(frames, info, config)
        pieces = _on_timeline(frames, hz, num_channels, num_samples, damage)
        blocks = _blocks(pieces, round(BLOCK_S * hz), num_samples, num_channels)
        yield from fold_to_mono(blocks, track.channel_names) if channels == "mono" else blocks


def _check_limits(info: MediaInfo, track: AudioTrack, config: MediaConfig) -> None:
    if track.channels > config.max_channels:
        raise MediaError(
            f"audio must have at most {config.max_channels} channels, track {track.number} of {info.path} has "
            f"{track.channels}; choose another track, or raise media.max_channels"
        )
    if not 0 < track.sample_hz <= config.max_sample_hz:
        raise MediaError(
            f"audio must be sampled at 1 to {config.max_sample_hz} Hz, track {track.number} of {info.path} says "
            f"{track.sample_hz}; choose another track, or raise media.max_sample_hz"
        )


def _frames(
    container: InputContainer,
    track: AudioTrack,
    info: MediaInfo,
    origin_s: float,
    num_channels: int,
    damage: Damage,
) -> Iterator[_Frame]:
    """Decoded frames with the wanted channels; packets that do not decode are counted and skipped."""
    stream = container.streams[track.index]
    if not isinstance(stream, AudioStream):
        raise MediaError(f"stream {track.index} must be audio, found {stream.type}; the file changed, probe again")
    for other in container.streams:  # most of a film's bytes are its picture, which is not even read
        other.discard = Discard.default if other.index == stream.index else Discard.all
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {**stream.codec_context.options, "max_samples": str(MAX_FRAME_SAMPLES)}
    lost = False
    packets = cast("Iterator[Packet[AudioStream]]", joined_packets(container, [stream], info.parts))
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            damage.cut_short = True
            return
        if packet is None:
            return
        if packet.size == 0 and packet.dts is not None:
            continue  # PyAV takes an empty packet for the end, and the decoder would hear no more
        try:
            decoded = packet.decode()
        except av.error.FFmpegError:
            damage.corrupt_packets += 1
            lost = True
            continue
        for frame in decoded:
            start_s = frame.time - origin_s if frame.pts is not None and frame.time is not None else None
            samples = _samples_of(frame, num_channels)
            yield _Frame(start_s=start_s, samples=samples, hz=frame.sample_rate, after_loss=lost)
            lost = False


def _not_endless(frames: Iterator[_Frame], info: MediaInfo, config: MediaConfig) -> Iterator[_Frame]:
    """The frames; raises MediaError once there are far more than fit into the file's duration."""
    limit_s = info.duration_s * config.max_decoded_ratio + DECODED_SLACK_S
    decoded_s = 0.0
    for frame in frames:
        decoded_s += len(frame.samples) / frame.hz
        if decoded_s > limit_s:
            raise MediaError(
                f"sound must fit into its file's {info.duration_s:.1f} s, {info.path} has {decoded_s:.0f} s of it, and "
                "its times repeat; convert it, or raise media.max_decoded_ratio"
            )
        yield frame


def _samples_of(frame: AudioFrame, num_channels: int) -> Samples:
    """float32 (num_samples, num_channels)"""
    samples = _as_float(frame)
    if samples.shape[1] == num_channels:
        return samples
    return to_channels(samples, tuple(channel.name for channel in frame.layout.channels), num_channels)


def _as_float(frame: AudioFrame) -> Samples:
    """float32 (num_samples, num_channels), full scale at 1, whatever the decoder's format; NaN is silence."""
    num_channels = len(frame.layout.channels)
    dtype = SAMPLE_TYPES.get(frame.format.packed.name)
    if dtype is None:
        raise MediaError(f"audio samples must be of 8 to 64 bits, found {frame.format.name}; convert it")
    samples = np.empty((frame.samples, num_channels), np.float32)
    if frame.format.is_planar:
        # Of eight channels, frame.planes has nine entries, and the ninth points nowhere.
        for n in range(num_channels):
            samples[:, n] = np.frombuffer(memoryview(frame.planes[n]), dtype, frame.samples)
    else:
        packed = np.frombuffer(memoryview(frame.planes[0]), dtype, frame.samples * num_channels)
        samples[:] = packed.reshape(-1, num_channels)
    if dtype.kind == "u":
        samples -= 128.0
        samples /= 128.0
    elif dtype.kind == "i":
        samples *= 1.0 / 2 ** (8 * dtype.itemsize - 1)
    elif not np.isfinite(samples).all():
        np.nan_to_num(samples, copy=False, nan=0.0, posinf=1.0, neginf=-1.0)
    return samples


class _Run:
    """Consecutive frames of one rate, resampled as one piece, a chunk at a time."""

    def __init__(self, start_s: float, in_hz: int, out_hz: int, num_channels: int) -> None:
        self._start_s = start_s
        self._hz = in_hz
        self._num_in = 0
        self._chunk: list[Samples] = []
        self._chunk_s = 0.0
        self._empty = np.zeros((0, num_channels), np.float32)
        self._resampler = soxr.ResampleStream(in_hz, out_hz, num_channels, np.float32) if in_hz != out_hz else None

    @property
    def end_s(self) -> float:
        return self._start_s + self._num_in / self._hz

    def continues(self, frame: _Frame) -> bool:
        if frame.hz != self._hz:
            return False
        tolerance_s = 1.0 / self._hz if frame.after_loss else JITTER_S
        return frame.start_s is None or abs(frame.start_s - self.end_s) <= tolerance_s

    def add(self, samples: Samples, wanted_s: float) -> Samples:
        """The resampled chunk that these samples complete; none if they do not. It is shorter if less is wanted."""
        self._num_in += len(samples)
        if len(samples):
            self._chunk.append(samples)
            self._chunk_s += len(samples) / self._hz
        return self._empty if self._chunk_s < min(CHUNK_S, wanted_s) else self._resampled(last=False)

    def flush(self) -> Samples:
        return self._resampled(last=True)

    def _resampled(self, *, last: bool) -> Samples:
        samples = np.concatenate([self._empty, *self._chunk])
        self._chunk.clear()
        self._chunk_s = 0.0
        if self._resampler is None:
            return samples
        resampled: Samples = self._resampler.resample_chunk(samples, last=last)
        return resampled.reshape(-1, samples.shape[1])


def _on_timeline(
    frames: Iterable[_Frame], hz: int, num_channels: int, num_samples: int, damage: Damage
) -> Iterator[Samples]:
    """Contiguous pieces of audio from t = 0 on; stops once there are ``num_samples``."""
    run: _Run | None = None
    position = 0
    for frame in frames:
        samples = frame.samples
        if run is None or not run.continues(frame):
            if run is not None:
                tail = run.flush()
                position += len(tail)
                yield tail
            now_s = position / hz
            start_s = now_s if frame.start_s is None else frame.start_s
            num_late = round((now_s - start_s) * frame.hz)
            if num_late > 0:
                damage.overlap_s += min(num_late, len(samples)) / frame.hz if position else 0.0
                samples, start_s = samples[num_late:], now_s
            if len(samples) == 0:
                # Wholly in the past; the next frame decides where the next run starts.
                run = None
                continue
            gap = min(round(start_s * hz), num_samples) - position
            damage.silence_s += max(0, gap) / hz if position else 0.0
            for piece in _silence(gap, hz, num_channels):
                position += len(piece)
                yield piece
            run = _Run(start_s, frame.hz, hz, num_channels)
        piece = run.add(samples, (num_samples - position) / hz)
        position += len(piece)
        yield piece
        if position >= num_samples:
            return
    if run is not None:
        yield run.flush()


def _silence(num_samples: int, piece_samples: int, num_channels: int) -> Iterator[Samples]:
    for start in range(0, num_samples, piece_samples):
        yield np.zeros((min(piece_samples, num_samples - start), num_channels), np.float32)


def _blocks(pieces: Iterable[Samples], block_samples: int, num_samples: int, num_channels: int) -> Iterator[Samples]:
    """``num_samples`` in blocks of ``block_samples``: cut at the end, or padded with silence."""
    block = np.zeros((min(block_samples, num_samples), num_channels), np.float32)
    filled = done = 0
    for piece in pieces:
        while len(piece) and done + filled < num_samples:
            taken = min(len(piece), len(block) - filled)
            # Codecs and resamplers overshoot full scale; every consumer is promised [-1, 1].
            np.clip(piece[:taken], -1.0, 1.0, out=block[filled : filled + taken])
            filled += taken
            piece = piece[taken:]
            if filled == len(block):
                yield block
                done += filled
                filled = 0
                block = np.zeros((min(block_samples, num_samples - done), num_channels), np.float32)
    while done < num_samples:
        yield block
        done += len(block)
        block = np.zeros((min(block_samples, num_samples - done), num_channels), np.float32)
