from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.phonemes import espeak, split

texts = st.text(alphabet="aɐ̃ʃ ,;.!?", max_size=300)


@given(texts, st.integers(1, 60))
def test_pieces_are_the_phonemes_and_none_is_over_the_limit(said: str, limit: int) -> None:
    pieces = split(said, limit)
    assert "".join(map(str, pieces)) == said
    assert all(len(piece) <= limit for piece in pieces)


@given(texts, st.integers(6, 60))
def test_no_stub_is_left_at_the_end(said: str, limit: int) -> None:
    pieces = split(said, limit)
    assert len(pieces) == 1 or min(map(len, pieces)) >= limit // 3


def test_the_best_break_near_the_middle_is_taken() -> None:
    assert split("aaa, aa. aaa aa", 10) == ["aaa, aa.", " aaa aa"]
    assert split("aaaa aa, aaaa aa", 10) == ["aaaa aa,", " aaaa aa"]
    assert split("aaaaaaa aaaaaaa", 10) == ["aaaaaaa ", "aaaaaaa"]
    assert split("aaaaaaaaaaaa", 10) == ["aaaaaa", "aaaaaa"]


def test_runs_of_phonemes_split_as_letters_do() -> None:
    assert split(("aɪ", " ", "eɪ", "b"), 2) == [("aɪ", " "), ("eɪ", "b")]


def test_words_that_espeak_misreads_are_said_right() -> None:
    """ "Reais" was read as "rees"; Portuguese reads it as it is, and IPA stays as it was given."""
    [said] = espeak("Two Reais, ten [[reais]].", "en-us")
    assert "".join(said).replace("ˈ", "") == "tuː ɹeɪɑːɪs, tɛn reais."
    assert "ɹeɪɑːɪs" not in "".join(espeak("dois reais", "pt-br")[0]).replace("ˈ", "")
