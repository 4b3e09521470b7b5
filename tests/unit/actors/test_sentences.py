from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.sentences import as_sentence, ends_sentence, pieces


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("He said “Stop.” Then he left.", ["He said “Stop.”", "Then he left."]),
        ("Dr. Smith met J. R. Tolkien. He left.", ["Dr. Smith met J. R. Tolkien.", "He left."]),
        ("A Sra. Lima saiu. Ninguém viu.", ["A Sra. Lima saiu.", "Ninguém viu."]),
        ("It cost 3.50 at example.com. Cheap.", ["It cost 3.50 at example.com.", "Cheap."]),
        ("Wait... what? No.", ["Wait... what?", "No."]),
        ("No. I don't.", ["No.", "I don't."]),
        ("¿Qué? ¡No!", ["¿Qué?", "¡No!"]),
        ("  a\n b\t", ["a b"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert pieces(text, 100) == expected


@pytest.mark.parametrize(
    ("text", "max_characters", "expected"),
    [
        ("we came early, and we stayed until late", 20, ["we came early,", "and we stayed until", "late"]),
        ("a, bcdefghijk lmnop", 15, ["a, bcdefghijk", "lmnop"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("abcde\u0301fg", 5, ["abcd", "e\u0301fg"]),
    ],
    ids=["clause", "clause too early", "no spaces", "combining mark"],
)
def test_long_sentences_are_cut_where_it_hurts_least(text: str, max_characters: int, expected: list[str]) -> None:
    assert pieces(text, max_characters) == expected


@given(st.text(alphabet=st.sampled_from('ab.!? ,;\n"”)Dr\u0301é😀'), max_size=200), st.integers(1, 40))
def test_nothing_is_lost_and_no_piece_is_too_long(text: str, max_characters: int) -> None:
    found = pieces(text, max_characters)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(0 < len(piece) <= max_characters for piece in found)
    assert all(piece == piece.strip() for piece in found)


@pytest.mark.parametrize(
    "text",
    [
        "Yes.",
        "Really?!",
        "He said “no.”",
        "I told him no.",
        "はい。",
        "「はい。」",
        "क्या।",
        "Wait…",
        "هل؟",
        "(It is.)",
        "ہے۔",
        "է։",
    ],
)
def test_what_ends_a_sentence(text: str) -> None:
    assert ends_sentence(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "and",
        "Mr.",
        " Dr.",
        "see e.g.",
        "the U.S.",
        "John F.",
        "o sr.",
        "one,",
        "3.5",
        "(Mr.",
        "Col.",
        "a Exma.",
        "and so on, etc.",
    ],
)
def test_what_does_not(text: str) -> None:
    assert not ends_sentence(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("banana", "Banana."),
        (" é tarde ", "É tarde."),
        ("Yes!", "Yes!"),
        ("「はい。」", "「はい。」"),
        ("one,", "One,"),
        ("", ""),
    ],
)
def test_a_phrase_is_made_a_sentence(text: str, sentence: str) -> None:
    assert as_sentence(text) == sentence
