"""Speech as bytes to send, in the formats that OpenAI's clients ask for, encoded as it comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from actors.types import Samples

AudioFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
STREAM_HZ = 24_000
"""What OpenAI's ``pcm`` has, and what the voices here speak at or near."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    mime: str
    muxer: str
    codec: str
    sample_format: Literal["s16", "s16p", "fltp"]


LAYOUTS = {1: "mono", 2: "stereo"}

FORMS: dict[AudioFormat, _Form] = {
    "mp3": _Form(mime="audio/mpeg", muxer="mp3", codec="libmp3lame", sample_format="s16p"),
    "opus": _Form(mime="audio/ogg", muxer="ogg", codec="libopus", sample_format="s16"),
    "aac": _Form(mime="audio/aac", muxer="adts", codec="aac", sample_format="fltp"),
    "flac": _Form(mime="audio/flac", muxer="flac", codec="flac", sample_format="s16"),
    "wav": _Form(mime="audio/wav", muxer="wav", codec="pcm_s16le", sample_format="s16"),
    # No container: s16le muxes the samples alone.
    "pcm": _Form(mime=f"audio/pcm;rate={STREAM_HZ}", muxer="s16le", codec="pcm_s16le", sample_format="s16"),
}


class _Sink:
    """What the muxer writes to; it cannot seek, as a response cannot."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        data = bytes(self._written)
        self._written.clear()
        return data


class StreamEncoder:
    """``encode`` blocks as they come, then ``finish``; each gives the bytes that are ready."""

    def __init__(self, form: AudioFormat, *, hz: int = STREAM_HZ, num_channels: int = 1) -> None:
        self._form = FORMS[form]
        self._hz = hz
        self._layout = LAYOUTS[num_channels]
        self._sink = _Sink()
        # Encoders that are not told to be exact write their version into the file: the same speech, other bytes.
        self._container = av.open(self._sink, "w", format=self._form.muxer, options={"fflags": "+bitexact"})
        self._stream = cast(AudioStream, self._container.add_stream(self._form.codec, rate=hz))
        self._stream.layout = self._layout
        self._stream.format = self._form.sample_format
        self._stream.codec_context.thread_count = 1
        self._position = 0

    def encode(self, samples: Samples) -> bytes:
        """float32 (num_samples,), or (num_samples, num_channels), [-1, 1], at ``hz``."""
        if len(samples):
            frame = AudioFrame.from_ndarray(self._arranged(samples), self._form.sample_format, self._layout)
            frame.sample_rate = self._hz
            frame.pts = self._position
            self._position += len(samples)
            self._container.mux(self._stream.encode(frame))
        return self._sink.take()

    def finish(self) -> bytes:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take()

    def _arranged(self, samples: Samples) -> npt.NDArray[np.float32] | npt.NDArray[np.int16]:
        clipped = np.clip(samples.reshape(len(samples), -1), -1.0, 1.0)
        if self._form.sample_format == "fltp":
            return np.ascontiguousarray(clipped.T, np.float32)
        numbers = np.round(clipped * 32767).astype(np.int16)
        return np.ascontiguousarray(numbers.T) if self._form.sample_format == "s16p" else numbers.reshape(1, -1)
