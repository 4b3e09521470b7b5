"""Encodes speech while it is made, in the formats of OpenAI's API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, cast

import av
from av.audio.stream import AudioStream

from actors.errors import ItemError
from actors.types import Samples
from cluster.media.frames import LAYOUTS, SampleFormat, audio_frame
from cluster.streams import closing
from serve.threads import FairThreads

AudioFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
TelephoneFormat = Literal["ulaw", "alaw"]
STREAM_HZ = 24_000
"""Sample rate of OpenAI's ``pcm``, and close to that of most voices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    mime: str
    muxer: str
    codec: str
    sample_format: SampleFormat


FORMS: dict[AudioFormat | TelephoneFormat, _Form] = {
    "mp3": _Form(mime="audio/mpeg", muxer="mp3", codec="libmp3lame", sample_format="s16p"),
    "opus": _Form(mime="audio/ogg", muxer="ogg", codec="libopus", sample_format="s16"),
    "aac": _Form(mime="audio/aac", muxer="adts", codec="aac", sample_format="fltp"),
    "flac": _Form(mime="audio/flac", muxer="flac", codec="flac", sample_format="s16"),
    "wav": _Form(mime="audio/wav", muxer="wav", codec="pcm_s16le", sample_format="s16"),
    # No container: s16le muxes the samples alone.
    "pcm": _Form(mime="audio/pcm", muxer="s16le", codec="pcm_s16le", sample_format="s16"),
    "ulaw": _Form(mime="audio/basic", muxer="mulaw", codec="pcm_mulaw", sample_format="s16"),
    "alaw": _Form(mime="audio/x-alaw-basic", muxer="alaw", codec="pcm_alaw", sample_format="s16"),
}


class _Sink:
    """The muxer's output. It cannot seek, because an HTTP answer cannot."""

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
    """Encodes blocks of samples. ``encode`` and, at the end, ``finish`` return the bytes that are ready."""

    def __init__(
        self,
        form: AudioFormat | TelephoneFormat,
        *,
        hz: int = STREAM_HZ,
        num_channels: int = 1,
        bits_per_s: int | None = None,
    ) -> None:
        """Raises ItemError if the format has no such sample rate."""
        self._form = FORMS[form]
        rates = av.Codec(self._form.codec, "w").audio_rates
        if rates and hz not in rates:
            raise ItemError(
                f"the sample rate of {form} must be one of {', '.join(map(str, sorted(rates)))}; found {hz}"
            )
        self._hz = hz
        self._sink = _Sink()
        # bitexact: without it, encoders write their version into the file, so the same speech gives other bytes.
        self._container = av.open(self._sink, "w", format=self._form.muxer, options={"fflags": "+bitexact"})
        self._stream = cast(AudioStream, self._container.add_stream(self._form.codec, rate=hz))
        self._stream.layout = LAYOUTS[num_channels]
        self._stream.format = self._form.sample_format
        self._stream.codec_context.thread_count = 1
        if bits_per_s is not None:
            self._stream.bit_rate = bits_per_s
        self._position = 0

    def encode(self, samples: Samples) -> bytes:
        """float32 (num_samples,), or (num_samples, num_channels), [-1, 1], at ``hz``."""
        if len(samples):
            frame = audio_frame(samples, self._form.sample_format, hz=self._hz, position=self._position)
            self._position += len(samples)
            self._container.mux(self._stream.encode(frame))
        return self._sink.take()

    def finish(self) -> bytes:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take()


async def encode(blocks: AsyncIterator[Samples], encoder: StreamEncoder, threads: FairThreads) -> AsyncIterator[bytes]:
    """The bytes of all blocks, as they are ready; none of the parts is empty."""
    async with closing(blocks):
        async for block in blocks:
            if data := await threads.run(encoder.encode, block):
                yield data
    if data := await threads.run(encoder.finish):
        yield data
