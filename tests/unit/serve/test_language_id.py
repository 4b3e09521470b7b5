from __future__ import annotations

import pytest

from serve.inference.language_id import detect, detect_any, likely_language

SERVED = frozenset({"en", "pt"})


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("hello handsome", "en"),
        ("hello, stranger", "en"),
        ("thanks", "en"),
        ("OK", "en"),
        ("I love you", "en"),
        ("the dog", "en"),
        ("Bom dia", "pt"),
        ("Obrigado!", "pt"),
        ("A senha não está correta", "pt"),
        ("a janela", "pt"),
        ("Eu te amo", "pt"),
        ("La tua password non è corretta", "it"),
        ("Il cane dorme in giardino", "it"),
        ("Wie geht es dir?", "de"),
        ("Merci beaucoup", "fr"),
        ("¿Dónde está la biblioteca?", "es"),
        ("你好世界", "zh"),
        ("こんにちは", "ja"),
        ("Як справи?", "uk"),
        ("안녕하세요", "ko"),
        ("مرحبا بالعالم", "ar"),
        ("12345", "und"),
        ("😀 !?", "und"),
    ],
)
def test_texts_are_told_apart_among_all_languages(text: str, language: str) -> None:
    assert detect_any(text, SERVED)[0].language == language


@pytest.mark.parametrize("text", ["Dove sei?", "Hej", "Le chat dort", "Gracias"])
def test_a_served_language_is_never_sure_of_a_foreign_text(text: str) -> None:
    found = detect_any(text, SERVED)
    assert found[0].language not in SERVED or found[0].probability < 0.2


def test_rare_languages_must_be_sure() -> None:
    assert detect_any("hello handsome", frozenset({"en", "st", "zu"}))[0].language == "en"
    assert detect_any("Ngiyabonga kakhulu, ngizobuya kusasa ekuseni.", frozenset({"en", "zu"}))[0].language == "zu"


def test_among_given_languages_one_is_the_answer() -> None:
    assert detect("La tua password", frozenset({"pt"}))[0].language == "pt"
    assert detect("La tua password non è corretta", SERVED)[0].language in SERVED


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Hello.", "en"),
        ("No.", "en"),
        ("OK", "en"),
        ("Olá.", "pt"),
        ("Bonjour.", "fr"),
        ("Obrigado.", "pt"),
        ("12", "und"),
    ],
)
def test_a_text_too_short_to_be_sure_of_is_english_where_that_is_likely(text: str, language: str) -> None:
    assert likely_language(text, frozenset({"en", "es", "fr", "hi", "it", "pt"})) == language
