from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.types import Samples
from cluster.audio.downmix import fold_to_mono, speech_weights, stereo_matrix, to_channels

STEREO = ("FL", "FR")
FIVE_ONE = ("FL", "FR", "FC", "LFE", "BL", "BR")


def noise(num_channels: int, num_samples: int = 48_000, seed: int = 0) -> Samples:
    return (0.1 * np.random.default_rng(seed).standard_normal((num_samples, num_channels))).astype(np.float32)


def fold(samples: Samples, names: tuple[str, ...], block: int = 16_000) -> Samples:
    return np.concatenate(list(fold_to_mono((samples[at : at + block] for at in range(0, len(samples), block)), names)))


def rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def test_antiphase_stereo_keeps_its_energy() -> None:
    left = noise(1)
    folded = fold(np.concatenate([left, -left], axis=1), STEREO)
    assert rms(folded) == pytest.approx(rms(left), rel=1e-3)


def test_stereo_in_phase_is_the_average() -> None:
    left = noise(1)
    samples = np.concatenate([left, 0.5 * left], axis=1)
    np.testing.assert_allclose(fold(samples, STEREO), samples.mean(axis=1), atol=1e-6)


def test_unrelated_channels_are_the_average() -> None:
    samples = noise(2)
    np.testing.assert_allclose(fold(samples, STEREO), samples.mean(axis=1), atol=1e-6)


def test_mono_passes_and_silence_stays_silent() -> None:
    np.testing.assert_array_equal(fold(noise(1), ("FC",)), noise(1)[:, 0])
    assert not fold(np.zeros((48_000, 2), np.float32), STEREO).any()


def test_phase_that_turns_midway_is_followed_without_a_click() -> None:
    left = np.sin(2 * np.pi * 200 * np.arange(160_000) / 16_000).astype(np.float32)[:, None] * 0.3
    right = np.where(np.arange(160_000)[:, None] < 80_000, left, -left)
    folded = fold(np.concatenate([left, right], axis=1), STEREO)
    assert rms(folded[-16_000:]) == pytest.approx(rms(left), rel=0.05)
    # The steepest a 200 Hz tone of 0.3 gets from one sample to the next is 0.024.
    assert np.abs(np.diff(folded[:80_000])).max() < 0.03


def test_the_centre_leads_and_lfe_is_left_out() -> None:
    weights = dict(zip(FIVE_ONE, speech_weights(FIVE_ONE), strict=True))
    assert weights["FC"] == max(weights.values())
    assert weights["LFE"] == 0.0
    assert sum(weights.values()) == pytest.approx(1.0)


@given(st.sampled_from([STEREO, FIVE_ONE, ("FL", "FR", "LFE"), ("FL", "FR", "BL", "BR")]), st.integers(0, 99))
def test_folding_never_exceeds_full_scale(names: tuple[str, ...], seed: int) -> None:
    samples = np.sign(noise(len(names), 4_000, seed))
    assert np.abs(fold(samples, names, 1_000)).max() <= 1.0 + 1e-5
    assert np.abs(to_channels(samples, names, 2)).max() <= 1.0 + 1e-5


def test_to_channels_spreads_folds_and_pads() -> None:
    mono = noise(1, 10)
    np.testing.assert_array_equal(to_channels(mono, ("FC",), 2), np.repeat(mono, 2, axis=1))
    assert to_channels(noise(6, 10), FIVE_ONE, 2).shape == (10, 2)
    assert to_channels(noise(6, 10), FIVE_ONE, 8).shape == (10, 8)
    assert to_channels(noise(6, 10), FIVE_ONE, 1).shape == (10, 1)


def test_stereo_downmix_keeps_sides_apart() -> None:
    matrix = stereo_matrix(FIVE_ONE)
    assert matrix[0, 1] == 0.0
    assert matrix[1, 0] == 0.0
    assert matrix[2, 0] == matrix[2, 1] > 0.0
    assert not matrix[3].any()
