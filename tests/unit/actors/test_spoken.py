"""Written forms as they are read aloud: tables of (written, spoken) beside this file, and what holds for any text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.spoken import has_words, spoken_form
from actors.spoken.text import languages_with_rules

TABLES = Path(__file__).parent / "spoken"
LEAST_ROWS = {"pt": 80, "en": 80, "es": 25, "fr": 25, "it": 25}


def rows(language: str) -> list[tuple[str, str]]:
    lines = (TABLES / f"{language}.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t") for line in lines]
    return [(written, spoken) for written, spoken in pairs]


CASES = [(language, *row) for language in LEAST_ROWS for row in rows(language)]


@pytest.mark.parametrize(("language", "written", "spoken"), CASES)
def test_written_forms_are_read_as_people_read_them(language: str, written: str, spoken: str) -> None:
    assert spoken_form(written, language) == spoken


@pytest.mark.parametrize("language", LEAST_ROWS)
def test_every_language_has_a_table_of_its_own(language: str) -> None:
    assert len(rows(language)) >= LEAST_ROWS[language]
    assert language in languages_with_rules()


@pytest.mark.parametrize("language", ["pt", "en", "es", "fr", "it"])
def test_text_without_written_forms_is_not_touched(language: str) -> None:
    text = "  Uma frase  simples, sem nada de especial; e outra!  "
    assert spoken_form(text, language) == text


@pytest.mark.parametrize(("language", "text"), [("de", "Das kostet 45,30 €."), ("ja", "百円です。")])
def test_a_language_without_rules_keeps_its_words(language: str, text: str) -> None:
    assert spoken_form(text, language) == text
    assert spoken_form(f"{text} 😄", language) == text


@pytest.mark.parametrize("text", ["", "   ", "...", "😄", "♪", "—", "👍🏽", "?!"])
def test_signs_alone_have_no_words(text: str) -> None:
    for language in ("pt", "en"):
        assert not has_words(spoken_form(text, language))


def test_a_region_has_the_rules_of_its_language() -> None:
    assert spoken_form("5 kg", "pt-BR") == spoken_form("5 kg", "pt") == "cinco quilos"


def test_a_number_too_large_to_name_is_read_digit_by_digit() -> None:
    assert spoken_form("9" * 40, "en") == " ".join(["nine"] * 40)


@given(
    st.sampled_from(sorted(LEAST_ROWS)),
    st.text(alphabet=st.sampled_from("0123456789.,:/-%$€º°ªIVX hkm@#éa"), max_size=30),
)
def test_no_digit_is_left_and_nothing_fails(language: str, text: str) -> None:
    spoken = spoken_form(text, language)
    assert not any(character.isascii() and character.isdigit() for character in spoken)
    assert has_words(spoken) or not has_words(text)


@given(st.sampled_from(sorted(LEAST_ROWS)), st.text(max_size=40))
def test_any_text_is_taken(language: str, text: str) -> None:
    assert isinstance(spoken_form(text, language), str)
