"""Log mel spectra as Kaldi computes them, without dither, which the model was trained on."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from actors.types import ASR_HZ, Samples

FRAME_SAMPLES = 400
HOP_SAMPLES = 160
FFT_SAMPLES = 512
NUM_MELS = 80
LOWEST_HZ = 20.0
PRE_EMPHASIS = 0.97
FLOOR = float(np.finfo(np.float32).eps)

Spectra = npt.NDArray[np.float32]
"""float32 (num_frames, NUM_MELS)"""


def log_mel_spectra(samples: Samples) -> Spectra:
    """The spectra of whole frames, each band less its mean; ``samples`` at ``ASR_HZ``, at least one frame."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), FRAME_SAMPLES)[::HOP_SAMPLES]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    windowed = (frames - PRE_EMPHASIS * before) * _window()
    power = np.abs(np.fft.rfft(windowed, FFT_SAMPLES, axis=1)) ** 2
    log_mels = np.log(np.maximum(power @ _mel_bands(), FLOOR))
    return np.asarray(log_mels - log_mels.mean(axis=0), np.float32)


@functools.cache
def _window() -> npt.NDArray[np.float64]:
    """Povey's window: a Hann window to the power of 0.85."""
    window: npt.NDArray[np.float64] = np.hanning(FRAME_SAMPLES) ** 0.85
    return window


@functools.cache
def _mel_bands() -> npt.NDArray[np.float64]:
    """float64 (FFT_SAMPLES / 2 + 1, NUM_MELS): triangles of equal width in mels."""
    edges = np.linspace(_mels(LOWEST_HZ), _mels(ASR_HZ / 2), NUM_MELS + 2)
    bins = _mels(np.arange(FFT_SAMPLES // 2 + 1) * ASR_HZ / FFT_SAMPLES)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    bands: npt.NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return bands


def _mels(hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    mels: npt.NDArray[np.float64] = 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)
    return mels
