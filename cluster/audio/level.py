"""Raises quiet audio to the level that the voice detector was trained on, as a stream."""

from __future__ import annotations

import numpy as np

from actors.types import ASR_HZ, Samples

SILENT_DBFS, QUIET_DBFS = -72.0, -40.0
"""Loudest part of recent audio between which it is raised: below there is no speech, above no need."""
TARGET_DBFS = -25.0
MAX_PEAK = 0.9
DECAY_DB = 1.0
"""Loss of the remembered level with each batch of 2 s: a pause is not raised to the level of speech."""
PART_SAMPLES = ASR_HZ // 10


class QuietLevel:
    """Raises one stream, batch by batch. Audio of an ordinary level is returned as it is."""

    def __init__(self) -> None:
        self._level_dbfs = -np.inf

    def raised(self, batch: Samples) -> Samples:
        """``batch``: float32 (num_samples,), mono, at ``ASR_HZ``."""
        whole = len(batch) // PART_SAMPLES * PART_SAMPLES
        if not whole:
            return batch
        power = np.mean(np.square(batch[:whole].reshape(-1, PART_SAMPLES), dtype=np.float64), axis=1)
        loudest_dbfs = 10 * np.log10(np.max(power) + 1e-12)
        self._level_dbfs = max(loudest_dbfs, self._level_dbfs - DECAY_DB)
        if not SILENT_DBFS <= self._level_dbfs < QUIET_DBFS:
            return batch
        peak = float(np.max(np.abs(batch)))
        gain = min(10 ** ((TARGET_DBFS - self._level_dbfs) / 20), MAX_PEAK / max(peak, 1e-9))
        return (batch * np.float32(gain)).astype(np.float32)
