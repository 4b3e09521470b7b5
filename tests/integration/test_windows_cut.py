"""Voice detection and window cutting on real speech with the real model."""

from __future__ import annotations

import numpy as np
import pytest

from actors.types import ASR_HZ, Samples, Window
from cluster.audio.config import WindowConfig
from cluster.audio.vad import CHUNK_SAMPLES, VoiceActivity
from cluster.audio.windows import cut_windows
from tests.media import music, silence, speech

SENTENCES = ("The harbour was quiet before the ships arrived.", "We kept the windows closed, and nobody asked us why.")


@pytest.fixture(scope="module")
def talk() -> Samples:
    """About a minute of speech with known pauses, after and before silence."""
    spoken = [speech(text, ASR_HZ, 1)[:, 0] for text in SENTENCES]
    parts = [silence(1.0, ASR_HZ, 1)[:, 0]]
    for number in range(16):
        parts += [spoken[number % 2], silence(0.4 + 0.1 * (number % 4), ASR_HZ, 1)[:, 0]]
    return np.concatenate([*parts, silence(3.0, ASR_HZ, 1)[:, 0]])


def in_blocks(samples: Samples, size: int) -> list[Samples]:
    return [samples[at : at + size] for at in range(0, len(samples), size)]


def probabilities(samples: Samples, size: int) -> Samples:
    voice = VoiceActivity()
    return np.concatenate([*(voice.probabilities(block) for block in in_blocks(samples, size)), voice.finish()])


@pytest.mark.parametrize("size", [100, 512, 1000, 16_000, 999_999_999])
def test_probabilities_do_not_depend_on_the_blocks(talk: Samples, size: int) -> None:
    some = talk[: 5 * ASR_HZ + 77]
    found = probabilities(some, size)
    assert len(found) == -(-len(some) // CHUNK_SAMPLES)
    np.testing.assert_allclose(found, probabilities(some, CHUNK_SAMPLES * 7), atol=1e-4)


def test_probabilities_are_those_of_the_library(talk: Samples) -> None:
    from faster_whisper.vad import get_vad_model

    some = talk[: CHUNK_SAMPLES * 200]
    wanted = get_vad_model()(some.copy()).reshape(-1)
    # The library zeroes the end of the last chunk in place, through a view it takes for the context.
    np.testing.assert_allclose(probabilities(some, 16_000)[:-1], wanted[:-1], atol=1e-4)


def test_speech_is_told_from_silence_and_music(talk: Samples) -> None:
    assert np.mean(probabilities(talk, ASR_HZ) > 0.5) > 0.5
    assert np.mean(probabilities(silence(5.0, ASR_HZ, 1)[:, 0], ASR_HZ) > 0.5) == 0.0
    assert np.mean(probabilities(music(10.0, ASR_HZ, 1)[:, 0], ASR_HZ) > 0.5) < 0.05


def test_windows_do_not_depend_on_the_blocks(talk: Samples) -> None:
    wanted = [summary(window) for window in cut_windows(in_blocks(talk, ASR_HZ))]
    for size in (777, 32_768, len(talk)):
        assert [summary(window) for window in cut_windows(in_blocks(talk, size))] == wanted


def summary(window: Window) -> tuple[object, ...]:
    return window.index, window.start_s, window.speech, window.next_speech_s, window.samples.tobytes()


def test_windows_hold_the_speech_and_the_samples_of_their_time(talk: Samples) -> None:
    config = WindowConfig()
    windows = list(cut_windows(in_blocks(talk, ASR_HZ), config))
    assert [window.index for window in windows] == list(range(len(windows)))
    assert windows[0].end_s - windows[0].start_s <= config.first_max_s
    assert len(windows) >= 3
    for window in windows:
        start = round(window.start_s * ASR_HZ)
        np.testing.assert_array_equal(window.samples, talk[start : start + len(window.samples)])
        assert len(window.samples) <= config.max_s * ASR_HZ
    covered = sum(span.duration_s for window in windows for span in window.speech)
    loud_s = np.count_nonzero(np.abs(talk) > 0.02) / ASR_HZ
    assert covered > loud_s
    assert windows[-1].next_speech_s is None


def test_a_window_leaves_before_the_stream_is_read_to_its_end(talk: Samples) -> None:
    taken = 0

    def stream() -> object:
        nonlocal taken
        for block in in_blocks(talk, ASR_HZ):
            taken += len(block)
            yield block

    first = next(cut_windows(stream()))  # type: ignore[arg-type]
    assert taken / ASR_HZ < first.end_s + 6.0


def test_silence_and_nothing_give_no_window() -> None:
    assert list(cut_windows([silence(20.0, ASR_HZ, 1)[:, 0]])) == []
    assert list(cut_windows([])) == []
