"""Quiet audio is raised for detectors; ordinary audio and silence are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from actors.transcription._whisper.level import levelled
from actors.types import ASR_HZ, Samples
from cluster.audio.level import QuietLevel


def tone(dbfs: float, duration_s: float = 2.0) -> Samples:
    times = np.arange(round(duration_s * ASR_HZ)) / ASR_HZ
    return (10 ** (dbfs / 20) * np.sqrt(2) * np.sin(2 * np.pi * 220 * times)).astype(np.float32)


def level_dbfs(samples: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


@pytest.mark.parametrize("dbfs", [-65.0, -45.0])
def test_quiet_audio_is_raised_without_clipping(dbfs: float) -> None:
    quiet = tone(dbfs)
    assert level_dbfs(levelled(quiet)) == pytest.approx(-20.0, abs=0.1)
    assert level_dbfs(QuietLevel().raised(quiet)) == pytest.approx(-25.0, abs=0.1)
    quiet[100] = 0.5
    assert np.max(np.abs(levelled(quiet))) <= 1.0
    assert np.max(np.abs(QuietLevel().raised(quiet))) <= 1.0


@pytest.mark.parametrize("samples", [tone(-30.0), np.zeros(ASR_HZ, np.float32), np.zeros(0, np.float32)])
def test_ordinary_audio_and_silence_stay_as_they_are(samples: Samples) -> None:
    assert levelled(samples) is samples
    assert QuietLevel().raised(samples) is samples


def test_a_pause_after_speech_is_not_raised_to_its_level() -> None:
    level = QuietLevel()
    level.raised(tone(-20.0))
    assert level_dbfs(level.raised(tone(-60.0))) == pytest.approx(-60.0, abs=0.1)
