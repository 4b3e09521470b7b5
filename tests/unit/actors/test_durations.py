from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.durations import fit_frames

naturals = st.lists(st.floats(0, 200, width=32), min_size=1, max_size=80).filter(lambda row: max(row) > 0)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    natural = np.array(draw(naturals), np.float32)
    min_frames = draw(st.integers(0, 3))
    extra = draw(st.integers(0, 5000))
    return natural, min_frames * natural.size + extra, min_frames


@given(cases())
def test_sum_is_exact_and_every_token_keeps_its_minimum(case: tuple[np.ndarray, int, int]) -> None:
    natural, num_frames, min_frames = case
    frames = fit_frames(natural, num_frames, min_frames=min_frames)
    assert frames.dtype == np.int64
    assert frames.shape == natural.shape
    assert frames.sum() == num_frames
    assert frames.min() >= min_frames


@given(cases())
def test_a_longer_token_is_never_given_less(case: tuple[np.ndarray, int, int]) -> None:
    natural, num_frames, min_frames = case
    frames = fit_frames(natural, num_frames, min_frames=min_frames)
    longer = natural[:, None] > natural[None, :]
    assert not (longer & (frames[:, None] < frames[None, :])).any()


@given(cases())
def test_same_question_same_answer(case: tuple[np.ndarray, int, int]) -> None:
    natural, num_frames, min_frames = case
    first = fit_frames(natural, num_frames, min_frames=min_frames)
    assert (first == fit_frames(natural.copy(), num_frames, min_frames=min_frames)).all()


@given(naturals, st.integers(0, 5000))
def test_without_minimum_no_token_is_off_by_a_frame(row: list[float], num_frames: int) -> None:
    natural = np.array(row)
    exact = natural * (num_frames / natural.sum())
    assert np.abs(fit_frames(natural, num_frames, min_frames=0) - exact).max() < 1 + 1e-6


@given(st.lists(st.integers(1, 50), min_size=1, max_size=80))
def test_whole_natural_durations_are_kept_at_their_own_sum(row: list[int]) -> None:
    assert fit_frames(np.array(row, np.float32), sum(row)).tolist() == row


def test_short_tokens_are_held_and_long_ones_give_way() -> None:
    assert fit_frames(np.array([1.0, 1.0, 10.0]), 6).tolist() == [1, 1, 4]


@pytest.mark.parametrize(
    ("natural", "num_frames"), [([], 3), ([0.0, 0.0], 3), ([1.0, -1.0], 3), ([np.nan], 3), ([1.0, 1.0], 1)]
)
def test_impossible_questions_are_refused(natural: list[float], num_frames: int) -> None:
    with pytest.raises(ValueError, match="found"):
        fit_frames(np.array(natural), num_frames)
