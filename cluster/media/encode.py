"""Encodes finished audio, block by block, into a file from which ``mux`` copies packets.

The container decides where sample 0 lands. An encoder delays its input (AAC by 1,024 samples, Opus by
312); MP4 states the delay in an edit list and Matroska in CodecDelay, and FFmpeg copies each only from
its own kind of file. So AAC is kept in MP4 and Opus in Matroska: measured, a click stays within 0.2 ms.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
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
from cluster.media.frames import LAYOUTS, SampleFormat, audio_frame

ENCODE_HZ = 48_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    muxer: str
    encoder: str
    sample_format: SampleFormat
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

    def __init__(self, path: Path, *, num_channels: int = 2, bits_per_s: int = 160_000, fast: bool = False) -> None:
        """``num_channels`` is 1 or 2; ``bits_per_s`` is for all channels together, and nothing to FLAC.

        With ``fast``, AAC takes less time, at slightly worse quality; other codecs stay the same.
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
        if fast and self._form.encoder == "aac":
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
        frame = audio_frame(block, self._form.sample_format, hz=ENCODE_HZ, position=self._position)
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
            raise not_writable(self._path, failure) from failure
        except MediaError:
            self._discard()
            raise

    def _mux(self, frame: AudioFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except av.error.FFmpegError as error:
            raise not_writable(self._path, error) from error

    def _discard(self) -> None:
        # The file is thrown away; why it could not be completed no longer matters.
        with suppress(av.error.FFmpegError):
            self._container.close()
        self._path.unlink(missing_ok=True)


def not_writable(path: Path, error: av.error.FFmpegError | OSError) -> MediaError:
    """The error for a file that could not be written."""
    return MediaError(f"{path} must be writable: {error.strerror or error}; free space, or choose another folder")
