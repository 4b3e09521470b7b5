"""Raises quiet windows to the level that voice detectors and whisper were trained on."""

from __future__ import annotations

import numpy as np

from actors.types import ASR_HZ, Samples

QUIET_DBFS = -40.0
"""Loudest part below which a window is raised; speech in ordinary recordings peaks 20 dB higher."""
TARGET_DBFS = -20.0
MAX_GAIN_DB = 60.0
MAX_PEAK = 0.9
PART_SAMPLES = ASR_HZ // 10


def levelled(samples: Samples) -> Samples:
    """The same samples, louder if their loudest 0.1 s is below ``QUIET_DBFS``; without clipping.

    ``samples``: float32 (num_samples,), mono. Windows of an ordinary level are returned as they are.
    """
    if not len(samples):
        return samples
    whole = len(samples) // PART_SAMPLES * PART_SAMPLES
    parts = samples[:whole].reshape(-1, PART_SAMPLES) if whole else samples[None, :]
    loudest = float(np.sqrt(np.max(np.mean(np.square(parts, dtype=np.float64), axis=1), initial=0.0)))
    peak = float(np.max(np.abs(samples), initial=0.0))
    if loudest == 0.0 or 20 * np.log10(loudest) >= QUIET_DBFS:
        return samples
    gain = min(10 ** (TARGET_DBFS / 20) / loudest, 10 ** (MAX_GAIN_DB / 20), MAX_PEAK / peak)
    return (samples * np.float32(gain)).astype(np.float32)
