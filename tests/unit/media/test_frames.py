"""Audio frames: every sample format holds the samples that were given, in their places."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.media.frames import SampleFormat, audio_frame

STEREO = np.array([[0.5, -0.5], [0.25, 0.0], [1.5, -1.5]], np.float32)


@pytest.mark.parametrize("sample_format", ["s16", "s16p", "flt", "fltp"])
@pytest.mark.parametrize("num_channels", [1, 2])
def test_a_frame_holds_the_clipped_samples(sample_format: SampleFormat, num_channels: int) -> None:
    frame = audio_frame(STEREO[:, :num_channels], sample_format, hz=24_000, position=7)
    raw = frame.to_ndarray()
    samples = raw.T if frame.format.is_planar else raw.reshape(-1, num_channels)
    scale = 32767 if sample_format.startswith("s16") else 1.0
    np.testing.assert_allclose(samples / scale, np.clip(STEREO[:, :num_channels], -1, 1), atol=1e-4)
    assert (frame.samples, frame.sample_rate, frame.pts, frame.time) == (3, 24_000, 7, 7 / 24_000)


def test_one_dimension_is_mono() -> None:
    frame = audio_frame(STEREO[:, 0], "flt", hz=24_000, position=0)
    assert (frame.layout.name, frame.samples) == ("mono", 3)
