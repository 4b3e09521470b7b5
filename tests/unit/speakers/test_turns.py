"""Pieces become turns, and words get the speaker of their turn."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from actors.types import MAX_PIECE_S, Span, SpeakerTurn, Word
from cluster.speakers.pieces import HOP_S, MIN_PIECE_S, pieces_of
from cluster.speakers.turns import joined, main_speaker, speaker_at, speakers_of, turns_of


def span(start_s: float, end_s: float) -> Span:
    return Span(start_s=start_s, end_s=end_s)


def turn(start_s: float, end_s: float, speaker: str) -> SpeakerTurn:
    return SpeakerTurn(start_s=start_s, end_s=end_s, speaker=speaker)


def words(text: str, step_s: float = 0.4, start_s: float = 0.0) -> list[Word]:
    """A word each ``step_s``, a tenth of a second shorter; ``_`` is a pause as long as a word."""
    found = []
    for index, part in enumerate(text.split()):
        begin_s = start_s + index * step_s
        if part != "_":
            found.append(Word(text=f" {part}", start_s=begin_s, end_s=begin_s + step_s - 0.1, probability=1.0))
    return found


@given(st.floats(0, 100), st.floats(1.1 * MIN_PIECE_S, 40))
def test_pieces_cover_speech_in_small_steps(start_s: float, length_s: float) -> None:
    pieces = list(pieces_of([span(start_s, start_s + length_s)]))
    assert pieces[0].start_s == start_s
    assert abs(pieces[-1].end_s - (start_s + length_s)) < 1e-6
    assert all(0 < piece.duration_s <= MAX_PIECE_S + 1e-6 for piece in pieces)
    assert all(0 < after.start_s - before.start_s <= HOP_S + 1e-6 for before, after in pairwise(pieces))


def test_clicks_have_no_speaker() -> None:
    assert list(pieces_of([span(1.0, 1.05)])) == []


def test_a_change_lies_in_the_middle_of_the_overlap() -> None:
    pieces = [span(0, 1.5), span(0.75, 2.25), span(1.5, 3.0), span(5.0, 6.0)]
    assert turns_of(pieces, ["S1", "S1", "S2", "S2"]) == [
        turn(0, 1.875, "S1"),
        turn(1.875, 3.0, "S2"),
        turn(5.0, 6.0, "S2"),
    ]


@given(st.lists(st.tuples(st.floats(0.2, 10), st.sampled_from("ab")), min_size=1, max_size=20))
def test_turns_do_not_overlap_and_lose_no_speech(stretches: list[tuple[float, str]]) -> None:
    now_s, pieces, speakers = 0.0, [], []
    for length_s, speaker in stretches:
        own = list(pieces_of([span(now_s, now_s + length_s)]))
        pieces += own
        speakers += [speaker] * len(own)
        now_s += length_s
    turns = turns_of(pieces, speakers)
    assert abs(sum(each.end_s - each.start_s for each in turns) - now_s) < 1e-6
    assert all(before.end_s <= after.start_s + 1e-9 for before, after in pairwise(turns))


def test_pauses_inside_a_turn_can_be_joined() -> None:
    turns = [turn(0, 1, "a"), turn(1.3, 2, "a"), turn(2.1, 3, "b"), turn(4, 5, "b")]
    assert joined(turns, 0.5) == [turn(0, 2, "a"), turn(2.1, 3, "b"), turn(4, 5, "b")]


def test_the_nearest_turn_says_who_speaks() -> None:
    turns = [turn(1, 2, "a"), turn(3, 4, "b")]
    assert [speaker_at(turns, time_s) for time_s in (0.0, 1.5, 2.4, 2.6, 9.0)] == ["a", "a", "a", "b", "b"]
    assert speaker_at([], 1.0) == "S1"


def test_who_speaks_longest_is_the_main_speaker() -> None:
    turns = [turn(0, 1, "a"), turn(1, 4, "b"), turn(4, 6, "a")]
    assert main_speaker(turns, 0.0, 6.0) == "a"
    assert main_speaker(turns, 0.0, 4.5) == "b"
    assert main_speaker(turns, 7.0, 8.0) == "a"


def test_a_change_of_speaker_moves_to_the_end_of_a_sentence() -> None:
    said = words("Are you sure? Yes I am")
    # The turn is known to half a second: the change comes a word late, then a word early.
    for change_s in (1.55, 0.75):
        assert speakers_of(said, [turn(0, change_s, "a"), turn(change_s, 3, "b")]) == ["a"] * 3 + ["b"] * 3


def test_a_change_inside_a_sentence_moves_to_a_pause() -> None:
    said = words("so I thought _ well no wait")
    assert speakers_of(said, [turn(0, 1.9, "a"), turn(1.9, 3, "b")]) == ["a"] * 3 + ["b"] * 3


def test_a_change_far_from_any_edge_stays() -> None:
    said = words("one two three four five six seven. Eight", step_s=0.5)
    assert speakers_of(said, [turn(0, 1.5, "a"), turn(1.5, 9, "b")]) == ["a"] * 3 + ["b"] * 5


def test_a_short_answer_between_two_changes_stays_whole() -> None:
    said = words("Is it late? Yes. Then we go")
    turns = [turn(0, 1.2, "a"), turn(1.2, 1.6, "b"), turn(1.6, 4, "a")]
    assert speakers_of(said, turns) == ["a"] * 3 + ["b"] + ["a"] * 3


@given(st.lists(st.tuples(st.floats(0.05, 3), st.sampled_from("abc")), max_size=8), st.integers(0, 30))
def test_every_word_has_a_speaker_of_a_turn(stretches: list[tuple[float, str]], num_words: int) -> None:
    turns, now_s = [], 0.0
    for length_s, speaker in stretches:
        turns.append(turn(now_s, now_s + length_s, speaker))
        now_s += length_s
    said = words(" ".join(["word"] * num_words))
    assert len(speakers := speakers_of(said, turns)) == num_words
    assert set(speakers) <= ({each.speaker for each in turns} or {"S1"})
