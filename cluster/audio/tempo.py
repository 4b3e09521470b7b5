"""Time-stretches clips without changing their pitch."""

from __future__ import annotations

import numpy as np
import python_stretch

from actors.types import (
    Clip,
    Samples,
)


def at_tempo(clip: Clip, factor: float) -> Samples:
    """The clip's samples, ``factor`` times as fast; the pitch stays."""
    stretch = python_stretch.Signalsmith.Stretch(0)  # seeded: the same clip gives the same samples
    stretch.preset(1, clip.sample_hz)
    stretch.setTimeFactor(factor)
    # A copy: arrays that come through Ray are read-only, which the library refuses.
    channels = stretch.process(np.array(clip.samples[None, :]))
    samples: Samples = np.asarray(channels, dtype=np.float32)[0]
    return samples
