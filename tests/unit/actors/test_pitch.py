"""The pitch of a voice."""

from __future__ import annotations

import math

import numpy as np
import pytest

from actors.diarization._pitch import median_pitch_hz
from actors.types import ASR_HZ


def buzz(pitch_hz: float, seconds: float = 1.0) -> np.ndarray:
    """All harmonics up to 4 kHz, as a voice has them, over a little noise."""
    time_s = np.arange(round(seconds * ASR_HZ)) / ASR_HZ
    waves = [np.sin(2 * np.pi * pitch_hz * n * time_s + n) / n for n in range(1, int(4000 / pitch_hz))]
    noise = np.random.default_rng(0).standard_normal(len(time_s))
    return (0.1 * np.sum(waves, axis=0) + 0.005 * noise).astype(np.float32)


@pytest.mark.parametrize("pitch_hz", [75.0, 98.0, 120.0, 165.0, 210.0, 262.0, 330.0])
def test_a_tone_with_harmonics_has_the_pitch_of_its_first(pitch_hz: float) -> None:
    assert median_pitch_hz(buzz(pitch_hz)) == pytest.approx(pitch_hz, rel=0.02)


def test_a_pitch_is_found_between_noise_and_silence() -> None:
    noise = 0.05 * np.random.default_rng(1).standard_normal(ASR_HZ).astype(np.float32)
    samples = np.concatenate([noise, buzz(140.0), np.zeros(ASR_HZ, np.float32)])
    assert median_pitch_hz(samples) == pytest.approx(140.0, rel=0.03)


@pytest.mark.parametrize("samples", [np.zeros(ASR_HZ), np.random.default_rng(0).standard_normal(ASR_HZ), np.zeros(10)])
def test_what_is_not_voiced_has_none(samples: np.ndarray) -> None:
    assert math.isnan(median_pitch_hz(samples.astype(np.float32)))
