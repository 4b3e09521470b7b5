from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.translation._variants import variants


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Well, it is late.", "en", "It is late."),
        ("You know, it is late.", "en-GB", "It is late."),
        ("But it is late.", "en", "It is late."),
        ("It is late, and that is not good.", "en", "It's late, and that isn't good."),
        ("We can't wait.", "en", "We cannot wait."),
        ("In Canada, the water rises.", "en", "In Canada the water rises."),
        ("Então, é tarde.", "pt-BR", "É tarde."),
        ("Ele mora em uma casa.", "pt", "Ele mora numa casa."),
        ("The end.", "en", "the end."),
        ("The very last end.", "en", "the very last end."),
    ],
)
def test_what_carries_no_meaning_is_changed(text: str, language: str, expected: str) -> None:
    assert expected in list(variants(text, language))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Well water is cold.", "Well water"),  # no filler
        ("Tell me what it is.", "it is."),  # "what it's." is no English
        ("It rose by 14,000 metres.", "14,000"),
    ],
)
def test_what_carries_meaning_stays(text: str, kept: str) -> None:
    assert all(kept.lower() in variant.lower() for variant in variants(text, "en"))


def test_a_whole_sentence_keeps_its_capital() -> None:
    assert all(variant[0] == "T" for variant in variants("The girl who came, cold and wet, was tired.", "en"))


@given(st.text(max_size=80), st.sampled_from(["en", "pt", "de", "zh"]))
def test_variants_are_others_and_never_empty(text: str, language: str) -> None:
    found = list(variants(text, language))
    assert text not in found
    assert all(variant.strip() for variant in found)
    assert found == list(variants(text, language))
