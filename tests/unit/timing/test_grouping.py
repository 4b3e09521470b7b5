from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.types import (
    ASR_HZ,
    Segment,
    Span,
    SpeakerTurn,
    TranscribedSegment,
    Transcript,
    Unit,
    Window,
    Word,
    media_time,
)
from cluster.timing.config import GroupConfig
from cluster.timing.grouping import Grouper, segments_of

CONFIG = GroupConfig()
END_S = 10_000.0


def words(*spoken: tuple[str, float, float]) -> tuple[Word, ...]:
    return tuple(Word(text=text, start_s=start_s, end_s=end_s, probability=0.9) for text, start_s, end_s in spoken)


def transcript(*segments: tuple[Word, ...], language: str = "en") -> Transcript:
    return Transcript(
        language=language,
        language_probability=1.0,
        segments=tuple(
            TranscribedSegment(
                start_s=segment[0].start_s,
                end_s=segment[-1].end_s,
                text="".join(word.text for word in segment).strip(),
                words=segment,
                mean_log_probability=-0.2,
                no_speech_probability=0.01,
                compression_ratio=1.2,
            )
            for segment in segments
        ),
    )


TURNS = (SpeakerTurn(start_s=0.0, end_s=1000.0, speaker="a"),)


def window(
    start_s: float, duration_s: float, next_speech_s: float | None, speech: Sequence[Span] | None = None, index: int = 0
) -> Window:
    everywhere = (Span(start_s=start_s, end_s=start_s + duration_s),)
    return Window(
        index=index,
        start_s=start_s,
        samples=np.zeros(round(duration_s * ASR_HZ), dtype=np.float32),
        speech=everywhere if speech is None else tuple(speech),
        next_speech_s=next_speech_s,
    )


def texts(segments: Sequence[Segment]) -> list[str]:
    return [segment.text for segment in segments]


def heard(*spoken: tuple[str, float, float], config: GroupConfig = CONFIG) -> list[str]:
    return texts(segments_of(window(0, 30, None), transcript(words(*spoken)), TURNS, config))


def segment(text: str, start_s: float, end_s: float, speaker: str = "a", parts: tuple[Word, ...] = ()) -> Segment:
    return Segment(
        id=f"{text}@{start_s}",
        start_s=start_s,
        end_s=end_s,
        text=text,
        language="en",
        speaker=speaker,
        words=parts,
        mean_log_probability=-0.2,
        no_speech_probability=0.01,
    )


# --- segments


def test_a_sentence_end_divides() -> None:
    assert heard((" Hello.", 0, 0.5), (" How", 0.5, 0.7), (" are", 0.7, 0.8), (" you?", 0.8, 1)) == [
        "Hello.",
        "How are you?",
    ]


def test_a_pause_divides_a_sentence_unless_a_fragment_would_be_left() -> None:
    long = [(" when", 0.0, 0.6), (" I", 0.6, 0.8), (" came", 0.8, 1.4), (" home", 2.0, 2.6), (" he", 2.6, 3.2)]
    assert heard(*long) == ["when I came", "home he"]
    assert heard(*long, (" left.", 3.2, 4.0)) == ["when I came", "home he left."]
    assert heard((" well", 0.0, 0.5), *[(text, start + 1, end + 1) for text, start, end in long[:3]]) == [
        "well when I came"
    ]


def test_a_long_pause_always_divides() -> None:
    assert heard((" well", 0, 0.5), (" yes", 2.0, 2.4)) == ["well", "yes"]


def test_times_are_on_the_media_timeline_and_words_keep_their_own() -> None:
    said = transcript(words((" one", 0.5, 1.0), (" two.", 1.0, 1.5)), words((" Three", 1.5, 2.25)))
    first, second = segments_of(window(100.0, 10.0, None, index=7), said, TURNS, CONFIG)
    assert (first.id, first.start_s, first.end_s) == ("s0007-00", 100.5, 101.5)
    assert (second.id, second.start_s, second.end_s) == ("s0007-01", 101.5, 102.25)
    assert [word.start_s for word in first.words] == [100.5, 101.0]


def test_words_where_no_voice_was_heard_are_dropped() -> None:
    speech = [Span(start_s=0.0, end_s=2.0), Span(start_s=20.0, end_s=21.0)]
    said = transcript(words((" yes", 0.5, 1.0), (" thank", 10.0, 10.5), (" you", 10.5, 11.0), (" no.", 20.1, 20.8)))
    assert texts(segments_of(window(0, 30, None, speech), said, TURNS, CONFIG)) == ["yes", "no."]


@pytest.mark.parametrize(
    ("said", "language"),
    [
        (["今日", "は", "天気", "が", "いい。", "散歩", "しよう。"], "ja"),
        (["你", "好。", "我们", "走", "吧。"], "zh"),
        (["สวัสดี", "ครับ"], "th"),
    ],
)
def test_scripts_without_spaces_get_none(said: list[str], language: str) -> None:
    spoken = words(*((text, 0.2 * index, 0.2 * index + 0.2) for index, text in enumerate(said)))
    segments = segments_of(window(0, 30, None), transcript(spoken, language=language), TURNS, CONFIG)
    assert "".join(texts(segments)) == "".join(said)
    unit = Unit(id="u", segments=tuple(segments), room_end_s=30.0)
    assert unit.text == "".join(said)


def test_a_unit_of_spaced_script_gets_spaces_back() -> None:
    segments = segments_of(
        window(0, 30, None), transcript(words((" One.", 0, 1), (" Two", 1, 2), (" three.", 2, 3))), TURNS, CONFIG
    )
    assert Unit(id="u", segments=tuple(segments), room_end_s=30.0).text == "One. Two three."


# --- units


def grouped(*pushes: tuple[Segment, float | None], config: GroupConfig = CONFIG) -> list[Unit]:
    grouper = Grouper(config, END_S)
    units = [unit for pushed, next_start_s in pushes for unit in grouper.push(pushed, next_start_s)]
    return units + grouper.flush()


def shape(units: Sequence[Unit]) -> list[tuple[list[str], float]]:
    return [(texts(unit.segments), unit.room_end_s) for unit in units]


def test_segments_join_until_their_sentence_ends() -> None:
    units = grouped(
        (segment("when I", 0, 1), 1.5), (segment("came home.", 1.5, 3), 3.6), (segment("Then I slept.", 3.6, 5), None)
    )
    assert shape(units) == [(["when I", "came home."], 3.6), (["Then I slept."], END_S)]


def test_a_unit_leaves_as_soon_as_it_is_complete() -> None:
    grouper = Grouper(CONFIG, END_S)
    assert grouper.push(segment("One", 0, 1), 1.2) == []
    assert shape(grouper.push(segment("two.", 1.2, 2), 2.1)) == [(["One", "two."], 2.1)]
    assert grouper.flush() == []


def test_a_long_pause_ends_a_unit() -> None:
    units = grouped((segment("well", 0, 1), 2.6), (segment("yes", 2.6, 3), None))
    assert shape(units) == [(["well"], 2.6), (["yes"], END_S)]


def test_a_pause_that_only_seemed_short_ends_a_unit() -> None:
    """The voice detector heard something at 1.2 s in which there were no words."""
    units = grouped((segment("well", 0, 1), 1.2), (segment("yes.", 60, 61), None))
    assert shape(units) == [(["well"], 60), (["yes."], END_S)]


def test_another_speaker_ends_a_unit() -> None:
    units = grouped((segment("do you", 0, 1), 1.1), (segment("yes.", 1.1, 2, speaker="b"), None))
    assert shape(units) == [(["do you"], 1.1), (["yes."], END_S)]


def test_an_endless_sentence_is_closed_once_it_is_long() -> None:
    pushes = [(segment(f"{i}", i, i + 0.9), i + 1.0) for i in range(30)]
    sizes = [len(unit.segments) for unit in grouped(*pushes, config=GroupConfig(max_unit_s=10))]
    assert sizes == [11, 11, 8]


def test_room_never_ends_before_its_line_begins() -> None:
    (unit, _) = grouped((segment("one.", 5, 6), 4.0), (segment("two.", 6, 7), None))
    assert unit.room_end_s == 5


@st.composite
def talks(draw: st.DrawFn) -> list[list[Word]]:
    """Windows of words, in order, with pauses of all lengths."""
    clock_s, windows = 0.0, []
    text = st.sampled_from([" the", " word", " yes.", " Mr.", " so,", " ok?", "語", "だ。"])
    for _ in range(draw(st.integers(1, 6))):
        said = []
        for _ in range(draw(st.integers(0, 12))):
            start_s = media_time(clock_s + draw(st.sampled_from([0.0, 0.0, 0.1, 0.5, 2.0, 9.0])))
            clock_s = media_time(start_s + draw(st.floats(0.05, 1.5)))
            said.append(Word(text=draw(text), start_s=start_s, end_s=clock_s, probability=0.5))
        windows.append(said)
        clock_s += draw(st.sampled_from([0.0, 0.3, 5.0]))
    return windows


@given(talks(), st.floats(0.1, 2), st.floats(0, 2), st.floats(0.2, 3), st.floats(1, 20))
def test_every_word_is_in_one_segment_of_one_unit_in_order(
    talk: list[list[Word]], phrase_pause_s: float, min_phrase_s: float, unit_pause_s: float, max_unit_s: float
) -> None:
    config = GroupConfig(
        phrase_pause_s=phrase_pause_s, min_phrase_s=min_phrase_s, unit_pause_s=unit_pause_s, max_unit_s=max_unit_s
    )
    everything = [word for said in talk for word in said]
    grouper, units = Grouper(config, END_S), []
    for index, said in enumerate(talk):
        later = [word.start_s for after in talk[index + 1 :] for word in after]
        now = window(0.0, 1e-3, later[0] if later else None, [Span(start_s=0, end_s=END_S)], index)
        segments = segments_of(now, transcript(tuple(said)) if said else transcript(), TURNS, config)
        starts = [*(item.start_s for item in segments[1:]), now.next_speech_s]
        for item, next_start_s in zip(segments, starts, strict=False):
            units += grouper.push(item, next_start_s)
    units += grouper.flush()

    assert [word for unit in units for item in unit.segments for word in item.words] == everything
    segments = [item for unit in units for item in unit.segments]
    assert all(item.start_s < item.end_s for item in segments)
    assert all(before.end_s <= after.start_s for before, after in itertools.pairwise(segments))
    assert len({item.id for item in segments}) == len(segments)
    assert [unit.id for unit in units] == [f"u{index:04d}" for index in range(len(units))]
    for unit, following in itertools.pairwise(units):
        assert unit.segments[-1].start_s <= unit.room_end_s <= following.segments[0].start_s


# --- waiting


def test_a_unit_that_would_wait_too_long_leaves_before_its_sentence_ends() -> None:
    grouper = Grouper(GroupConfig(max_wait_s=12), END_S)
    assert grouper.push(segment("when I", 0, 2), 2.5) == []
    assert grouper.wait(14.0) == []
    assert shape(grouper.wait(14.1)) == [(["when I"], 2.5)]
    assert grouper.wait(1000.0) == []
    assert shape(grouper.push(segment("came home.", 2.5, 3), None)) == [(["came home."], END_S)]


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(["and", "so.", "well,"]), st.floats(0.1, 4)), max_size=6), max_size=8),
    st.floats(0, 40),
    st.floats(5, 30),
)
def test_no_unit_waits_longer_than_is_set(
    talk: list[list[tuple[str, float]]], max_wait_s: float, max_window_s: float
) -> None:
    """In media time, from the end of its first segment; a window is heard all at once, at its end."""
    grouper = Grouper(GroupConfig(max_wait_s=max_wait_s, max_unit_s=60), END_S)
    now_s, heard_until_s, released_at_s = 0.0, {}, {}
    for spoken in talk:
        edges = list(itertools.accumulate((length_s for _, length_s in spoken), initial=now_s))
        end_s = min(edges[-1], now_s + max_window_s)
        segments = [
            segment(text, first_s, last_s)
            for (text, _), (first_s, last_s) in zip(spoken, itertools.pairwise(edges), strict=True)
            if last_s <= end_s
        ]
        units = [unit for each in segments for unit in grouper.push(each, each.end_s)]
        heard_until_s |= {each.id: end_s for each in segments}
        released_at_s |= {unit.id: (unit, end_s) for unit in units}
        units = grouper.wait(end_s + max_window_s)
        released_at_s |= {unit.id: (unit, end_s) for unit in units}
        now_s = end_s
    for unit, at_s in released_at_s.values():
        first = unit.segments[0]
        assert at_s <= max(heard_until_s[first.id], first.end_s + max_wait_s) + 1e-9
