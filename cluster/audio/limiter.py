"""A true-peak limiter that looks ahead, works block by block and leaves quieter audio untouched.

Shapes: blocks are float32 (num_samples, num_channels); everything inside the limiter is one value per
sample, because the channels share one gain (the stereo image must not move).

The limiter is a chain of causal filters whose delays add up to ``LATENCY_SAMPLES``:
peak between samples → attenuation it needs (dB) → highest of a window → release → smoothing.
Smoothing averages values that all cover the peak, so the result is never less than the peak needs.

"True peak" is what the meter of BS.1770-4 Annex 2 reads. Its short filter has 0.22 dB of ripple and its
grid misses peaks between four points, so a finer meter reads more: measured with 16x oversampling on
1,600 hard-limited signals below 4 to 16 kHz, up to 0.29 dB above the ceiling.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Block: TypeAlias = npt.NDArray[np.float32]
"""float32 (num_samples, num_channels), [-1, 1], at ``RATE_HZ``."""
Curve: TypeAlias = npt.NDArray[np.float64]
"""float64 (num_samples,): one value per sample, whatever the channels."""

RATE_HZ = 48_000
"""The interpolation filter below is defined for this rate."""
RAMP_SAMPLES = 240
"""Gain moves over 5 ms: shorter is heard as distortion, longer as a dip before a plosive."""
RELEASE_DB_PER_S = 50.0
"""3 dB of reduction are given back in 60 ms; linear in dB, so that it ends and audio is untouched again."""

_HALF_PHASES = np.array(
    [
        [0.001708984375, 0.010986328125, -0.0196533203125, 0.033203125, -0.0594482421875, 0.1373291015625,
         0.97216796875, -0.102294921875, 0.047607421875, -0.026611328125, 0.014892578125, -0.00830078125],
        [-0.0291748046875, 0.029296875, -0.0517578125, 0.089111328125, -0.16650390625, 0.465087890625,
         0.77978515625, -0.2003173828125, 0.1015625, -0.0582275390625, 0.0330810546875, -0.0189208984375],
    ],
    dtype=np.float32,
)  # fmt: skip
TRUE_PEAK_PHASES = np.concatenate([_HALF_PHASES, _HALF_PHASES[::-1, ::-1]])
"""float32 (4, 12): the 4x interpolation filter of ITU-R BS.1770-4, Annex 2, table 1."""
_REVERSED_PHASES = np.ascontiguousarray(TRUE_PEAK_PHASES[:, ::-1])
NUM_TAPS = TRUE_PEAK_PHASES.shape[1]
MAX_OVERSHOOT = float(np.abs(TRUE_PEAK_PHASES).sum(axis=1).max())
"""No peak between samples is higher than this many times the highest sample."""

HOLD_SAMPLES = RAMP_SAMPLES + NUM_TAPS + 1
"""A peak's attenuation covers every sample that its interpolation saw, whatever the ramp does around it."""
LATENCY_SAMPLES = HOLD_SAMPLES - 1


class Limiter:
    """Keeps the true peak at or below a ceiling. ``process`` lags by ``LATENCY_SAMPLES``; ``finish`` gives the rest.

    Together, the returned blocks are as long as the given ones: sample n of the output is sample n of the input.
    """

    def __init__(self, ceiling_dbtp: float, num_channels: int) -> None:
        self._ceiling = 10 ** (ceiling_dbtp / 20)
        self._num_to_drop = LATENCY_SAMPLES
        self._delayed = np.zeros((LATENCY_SAMPLES, num_channels), dtype=np.float32)
        self._needed_db = np.zeros(HOLD_SAMPLES - 1)
        self._released_db = np.zeros(RAMP_SAMPLES)
        ramp = np.sin(np.pi * (np.arange(RAMP_SAMPLES + 1) + 0.5) / (RAMP_SAMPLES + 1)) ** 2
        self._ramp = ramp / ramp.sum()

    def process(self, block: Block) -> Block:
        """Limit the next block; float32 (num_samples, num_channels), of any length."""
        if len(block) == 0:
            return block
        audio = np.concatenate([self._delayed, block])
        attenuation_db = self._attenuation_db(audio[-(len(block) + NUM_TAPS - 1) :])
        self._delayed = audio[len(block) :]
        out = audio[: len(block)]
        if attenuation_db is not None:
            out = out * np.power(10.0, attenuation_db / -20).astype(np.float32)[:, None]
        num_dropped = min(self._num_to_drop, len(out))
        self._num_to_drop -= num_dropped
        return out[num_dropped:]

    def finish(self) -> Block:
        """The last ``LATENCY_SAMPLES``. The limiter cannot be used afterwards."""
        return self.process(np.zeros_like(self._delayed))

    def _attenuation_db(self, audio: Block) -> Curve | None:
        """Attenuation for the next samples to leave, or None if they need none.

        audio: the block and the ``NUM_TAPS - 1`` samples before it.
        """
        num_samples = len(audio) - NUM_TAPS + 1
        quiet = float(np.abs(audio).max()) * MAX_OVERSHOOT <= self._ceiling
        if quiet and not self._needed_db.any() and not self._released_db.any():
            return None
        needed_db = np.zeros(num_samples) if quiet else self._needed(audio)
        needed_db = np.concatenate([self._needed_db, needed_db])
        self._needed_db = needed_db[num_samples:]
        held_db = running_max(needed_db, HOLD_SAMPLES)
        released_db = _release(held_db, last_db=self._released_db[-1])
        released_db = np.concatenate([self._released_db, released_db])
        self._released_db = released_db[num_samples:]
        if not released_db.any():
            return None
        return np.convolve(released_db, self._ramp, mode="valid")

    def _needed(self, audio: Block) -> Curve:
        """Attenuation (dB) that the peak around each sample needs, ``NUM_TAPS // 2`` samples late."""
        peaks = true_peaks(audio)
        return 20 * np.log10(np.maximum(peaks / self._ceiling, 1.0))


def running_max(values: Curve, size: int) -> Curve:
    """The maximum of each ``size`` neighbours: float64 (num_values - size + 1,).

    In three operations a value, whatever the size (van Herk, Pattern Recognition Letters 13, 1992).
    """
    num_maxima = len(values) - size + 1
    blocks = np.pad(values, (0, -len(values) % size), constant_values=-np.inf).reshape(-1, size)
    up_to = np.maximum.accumulate(blocks, axis=1).ravel()
    from_here = np.maximum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].ravel()
    return np.maximum(from_here[:num_maxima], up_to[size - 1 : size - 1 + num_maxima])


def true_peaks(audio: Block) -> Curve:
    """Highest absolute value around each sample, over channels: float64 (num_samples - NUM_TAPS + 1,).

    Value i is over sample i + NUM_TAPS // 2 and the four points interpolated between it and the one
    before (BS.1770-4, Annex 2). The samples themselves count too: the filter's phases pass beside them.
    """
    peaks = np.zeros(len(audio) - NUM_TAPS + 1, dtype=np.float32)
    for channel in audio.T:
        # One matrix product: a copy of the windows costs a tenth of four convolutions by 12 taps.
        windows = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(channel, NUM_TAPS))
        np.maximum(peaks, np.abs(_REVERSED_PHASES @ windows.T).max(axis=0), out=peaks)
        np.maximum(peaks, np.abs(windows[:, NUM_TAPS // 2]), out=peaks)
    return peaks.astype(np.float64)


def _release(held_db: Curve, last_db: float) -> Curve:
    """The smallest curve over ``held_db`` that falls no faster than the release.

    y[n] = max(x[n], y[n-1] - r) is a running maximum of x[n] + r·n.
    """
    slope = RELEASE_DB_PER_S / RATE_HZ * np.arange(1, len(held_db) + 1)
    highest: Curve = np.maximum.accumulate(np.maximum(held_db + slope, last_db))
    return np.maximum(highest - slope, 0.0)
