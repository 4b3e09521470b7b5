"""The pitch of a voice, by autocorrelation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from actors.types import ASR_HZ, Samples

LOWEST_HZ, HIGHEST_HZ = 60.0, 400.0
FRAME_SAMPLES = 2 * round(ASR_HZ / LOWEST_HZ)
"""Two periods of the lowest pitch."""
HOP_SAMPLES = 320
FFT_SAMPLES = 2048
MIN_LIKENESS = 0.6
"""A frame is voiced if it is at least this like itself a period later."""
SHARE_OF_BEST = 0.9
"""The shortest period this near the best one counts: two periods are as like as one."""
MIN_VOICED = 5
"""Voiced frames from which there is a pitch."""


def median_pitch_hz(samples: Samples) -> float:
    """Median over voiced frames of ``samples`` at ``ASR_HZ``; NaN if there are too few."""
    if len(samples) < FRAME_SAMPLES:
        return float("nan")
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), FRAME_SAMPLES)[::HOP_SAMPLES]
    pitches = _pitches_hz(frames - frames.mean(axis=1, keepdims=True))
    return float(np.median(pitches)) if len(pitches) >= MIN_VOICED else float("nan")


def _pitches_hz(frames: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float64 (num_voiced,): pitch of each voiced frame; frames are (num_frames, FRAME_SAMPLES)."""
    shortest, longest = round(ASR_HZ / HIGHEST_HZ), round(ASR_HZ / LOWEST_HZ)
    spectrum = np.abs(np.fft.rfft(frames, FFT_SAMPLES, axis=1)) ** 2
    products = np.fft.irfft(spectrum, axis=1)[:, : longest + 1]
    energy = np.concatenate([np.zeros((len(frames), 1)), np.cumsum(frames**2, axis=1)], axis=1)
    lags = np.arange(longest + 1)
    before, after = energy[:, FRAME_SAMPLES - lags], energy[:, -1:] - energy[:, lags]
    likeness = (products / np.sqrt(np.maximum(before * after, 1e-12)))[:, shortest:]
    best = likeness.max(axis=1)
    is_voiced = (best >= MIN_LIKENESS) & (energy[:, -1] > 0.01 * np.max(energy[:, -1], initial=0.0))
    found = likeness[is_voiced]
    inner = found[:, 1:-1]
    is_peak = (inner >= found[:, :-2]) & (inner >= found[:, 2:]) & (inner >= SHARE_OF_BEST * best[is_voiced, None])
    has_peak = is_peak.any(axis=1)
    pitches: npt.NDArray[np.float64] = ASR_HZ / (shortest + 1 + is_peak[has_peak].argmax(axis=1))
    return pitches
