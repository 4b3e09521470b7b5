"""The reason for which a registry's client failed is told in whole words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.hub.client import MAX_REASON_CHARACTERS, first_words, last_words

WORDS = st.lists(st.text("abcé:/", min_size=1, max_size=40), max_size=40)


@given(WORDS)
def test_a_long_reason_is_cut_between_words(words: list[str]) -> None:
    text = "\n".join(words)
    for reason, kept in ((first_words(text), slice(0, None)), (last_words(text), slice(None, None, -1))):
        told = reason.split()
        cut = "…" in told
        assert [word for word in told if word != "…"][kept] == words[kept][: len(told) - cut]
        assert cut == (len(text) > MAX_REASON_CHARACTERS)
        assert len(reason) <= MAX_REASON_CHARACTERS + 2


def test_a_reason_without_spaces_is_cut_anywhere() -> None:
    word = "x" * 2 * MAX_REASON_CHARACTERS
    assert first_words(word) == f"{'x' * MAX_REASON_CHARACTERS} …"
    assert last_words(word) == f"… {'x' * MAX_REASON_CHARACTERS}"
