"""Interjections and noises, told from words in many languages."""

from __future__ import annotations

import pytest

from actors.spoken.noises import INTERJECTIONS, is_description, is_noise


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("en", ["Hmmmm.", "Uh…", "Um, uh,", "Ah!", "Ooooh!", "Mm-hmm.", "ha ha ha", "Pfff!", "Shhh!", "Aaaargh!"]),
        ("en-GB", ["Er…", "Oh!"]),
        ("pt", ["Hã?", "Ahn…", "Uhum.", "Ai!", "Ui, ui!", "kkkkk", "Hmmm…"]),
        ("pt-BR", ["Ah!"]),
        ("es", ["Ehm…", "¡Ay!", "¿Eh?", "Jajaja."]),
        ("fr", ["Euh…", "Heu…", "Aïe !", "Ouf."]),
        ("de", ["Äh…", "Ähm,", "Öhhhm.", "Hm.", "Ach!"]),
        ("it", ["Ehm…", "Uff!", "Ahi!"]),
        ("ru", ["Эээ…", "Ммм.", "Ой!", "ха-ха-ха", "Гм…"]),
        ("ja", ["えーと", "うーん。", "あああ", "ふふふ"]),
        ("zh", ["嗯。", "哈哈哈", "啊！"]),
        ("ko", ["음…", "하하하"]),
        ("hi", ["हम्म", "ओह!"]),
        ("ar", ["آه", "همم"]),
    ],
)
def test_noises(language: str, texts: list[str]) -> None:
    assert [text for text in texts if not is_noise(text, language)] == []


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        (
            "en",
            [
                "No.",
                "Oh no, wait",
                "Yes!",
                "Mom?",
                "Go!",
                "I.",
                "A",
                "See?",
                "Too.",
                "12",
                "Uh, 3.",
                "",
                "…",
                "Hey you",
            ],
        ),
        ("pt", ["Não.", "Oi!", "É.", "Ah, não", "Sim.", "Só.", "E aí?"]),
        ("es", ["Sí.", "No.", "Oye, eh", "Ya."]),
        ("fr", ["Oui.", "Non.", "Ah bon ?", "Eau."]),
        ("de", ["Ja.", "Nein.", "Ach so.", "Ei."]),
        ("it", ["Sì.", "Ma", "Ah sì?"]),
        ("ru", ["Да.", "Нет.", "А", "Я.", "Ой, нет"]),
        ("ja", ["はい", "いいえ", "ええ", "はは"]),
        ("zh", ["是", "不", "好啊"]),
        ("ko", ["네", "아니"]),
    ],
)
def test_words(language: str, texts: list[str]) -> None:
    assert [text for text in texts if is_noise(text, language)] == []


def test_without_a_language_only_what_is_a_word_in_none_counts() -> None:
    assert is_noise("Hmmm.")
    assert is_noise("Ahhhh!")
    assert not is_noise("Ah!")
    assert not is_noise("Um.")  # one, in Portuguese


def test_one_is_a_number_in_portuguese_and_a_pause_in_english() -> None:
    assert is_noise("Um…", "en")
    assert not is_noise("Um.", "pt")


@pytest.mark.parametrize(
    "text", ["[laughs]", "(music)", "*sighs*", "♪♪", "♪ la la la ♪", "[Applause] (cheering)", "【拍手】"]
)
def test_descriptions(text: str) -> None:
    assert is_description(text)


@pytest.mark.parametrize("text", ["[laughs] No.", "No (he said)", "Yes.", "", "2 * 3 * 4"])
def test_no_descriptions(text: str) -> None:
    assert not is_description(text)


def test_the_table_is_written_as_it_is_looked_up() -> None:
    for language, words in INTERJECTIONS.items():
        assert all(word == word.casefold() for word in words), language
        assert all(is_noise(word, language) for word in words), language


@pytest.mark.parametrize("piece", ["m", "mh", "h", "a", "ah", "ha", "s", "p", "g", "rs", "ä", "х", "м", "е\u0301"])
def test_a_long_word_takes_time_in_proportion(piece: str) -> None:
    """In proportion to its square, this one would take hours."""
    assert is_noise(piece * 300_000 + "x") is False


@pytest.mark.parametrize("piece", ["(", "(a) ", "* ", "\u266a", "[ ", "( , "])
def test_a_long_description_takes_time_in_proportion(piece: str) -> None:
    assert is_description(piece * 300_000 + "x") is False
