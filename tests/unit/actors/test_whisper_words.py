from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.transcription._whisper.words import (
    FRAME_S,
    MAX_EXTENSION_S,
    Phrase,
    compression_ratio,
    time_segments,
    without_loops,
)
from actors.types import Word


def phrase(*words: tuple[str, float, float], ratio: float = 1.0) -> Phrase:
    return Phrase(
        text="".join(text for text, _, _ in words),
        words=tuple(Word(text=text, start_s=start_s, end_s=end_s, probability=0.9) for text, start_s, end_s in words),
        mean_log_probability=-0.3,
        no_speech_probability=0.1,
        compression_ratio=ratio,
    )


def speech(duration_s: float, *spans: tuple[float, float]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """bool (num_frames,), true where a frame's middle lies in a span."""
    middles = (np.arange(round(duration_s / FRAME_S)) + 0.5) * FRAME_S
    return np.logical_or.reduce([(middles >= start) & (middles < end) for start, end in spans])


ALWAYS = speech(10.0, (0.0, 10.0))


def test_the_first_word_waits_for_the_voice() -> None:
    (found,) = time_segments([phrase((" Hello", 0.0, 1.5), (" you", 1.5, 1.8))], speech(3.0, (0.96, 1.8)), 3.0)
    assert found.start_s == pytest.approx(0.96, abs=FRAME_S)
    assert found.words[1].start_s == 1.5


def test_the_last_word_lasts_as_long_as_the_voice() -> None:
    (found,) = time_segments([phrase((" Hello", 0.5, 1.0))], speech(3.0, (0.48, 1.2)), 3.0)
    assert found.end_s == pytest.approx(1.2, abs=FRAME_S)


def test_a_word_grows_no_further_than_its_bounds() -> None:
    first, second = time_segments([phrase((" one", 0.5, 1.0)), phrase((" two", 1.1, 2.0))], ALWAYS, 10.0)
    assert first.end_s == second.start_s == 1.1
    assert second.end_s == 2.0 + MAX_EXTENSION_S


def test_words_inside_speech_stay_where_they_are() -> None:
    (found,) = time_segments([phrase((" a", 1.0, 1.2), (" b", 1.2, 1.6), (" c", 1.6, 9.9))], ALWAYS, 10.0)
    assert [(word.start_s, word.end_s) for word in found.words][:2] == [(1.0, 1.2), (1.2, 1.6)]


def test_a_phrase_in_silence_is_an_invention() -> None:
    heard = speech(10.0, (0.0, 2.0))
    found = time_segments(
        [phrase((" Hello", 0.0, 1.0)), phrase((" Thank", 5.0, 5.5), (" you.", 5.5, 6.0))], heard, 10.0
    )
    assert [each.text for each in found] == ["Hello"]


def test_a_number_is_one_word_with_its_points_and_commas() -> None:
    said = phrase((" About", 0.0, 0.4), (" 1", 0.4, 0.7), (",250", 0.7, 1.2), (".50,", 1.2, 1.6), (" at", 1.6, 2.0))
    [segment] = time_segments([said], speech(2.0, (0.0, 2.0)), 2.0)
    assert [word.text for word in segment.words] == [" About", " 1,250.50,", " at"]
    assert (segment.words[1].start_s, segment.words[1].end_s) == (0.4, 1.6)


def test_words_without_length_or_letters_are_no_words() -> None:
    found = time_segments(
        [phrase((" Hi", 1.0, 1.4), (" there", 1.4, 1.4)), phrase((" .", 2.0, 2.5)), phrase()], ALWAYS, 10.0
    )
    assert [(each.text, [word.text for word in each.words]) for each in found] == [("Hi", [" Hi"])]


def test_times_are_clipped_to_the_audio() -> None:
    (found,) = time_segments([phrase((" late", 9.5, 11.0)), phrase((" later", 10.5, 11.0))], ALWAYS, 10.0)
    assert (found.start_s, found.end_s) == (9.5, 10.0)


TIMES = st.floats(-1.0, 12.0, allow_nan=False)
PHRASES = st.lists(
    st.lists(st.tuples(st.sampled_from([" a", "b", " .", " "]), TIMES, TIMES), max_size=5).map(
        lambda words: phrase(*words)
    ),
    max_size=5,
)


@given(PHRASES, st.lists(st.booleans(), min_size=313, max_size=313), st.floats(0.1, 10.0))
def test_whatever_is_heard_words_have_length_and_follow_one_another(
    phrases: list[Phrase], frames: list[bool], duration_s: float
) -> None:
    clock_s = 0.0
    for found in time_segments(phrases, np.array(frames), duration_s):
        assert found.words
        assert (found.start_s, found.end_s) == (found.words[0].start_s, found.words[-1].end_s)
        for word in found.words:
            assert clock_s <= word.start_s < word.end_s <= duration_s
            clock_s = word.end_s


LOOP = phrase((" Thank you for watching." * 12, 0.0, 5.0), ratio=5.0)


def test_a_loop_is_dropped_and_its_neighbours_kept() -> None:
    first = phrase((" We went to the beach today.", 0.0, 1.0), ratio=5.0)
    again = phrase((" we went to the beach today.", 1.0, 2.0), ratio=5.0)
    last = phrase((" It rained.", 8.0, 9.0), ratio=5.0)
    assert list(without_loops([first, again, LOOP, last], 2.4)) == [first, last]


def test_repeating_oneself_is_no_loop_in_a_decode_that_passed() -> None:
    said = [phrase((" No.", 0.0, 1.0)), phrase((" No.", 1.0, 2.0))]
    assert list(without_loops(said, 2.4)) == said


def test_compression_ratio_is_whispers() -> None:
    assert compression_ratio("We kept the windows closed and waited.") < 1.5
    assert compression_ratio(LOOP.text) > 2.4
