"""Finished audio, encoded as it comes, into a file that ``mux`` copies packets from.

Which file matters for where sample 0 lands. An encoder delays its input (AAC by 1,024 samples, Opus
by 312); MP4 says so in an edit list and Matroska in CodecDelay, and FFmpeg carries each only from
its own kind of file. So AAC waits in MP4 and Opus in Matroska: measured, a click stays within 0.2 ms.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from actors.errors import ConfigError, MediaError
from actors.types import Samples

ENCODE_HZ = 48_000
LAYOUTS = {1: "mono", 2: "stereo"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    muxer: str
    encoder: str
    sample_format: str
    lossy: bool


FORMS: dict[str, _Form] = {
    ".m4a": _Form(muxer="mp4", encoder="aac", sample_format="fltp", lossy=True),
    ".mka": _Form(muxer="matroska", encoder="libopus", sample_format="flt", lossy=True),
    ".flac": _Form(muxer="flac", encoder="flac", sample_format="s16", lossy=False),
}


class AudioEncoder:
    """Writes blocks of audio to ``path``, coded as its suffix says; use as a context manager.

    Leaving the block completes the file; leaving it by an exception removes it. Raises ConfigError for
    a suffix other than .m4a (AAC), .mka (Opus) and .flac, MediaError if the file cannot be written.
    """

    def __init__(
        self, path: Path, *, num_channels: int = 2, bits_per_s: int = 160_000, in_a_hurry: bool = False
    ) -> None:
        """``num_channels`` is 1 or 2; ``bits_per_s`` is for all channels together, and nothing to FLAC.

        AAC ``in_a_hurry`` takes less time, and sounds a little worse.
        """
        if path.suffix not in FORMS or num_channels not in LAYOUTS:
            raise ConfigError(
                f"encoded audio must be {', '.join(FORMS)} of 1 or 2 channels, found {path.name} of {num_channels}"
            )
        self._path = path
        self._form = FORMS[path.suffix]
        self._num_channels = num_channels
        self._position = 0
        # Edit lists count in movie_timescale: at FFmpeg's 1/1000 the length is rounded to a millisecond.
        options = {"movie_timescale": str(ENCODE_HZ)} if self._form.muxer == "mp4" else {}
        self._container = av.open(str(path.absolute()), "w", format=self._form.muxer, container_options=options)
        self._stream = cast(AudioStream, self._container.add_stream(self._form.encoder, rate=ENCODE_HZ))
        self._stream.layout = LAYOUTS[num_channels]
        self._stream.format = self._form.sample_format
        self._stream.codec_context.thread_count = 1
        if self._form.lossy:
            self._stream.bit_rate = bits_per_s
        if in_a_hurry and self._form.encoder == "aac":
            self._stream.codec_context.options = {"aac_coder": "fast"}

    @property
    def duration_s(self) -> float:
        """Seconds written so far."""
        return self._position / ENCODE_HZ

    def write(self, block: Samples) -> None:
        """Append float32 (num_samples, num_channels) at ``ENCODE_HZ``, [-1, 1]."""
        if block.ndim != 2 or block.shape[1] != self._num_channels:
            raise ValueError(f"a block must be (num_samples, {self._num_channels}), found {block.shape}")
        if len(block) == 0:
            return
        frame = AudioFrame.from_ndarray(self._arranged(block), self._form.sample_format, LAYOUTS[self._num_channels])
        frame.sample_rate = ENCODE_HZ
        frame.time_base = Fraction(1, ENCODE_HZ)
        frame.pts = self._position
        self._position += len(block)
        self._mux(frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            if self._position == 0:
                # Without a packet there would be no header, and mux could not open the file.
                self.write(np.zeros((1, self._num_channels), np.float32))
            self._mux(None)
            self._container.close()
        except av.error.FFmpegError as failure:
            self._discard()
            raise self._failed(failure) from failure
        except MediaError:
            self._discard()
            raise

    def _arranged(self, block: Samples) -> Samples:
        """The block as FFmpeg wants it: channel after channel, or samples interleaved in one row."""
        clipped = np.clip(block, -1.0, 1.0)
        if self._form.sample_format == "fltp":
            return np.ascontiguousarray(clipped.T, np.float32)
        if self._form.sample_format == "flt":
            return np.ascontiguousarray(clipped, np.float32).reshape(1, -1)
        return cast(Samples, np.round(clipped * 32767).astype(np.int16).reshape(1, -1))

    def _mux(self, frame: AudioFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except av.error.FFmpegError as error:
            raise self._failed(error) from error

    def _discard(self) -> None:
        # The file is thrown away; why it could not be completed no longer matters.
        with suppress(av.error.FFmpegError):
            self._container.close()
        self._path.unlink(missing_ok=True)

    def _failed(self, error: Exception) -> MediaError:
        return MediaError(f"{self._path} must be writable, {error}; free space, or choose another folder")
