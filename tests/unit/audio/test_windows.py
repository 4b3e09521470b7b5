from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from actors.types import ASR_HZ, Samples
from cluster.audio.config import WindowConfig
from cluster.audio.vad import CHUNK_S, CHUNK_SAMPLES, VoiceActivity
from cluster.audio.windows import PlannedWindow, WindowPlanner, cut_windows

CONFIG = WindowConfig()
LOUD_DB, QUIET_DB = -20.0, -40.0


def chunks(seconds: float) -> int:
    return round(seconds / CHUNK_S)


def plan(
    probabilities: list[float], config: WindowConfig = CONFIG, loudness: list[float] | None = None
) -> list[PlannedWindow]:
    planner = WindowPlanner(config)
    planned: list[PlannedWindow] = []
    for at, probability in enumerate(probabilities):
        planned += planner.push(probability, loudness[at] if loudness else LOUD_DB)
    return planned + planner.finish(len(probabilities) * CHUNK_S)


def talk(*lengths_s: float, first_silent: bool = True) -> list[float]:
    """Silence and speech in turns."""
    values: list[float] = []
    for at, length_s in enumerate(lengths_s):
        values += [0.02 if (at % 2 == 0) == first_silent else 0.95] * chunks(length_s)
    return values


runs = st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.6, 1.0]), st.integers(1, 400)), min_size=1, max_size=30)


@given(runs, st.integers(0, 2**16))
def test_windows_are_ordered_short_enough_and_cover_all_speech(parts: list[tuple[float, int]], seed: int) -> None:
    probabilities = [value for value, length in parts for _ in range(length)]
    windows = plan(probabilities, loudness=[-30.0 + (seed * at) % 17 for at in range(len(probabilities))])
    for before, after in itertools.pairwise(windows):
        assert before.end_s <= after.start_s + 1e-9
        assert before.next_speech_s == pytest.approx(after.speech[0].start_s)
        assert before.end_s <= after.speech[0].start_s + 1e-9
    if windows:
        assert windows[-1].next_speech_s is None
        assert windows[-1].end_s <= len(probabilities) * CHUNK_S + 1e-9
    for number, window in enumerate(windows):
        assert window.end_s - window.start_s <= (CONFIG.max_s if number else CONFIG.first_max_s) + 1e-9
        assert window.start_s <= window.speech[0].start_s
        assert window.speech[-1].end_s <= window.end_s
        assert all(span.start_s < span.end_s for span in window.speech)
    heard = {
        at for window in windows for span in window.speech for at in range(chunks(span.start_s), chunks(span.end_s))
    }
    assert heard == certain_speech(probabilities)


def certain_speech(probabilities: list[float]) -> set[int]:
    """The chunks that must be in spans, by the definition of hysteresis rather than by streaming."""
    min_speech, min_silence = chunks(CONFIG.min_speech_s), chunks(CONFIG.min_silence_s)
    found: set[int] = set()
    at = 0
    while at < len(probabilities):
        if probabilities[at] < CONFIG.threshold:
            at += 1
            continue
        start, end, quiet = at, at, 0
        confirmed = False
        while at < len(probabilities) and quiet < min_silence:
            quiet = 0 if probabilities[at] >= CONFIG.exit_threshold else quiet + 1
            at += 1
            end = at - quiet
            confirmed |= quiet == 0 and at - start >= min_speech
        if confirmed:
            found |= set(range(start, end))
    return found


@given(runs)
def test_no_window_begins_before_what_the_planner_said_it_needs(parts: list[tuple[float, int]]) -> None:
    planner = WindowPlanner(CONFIG)
    needed_s = 0.0
    probabilities = [value for value, length in parts for _ in range(length)]
    for probability in probabilities:
        for window in planner.push(probability, LOUD_DB):
            assert window.start_s >= needed_s - 1e-9
        assert planner.needed_from_s >= needed_s - 1e-9
        needed_s = planner.needed_from_s
    assert all(window.start_s >= needed_s - 1e-9 for window in planner.finish(len(probabilities) * CHUNK_S))


def test_silence_makes_no_window() -> None:
    assert plan(talk(60.0)) == []
    assert plan([]) == []


def test_a_click_is_not_speech() -> None:
    assert plan([0.0] * 20 + [0.9] * 2 + [0.0] * 50) == []


def test_a_window_leaves_as_soon_as_the_next_speech_is_sure() -> None:
    planner = WindowPlanner(CONFIG)
    values = talk(1.0, 3.0, 5.0, 1.0)
    left_at = [at for at, value in enumerate(values) if planner.push(value, LOUD_DB)]
    assert left_at == [chunks(1.0) + chunks(3.0) + chunks(5.0) + chunks(CONFIG.min_speech_s) - 1]


def test_the_first_window_is_short_and_later_ones_are_cut_at_the_longest_late_pause() -> None:
    # 2 s of talk and 0.4 s of pause in turns; one pause of 1 s at about 18 s after the first window.
    lengths = [0.3]
    for number in range(30):
        lengths += [2.0, 1.0 if number == 11 else 0.4]
    windows = plan(talk(*lengths))
    assert 6.0 <= windows[0].end_s - windows[0].start_s <= 12.0
    pause_s = windows[1].next_speech_s - windows[1].speech[-1].end_s if windows[1].next_speech_s else 0.0
    assert pause_s == pytest.approx(1.0, abs=2 * CHUNK_S)
    assert windows[1].end_s - windows[1].start_s >= CONFIG.target_s


def test_a_long_pause_always_ends_a_window() -> None:
    windows = plan(talk(0.5, 1.5, 2.5, 1.5, 0.5))
    assert len(windows) == 2
    assert windows[0].end_s == pytest.approx(2.0 + CONFIG.pad_s, abs=CHUNK_S)


def test_unbroken_talk_is_cut_where_it_is_quietest() -> None:
    values = [0.95] * chunks(60.0)
    quiet = {chunks(9.0), chunks(30.0)}
    windows = plan(values, loudness=[QUIET_DB if at in quiet else LOUD_DB for at in range(len(values))])
    cuts_s = [window.end_s for window in windows[:-1]]
    assert cuts_s[:2] == [pytest.approx(9.0, abs=3 * CHUNK_S), pytest.approx(30.0, abs=3 * CHUNK_S)]
    assert windows[0].next_speech_s == windows[0].end_s == windows[1].start_s


def test_memory_is_one_window() -> None:
    planner = WindowPlanner(CONFIG)
    for value in talk(*[2.0, 5.0] * 200):
        planner.push(value, LOUD_DB)
        assert len(planner._loudness) <= chunks(CONFIG.max_s)
        assert len(planner._spans.closed) <= chunks(CONFIG.max_s)


@pytest.mark.parametrize("changes", [{"target_s": 29.9}, {"exit_threshold": 0.9}, {"max_s": 31.0}, {"tresh": 0.5}])
def test_configurations_that_cannot_work_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        WindowConfig.model_validate(changes)


def test_a_window_carries_the_probability_of_speech_of_each_of_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector is replaced by one that finds in each chunk the probability that its first sample says."""
    values = np.array(talk(1.0, 5.0, 1.5, 20.0, 3.0, 4.0, 0.7), np.float32)
    values += np.linspace(0, 0.01, len(values), dtype=np.float32)  # no two alike
    samples = np.repeat(values, CHUNK_SAMPLES)[:-200]  # the last chunk is short

    def probabilities(self: VoiceActivity, block: Samples) -> Samples:
        return block[::CHUNK_SAMPLES][: len(block) // CHUNK_SAMPLES]

    monkeypatch.setattr(VoiceActivity, "__init__", lambda self: None)
    monkeypatch.setattr(VoiceActivity, "probabilities", probabilities)
    monkeypatch.setattr(VoiceActivity, "finish", lambda self: values[-1:])
    blocks = np.array_split(samples, 37)
    windows = list(cut_windows(blocks))
    assert len(windows) >= 3
    for window in windows:
        assert window.voice is not None
        assert len(window.voice) == -(-len(window.samples) // CHUNK_SAMPLES)
        start = round(window.start_s * ASR_HZ)
        middles = start + CHUNK_SAMPLES * np.arange(len(window.voice)) + CHUNK_SAMPLES // 2
        expected = values[np.minimum(middles // CHUNK_SAMPLES, len(values) - 1)]
        assert window.voice.tolist() == expected.tolist()
