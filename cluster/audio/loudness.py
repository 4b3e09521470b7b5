"""Running loudness of speech (ITU-R BS.1770-4), and the gain that matches a dubbed voice to its original."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from actors.errors import ItemError
from actors.types import Samples
from cluster.audio.biquads import filtered, high_pass, high_shelf
from cluster.audio.config import LoudnessConfig

HOP_S = 0.1
HOPS_PER_BLOCK = 4
"""Gating blocks of 400 ms that overlap by 75 % (ITU-R BS.1770-4, Annex 1)."""
LUFS_OFFSET = -0.691
"""Constant of BS.1770-4 equation 2: cancels the K-weighting's gain at 997 Hz."""
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
BIN_LU = 0.1
NUM_BINS = 900
"""Histogram of block loudness from the absolute gate up to +20 LUFS; clipped noise reads below that."""


class SpeechLoudness:
    """Integrated loudness (ITU-R BS.1770-4) of all speech added so far, in constant memory.

    Gating needs only the blocks' powers, and those are kept as a histogram with the exact sum of each
    bin: only the relative gate is rounded, to 0.1 LU. Stretches of speech are measured as if spoken
    without a pause between them.
    """

    def __init__(self, sample_hz: int) -> None:
        self._hop_samples = round(HOP_S * sample_hz)
        self._filter = _k_weighting(sample_hz)
        self._filter_state = np.zeros((len(self._filter), 2))
        self._remainder = np.zeros(0)
        self._hop_energies = np.zeros(0)
        self._total_energy = 0.0
        self._num_samples = 0
        self._counts = np.zeros(NUM_BINS, dtype=np.int64)
        self._powers = np.zeros(NUM_BINS)

    def feed(self, samples: Samples) -> None:
        """Add speech: float32 (num_samples,), mono, at ``sample_hz``. Raises ItemError if it is not finite."""
        if len(samples) == 0:
            return
        if not np.isfinite(samples).all():
            # The filter remembers: one NaN would make every later measurement NaN.
            raise ItemError("speech must hold finite samples; found NaN or infinity; leave this stretch out")
        weighted, self._filter_state = filtered(self._filter, samples, self._filter_state)
        self._total_energy += float(weighted @ weighted)
        self._num_samples += len(weighted)
        weighted = np.concatenate([self._remainder, weighted])
        num_hops = len(weighted) // self._hop_samples
        hops, self._remainder = np.split(weighted, [num_hops * self._hop_samples])
        energies = np.square(hops).reshape(num_hops, self._hop_samples).sum(axis=1)
        self._count_blocks(np.concatenate([self._hop_energies, energies]))

    def lufs(self) -> float | None:
        """Loudness so far, as one channel; None after nothing but silence.

        Without a whole gating block yet, it is ungated: a first word of 0.3 s needs a level, too.
        """
        if not self._counts.any():
            ungated = _lufs(self._total_energy / max(self._num_samples, 1))
            return ungated if ungated >= ABSOLUTE_GATE_LUFS else None
        relative_gate_lufs = _lufs(self._powers.sum() / self._counts.sum()) + RELATIVE_GATE_LU
        first = _bins(np.array([relative_gate_lufs]))[0]
        return _lufs(self._powers[first:].sum() / self._counts[first:].sum())

    def _count_blocks(self, hop_energies: npt.NDArray[np.float64]) -> None:
        self._hop_energies = hop_energies[-(HOPS_PER_BLOCK - 1) :]
        if len(hop_energies) < HOPS_PER_BLOCK:
            return
        windows = np.lib.stride_tricks.sliding_window_view(hop_energies, HOPS_PER_BLOCK)
        powers = windows.sum(axis=1) / (HOPS_PER_BLOCK * self._hop_samples)
        powers = powers[powers >= 10 ** ((ABSOLUTE_GATE_LUFS - LUFS_OFFSET) / 10)]
        bins = _bins(LUFS_OFFSET + 10 * np.log10(powers))
        np.add.at(self._counts, bins, 1)
        np.add.at(self._powers, bins, powers)


class VoiceLevels:
    """Gains that make each dubbed voice as loud as the speech it replaces, by the loudness of its clips so far.

    They depend on the order of the clips, not on the times of the calls. Memory: one histogram per voice.
    """

    def __init__(self, config: LoudnessConfig, *, num_channels: int) -> None:
        """``num_channels`` is the mix's: a dub is played in all of them."""
        self._config = config
        self._channels_db = 10 * math.log10(num_channels)
        self._voices: dict[tuple[str, int], SpeechLoudness] = {}

    def gain_db(self, source_lufs: float | None, voice: str, samples: Samples, sample_hz: int) -> float:
        """Gain for a clip that ``voice`` speaks; the clip counts towards the voice's level.

        source_lufs: ``SpeechLoudness.lufs()`` of the original speech. Mono against mono: a speaker in the
        middle of a stereo picture has the level of its downmix in each channel, as the dub will.
        Raises ItemError for samples that are not finite.
        """
        key = (voice, sample_hz)
        if key not in self._voices:
            self._voices[key] = SpeechLoudness(sample_hz)
        self._voices[key].feed(samples)
        voice_lufs = self._voices[key].lufs()
        if voice_lufs is None:
            return 0.0
        gain_db = self._target_lufs(source_lufs) - voice_lufs
        return min(max(gain_db, -self._config.max_gain_db), self._config.max_gain_db)

    def _target_lufs(self, source_lufs: float | None) -> float:
        """Target loudness of the dub, as one channel."""
        low, high = self._config.min_lufs - self._channels_db, self._config.max_lufs - self._channels_db
        if source_lufs is None:
            return (low + high) / 2
        shift_db = min(max(source_lufs, low), high) - source_lufs
        return source_lufs + min(max(shift_db, -self._config.max_shift_db), self._config.max_shift_db)


def _k_weighting(sample_hz: int) -> npt.NDArray[np.float64]:
    """Second-order sections of the K-weighting filter at any rate, with pyloudnorm's parameters."""
    return np.stack((high_shelf(1500.0, 1 / math.sqrt(2), 4.0, sample_hz), high_pass(38.0, 0.5, sample_hz)))


def _lufs(power: float) -> float:
    return LUFS_OFFSET + 10 * math.log10(power) if power > 0.0 else -math.inf


def _bins(lufs: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    bins = np.floor((lufs - ABSOLUTE_GATE_LUFS) / BIN_LU).astype(np.int64)
    return np.clip(bins, 0, NUM_BINS - 1)
