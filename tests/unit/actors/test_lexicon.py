"""A job's own pronunciations: spellings for every engine, IPA for those that take it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from actors import phonemes
from actors.pronunciation import Pronunciation
from actors.spoken import spoken_form
from actors.spoken.lexicon import Lexicon
from cluster.casting.voices import speech_stage
from cluster.config.load import load_config
from cluster.steps.plan import lexicon_of

WORDS = {
    "GIF": Pronunciation(alias="jif", ipa="ʒˈifi"),
    "ray": Pronunciation(alias="rei"),
    "SQL Server": Pronunciation(alias="síquel sérver"),
    "SQL": Pronunciation(ipa="sˈikel"),
}


@pytest.mark.parametrize(
    ("text", "alias", "ipa"),
    [
        ("Um GIF de 5 kg.", "Um jif de cinco quilos.", "Um [[ʒˈifi]] de cinco quilos."),
        ("O Ray, o RAY e o raio.", "O rei, o rei e o raio.", "O rei, o rei e o raio."),
        ("um gif", "um gif", "um gif"),
        ("GIFs", "GIFs", "GIFs"),
        ("SQL Server", "síquel sérver", "síquel sérver"),
        ("[[abc]] GIF", "abc jif", "abc [[ʒˈifi]]"),
    ],
)
def test_words_are_said_as_the_lexicon_has_them(text: str, alias: str, ipa: str) -> None:
    assert Lexicon(WORDS, "pt", takes_ipa=False).spoken(text) == alias
    assert Lexicon(WORDS, "pt", takes_ipa=True).spoken(text) == ipa


def test_a_word_with_ipa_alone_is_read_as_written_where_ipa_is_not_taken() -> None:
    assert Lexicon(WORDS, "pt", takes_ipa=False).spoken("o SQL") == spoken_form("o SQL", "pt")
    assert Lexicon(WORDS, "pt", takes_ipa=True).spoken("o SQL") == "o [[sˈikel]]"


def test_no_lexicon_changes_nothing() -> None:
    assert Lexicon({}, "pt", takes_ipa=True).spoken("[[x]] 5 kg") == spoken_form("[[x]] 5 kg", "pt")


@pytest.mark.parametrize("wrong", [{}, {"alias": ""}, {"ipa": "a]]b"}, {"sounds": "x"}, 7])
def test_a_pronunciation_that_says_nothing_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        Pronunciation.model_validate(wrong)


def test_the_engine_of_the_language_decides() -> None:
    config = load_config("offline", ["speech.lexicon={pt: {GIF: {ipa: ʒifi}}, en: {GIF: jif}}"])
    assert lexicon_of(config, "pt-BR", speech_stage(config, "pt")).spoken("GIF") == "[[ʒifi]]"
    assert lexicon_of(config, "en", speech_stage(config, "en")).spoken("GIF") == "jif"
    assert lexicon_of(config, "es", speech_stage(config, "es")).spoken("GIF") == spoken_form("GIF", "es")


def letters(text: str) -> list[str]:
    return ["".join(sentence) for sentence in phonemes.espeak(text, "pt-br")]


def test_ipa_stands_among_the_phonemes_of_its_sentence() -> None:
    before, after = letters("O nome é")[0], letters("de novo.")[0]
    assert letters("O nome é [[ʒˈifi]] de novo.") == [f"{before} ʒˈifi {after}"]
    assert letters("[[ʒˈifi]]!") == ["ʒˈifi!"]
    assert letters("Sim. [[ʒˈifi]], sim. Não.")[1:] == [f"ʒˈifi, {letters('sim.')[0]}", letters("Não.")[0]]
    assert letters("Sim. Não.") == [letters("Sim.")[0], letters("Não.")[0]]
