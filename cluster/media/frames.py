"""Turns blocks of samples into the audio frames that FFmpeg's encoders take."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame

from actors.types import Samples

SampleFormat = Literal["s16", "s16p", "flt", "fltp"]
LAYOUTS = {1: "mono", 2: "stereo"}
"""FFmpeg's channel layouts by number of channels."""


def audio_frame(
    block: Samples, sample_format: SampleFormat, *, hz: int, position: int, layout: str | None = None
) -> AudioFrame:
    """A frame of float32 (num_samples,) or (num_samples, num_channels); its first sample is number ``position``.

    Samples outside [-1, 1] are clipped. More than two channels need a ``layout`` by FFmpeg's name.
    """
    channels = block[:, None] if block.ndim == 1 else block
    frame = AudioFrame.from_ndarray(
        _arranged(channels, sample_format), sample_format, layout or LAYOUTS[channels.shape[1]]
    )
    frame.sample_rate = hz
    frame.time_base = Fraction(1, hz)
    frame.pts = position
    return frame


def _arranged(block: Samples, sample_format: SampleFormat) -> npt.NDArray[Any]:
    """The block as PyAV takes it: a row a channel for planar formats, else one row of interleaved samples."""
    clipped = np.clip(block, -1.0, 1.0)
    values: npt.NDArray[Any] = (
        clipped.astype(np.float32, copy=False)
        if sample_format.startswith("flt")
        else np.round(clipped * 32767).astype(np.int16)
    )
    return np.ascontiguousarray(values.T if sample_format.endswith("p") else values.reshape(1, -1))
