from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from actors import phonemes
from actors.errors import EngineLoadError, ItemError

TEXTS = {
    "pt-br": "Amanhã às quinze horas vamos à praia, não é?",
    "en-us": "The harbour was quiet before the ships arrived.",
    "fr": "Le port était calme avant l'arrivée des navires.",
    "ru": "Я поставил Windows на компьютер.",
}


def test_sentences_keep_their_punctuation() -> None:
    hello, bye = ("".join(sentence) for sentence in phonemes.espeak("Olá! Tudo bem, senhora? ", "pt-br"))
    assert hello.endswith("!")
    assert bye.endswith("?")
    assert ", " in bye


def test_words_read_in_another_language_carry_no_flags() -> None:
    (sentence,) = phonemes.espeak(TEXTS["ru"], "ru")
    assert "(" not in sentence
    assert "wˈɪndəʊz" in "".join(sentence)


def test_nothing_to_read_is_no_sentence() -> None:
    assert phonemes.espeak("", "pt-br") == []
    assert phonemes.espeak(" \n ", "pt-br") == []


def test_many_threads_read_as_one_does() -> None:
    expected = {voice: phonemes.espeak(text, voice) for voice, text in TEXTS.items()}
    jobs = list(TEXTS) * 50
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda voice: phonemes.espeak(TEXTS[voice], voice), jobs))
    assert all(sentences == expected[voice] for voice, sentences in zip(jobs, read, strict=True))


def test_a_voice_espeak_has_not_is_refused() -> None:
    with pytest.raises(EngineLoadError, match="zz"):
        phonemes.require_espeak_voice("zz")
    with pytest.raises(ItemError, match="zz"):
        phonemes.espeak("a", "zz")


@pytest.mark.parametrize(
    ("text", "language", "num"),
    [
        ("pão", "pt", 1),
        ("dia", "pt-BR", 2),
        ("saúde", "pt", 3),
        ("A água é fria.", "pt", 6),
        ("The fastest wind gives a higher note.", "en", 9),
        ("Europa", "de", 3),
        ("今天天气很好", "zh", 6),
        ("…", "en", 0),
    ],
)
def test_syllables_are_counted_as_spoken(text: str, language: str, num: int) -> None:
    assert phonemes.num_syllables(text, language) == num
