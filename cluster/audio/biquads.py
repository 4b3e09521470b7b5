"""Filters of second-order sections: their design, and SciPy's loop over samples without the rest of SciPy."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cluster.compiled import part_of_scipy

Section: TypeAlias = npt.NDArray[np.float64]
"""float64 (6,): b0, b1, b2, a0 = 1, a1, a2."""
Floats: TypeAlias = npt.NDArray[np.float64]


def high_pass(cutoff_hz: float, q: float, sample_hz: int) -> Section:
    """By R. Bristow-Johnson's Cookbook formulae for audio equalizer biquad filter coefficients."""
    cosine, alpha = _angle(cutoff_hz, q, sample_hz)
    b = (1 + cosine) / 2, -(1 + cosine), (1 + cosine) / 2
    return _section(b, (1 + alpha, -2 * cosine, 1 - alpha))


def high_shelf(cutoff_hz: float, q: float, gain_db: float, sample_hz: int) -> Section:
    """By the same formulae."""
    cosine, alpha = _angle(cutoff_hz, q, sample_hz)
    root = 10 ** (gain_db / 40)
    more, less, width = root + 1, root - 1, 2 * math.sqrt(root) * alpha
    b = root * (more + less * cosine + width), -2 * root * (less + more * cosine), root * (more + less * cosine - width)
    return _section(b, (more - less * cosine + width, 2 * (less - more * cosine), more - less * cosine - width))


def filtered(sections: Floats, samples: npt.ArrayLike, state: Floats) -> tuple[Floats, Floats]:
    """``samples`` through all ``sections``, and the state for those that follow; as ``scipy.signal.sosfilt``.

    sections: float64 (num_sections, 6); samples: (num_samples,); state: float64 (num_sections, 2).
    """
    signal = np.array(samples, np.float64, order="C")[None]
    after = np.array(state, np.float64, order="C")[None]
    part_of_scipy("signal", "_sosfilt")._sosfilt(np.ascontiguousarray(sections), signal, after)
    return signal[0], after[0]


def _angle(cutoff_hz: float, q: float, sample_hz: int) -> tuple[float, float]:
    """The formulae's cos ω₀ and α."""
    angle = 2 * math.pi * cutoff_hz / sample_hz
    return math.cos(angle), math.sin(angle) / (2 * q)


def _section(b: tuple[float, float, float], a: tuple[float, float, float]) -> Section:
    return np.array([*b, *a]) / a[0]
