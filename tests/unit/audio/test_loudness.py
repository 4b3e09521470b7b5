import math

import numpy as np
import pyloudnorm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.errors import ItemError
from actors.types import Samples
from cluster.audio.config import LoudnessConfig
from cluster.audio.loudness import SpeechLoudness, VoiceLevels

HZ = 16_000


def speechlike(seed: int, duration_s: float, level_db: float = -20.0, sample_hz: int = HZ) -> Samples:
    """Low-passed noise in syllables of random strength, with pauses: what gating has to cope with."""
    rng = np.random.default_rng(seed)
    num_samples = round(duration_s * sample_hz)
    noise = np.convolve(rng.standard_normal(num_samples + 7), np.ones(8) / 8, mode="valid")
    num_syllables = math.ceil(duration_s / 0.15)
    strengths = rng.choice([0.0, 0.02, 0.3, 0.7, 1.0], size=num_syllables, p=[0.15, 0.1, 0.25, 0.25, 0.25])
    envelope = np.interp(np.arange(num_samples) / sample_hz, np.arange(num_syllables) * 0.15, strengths)
    return (noise * envelope * 10 ** (level_db / 20)).astype(np.float32)


def measured(samples: Samples, sample_hz: int = HZ) -> float | None:
    loudness = SpeechLoudness(sample_hz)
    loudness.feed(samples)
    return loudness.lufs()


@pytest.mark.parametrize("sample_hz", [16_000, 22_050, 24_000, 48_000])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_pyloudnorm(seed: int, sample_hz: int) -> None:
    samples = speechlike(seed, duration_s=20.0, level_db=-30.0 + 5 * seed, sample_hz=sample_hz)
    expected = pyloudnorm.Meter(sample_hz).integrated_loudness(samples)
    assert measured(samples, sample_hz) == pytest.approx(expected, abs=0.1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(0, 3 * HZ), max_size=6))
def test_does_not_depend_on_how_speech_is_cut(seed: int, cuts: list[int]) -> None:
    samples = speechlike(seed, duration_s=3.0)
    loudness = SpeechLoudness(HZ)
    for part in np.split(samples, sorted(cuts)):
        loudness.feed(part)
    assert loudness.lufs() == pytest.approx(measured(samples), abs=1e-6)


@given(st.floats(-30.0, 6.0))
def test_follows_gain_in_decibels(gain_db: float) -> None:
    samples = speechlike(1, duration_s=3.0)
    louder = (samples * 10 ** (gain_db / 20)).astype(np.float32)
    # 0.1 LU: the relative gate moves in steps of one bin
    assert measured(louder) == pytest.approx(measured(samples) + gain_db, abs=0.15)


def test_pauses_do_not_count() -> None:
    speech = speechlike(3, duration_s=10.0)
    with_silence = np.concatenate([speech, np.zeros(20 * HZ, dtype=np.float32)])
    assert measured(with_silence) == pytest.approx(measured(speech), abs=0.3)


def test_memory_is_constant() -> None:
    loudness = SpeechLoudness(HZ)

    def size() -> int:
        return sum(value.nbytes for value in vars(loudness).values() if isinstance(value, np.ndarray))

    sizes = []
    for _ in range(20):
        loudness.feed(speechlike(4, duration_s=10.0))
        sizes.append(size())
    assert max(sizes) == sizes[0]


def test_a_first_short_word_has_a_level() -> None:
    tone = np.sin(2 * np.pi * 997 * np.arange(round(0.3 * HZ)) / HZ).astype(np.float32)
    # BS.1770: a full-scale sine at 997 Hz in one channel reads -3.01
    assert measured(tone) == pytest.approx(-3.01, abs=0.3)


def test_silence_has_no_level() -> None:
    assert SpeechLoudness(HZ).lufs() is None
    assert measured(np.zeros(0, dtype=np.float32)) is None
    assert measured(np.zeros(HZ, dtype=np.float32)) is None


def test_refuses_what_is_not_finite_and_stays_sound() -> None:
    loudness = SpeechLoudness(HZ)
    loudness.feed(speechlike(5, duration_s=2.0))
    before = loudness.lufs()
    with pytest.raises(ItemError, match="finite"):
        loudness.feed(np.array([0.0, np.nan], dtype=np.float32))
    assert loudness.lufs() == before


@pytest.mark.parametrize(
    ("source_lufs", "expected_lufs"),
    [(-20.0, -20.0), (-26.0, -23.0), (-45.0, -39.0), (-12.0, -16.0), (-8.0, -14.0), (None, -19.5)],
)
@pytest.mark.parametrize("num_channels", [1, 2])
def test_dub_is_as_loud_as_its_source_within_limits(
    source_lufs: float | None, expected_lufs: float, num_channels: int
) -> None:
    """Levels in the cases are the programme's: 3 LU above one channel's in stereo."""
    channels_db = 10 * math.log10(num_channels)
    levels = VoiceLevels(LoudnessConfig(min_lufs=-23.0, max_lufs=-16.0), num_channels=num_channels)
    clip = speechlike(2, duration_s=5.0, level_db=-10.0)
    gain_db = levels.gain_db(None if source_lufs is None else source_lufs - channels_db, "voice", clip, HZ)
    played = np.repeat(clip[:, None] * 10 ** (gain_db / 20), num_channels, axis=1)
    assert pyloudnorm.Meter(HZ).integrated_loudness(played) == pytest.approx(expected_lufs, abs=0.1)


def test_gain_settles_on_the_voice_not_on_each_clip() -> None:
    levels = VoiceLevels(LoudnessConfig(min_lufs=-23.0, max_lufs=-16.0), num_channels=1)
    for seed in range(10):
        levels.gain_db(-20.0, "voice", speechlike(seed, duration_s=3.0), HZ)
    usual_db = levels.gain_db(-20.0, "voice", speechlike(11, duration_s=3.0), HZ)
    soft_db = levels.gain_db(-20.0, "voice", speechlike(12, duration_s=3.0, level_db=-26.0), HZ)
    assert soft_db == pytest.approx(usual_db, abs=1.0)  # spoken softer, stays softer


def test_gain_is_limited_and_silence_left_alone() -> None:
    levels = VoiceLevels(LoudnessConfig(max_gain_db=3.0), num_channels=1)
    assert levels.gain_db(-16.0, "soft", speechlike(2, duration_s=5.0, level_db=-40.0), HZ) == 3.0
    assert levels.gain_db(-40.0, "loud", speechlike(2, duration_s=5.0, level_db=0.0), HZ) == -3.0
    assert levels.gain_db(-20.0, "mute", np.zeros(HZ, dtype=np.float32), HZ) == 0.0


def test_limits_must_be_ordered() -> None:
    with pytest.raises(ValueError, match="min_lufs must be at most max_lufs"):
        LoudnessConfig(min_lufs=-10.0, max_lufs=-20.0)
