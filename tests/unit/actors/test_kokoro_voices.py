"""Kokoro's voices by name, and what the engine does where the native ones cannot be had."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from actors.engine import make_engine
from actors.errors import EngineLoadError
from actors.hub import npm
from actors.phonemes import espeak
from actors.speech import kokoro
from actors.speech._kokoro.voices import BUNDLED_VOICES, NATIVE, NATIVE_VOICES, family_of

DEFAULTS = {
    "pt-BR": "pf_dora",
    "es": "ef_dora",
    "fr": "ff_siwis",
    "it": "if_sara",
    "en-US": "af_heart",
    "en-GB": "bf_emma",
    "hi": "hf_alpha",
}


def engine(**options: object) -> kokoro.Engine:
    made = make_engine("speech", "kokoro", options)
    assert isinstance(made, kokoro.Engine)
    return made


@pytest.fixture
def cannot_fetch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No native voices on this node; the list has a line for each try to fetch them."""
    tries: list[str] = []

    def fail(model: object) -> Path:
        tries.append("try")
        raise EngineLoadError("npm is not here; install npm")

    monkeypatch.setattr(npm, "find", lambda model: None)
    monkeypatch.setattr(npm, "resolve", fail)
    monkeypatch.setattr(kokoro, "_failure", None)
    return tries


@pytest.fixture
def has_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(npm, "find", lambda model: tmp_path)


def test_every_native_voice_has_a_pinned_file_a_language_and_a_gender() -> None:
    assert len(NATIVE_VOICES) == len(NATIVE.sha256) == 41
    assert {tag: sum(tag in voice.languages for voice in NATIVE_VOICES) for tag in DEFAULTS} == {
        "pt-BR": 3, "es": 3, "fr": 1, "it": 2, "en-US": 20, "en-GB": 8, "hi": 4,
    }  # fmt: skip
    for voice in NATIVE_VOICES:
        assert f"voices/{voice.name}.bin" in NATIVE.sha256
        assert voice.gender == {"f": "female", "m": "male"}[voice.name[1]]
        assert voice.shortest_scale < voice.natural_scale <= voice.longest_scale
    assert all(len(sha256) == 64 for sha256 in NATIVE.sha256.values())


@pytest.mark.parametrize(("language", "voice"), DEFAULTS.items())
def test_the_default_of_a_language_is_its_first_voice(language: str, voice: str) -> None:
    assert engine().catalogue.choose(language, None).name == voice


def test_japanese_voices_speak_where_the_native_ones_cannot_be_had(
    cannot_fetch: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert engine().settle("pt") == {"voices": "bundled"}
    assert "Japanese voices" in caplog.text
    assert "install npm" in caplog.text
    assert engine(voices="bundled").catalogue.choose("pt", None).name == "jm_kumo"
    assert engine().settle("pt-PT", "jf_alpha") == {"voices": "bundled"}
    assert cannot_fetch == ["try"]  # the failure is remembered


@pytest.mark.parametrize(("language", "voice"), [("es", None), ("pt", "pf_dora"), ("en", "af_heart")])
def test_what_japanese_voices_cannot_speak_is_an_error(
    cannot_fetch: list[str], language: str, voice: str | None
) -> None:
    with pytest.raises(EngineLoadError, match=f"{voice or 'voices'} for {language} must be fetched; npm is not here"):
        engine().settle(language, voice)


def test_a_failed_fetch_is_tried_again_after_a_while(cannot_fetch: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    engine().settle("pt")
    monkeypatch.setattr(kokoro, "RETRY_AFTER_S", 0.0)
    monkeypatch.setattr(kokoro, "_failure", kokoro._Failure(problem="", retry_at_s=0.0))
    engine().settle("pt")
    assert len(cannot_fetch) == 2


def test_what_is_settled_by_the_configuration_stays(cannot_fetch: list[str]) -> None:
    assert engine(voices="native").settle("pt") == {}
    assert engine(voices="bundled").settle("pt") == {}
    assert cannot_fetch == []


def test_results_of_the_native_voices_and_of_the_others_are_told_apart(
    has_fetched: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine().settle("es") == {"voices": "native"}
    native, bundled = engine(voices="native"), engine(voices="bundled")
    assert native.identity() != bundled.identity()
    assert engine().weights_id() == native.weights_id() != bundled.weights_id()
    monkeypatch.setattr(npm, "find", lambda model: None)
    assert engine().weights_id() == bundled.weights_id()


@pytest.mark.parametrize(
    ("voice", "phonemes", "wanted"),
    [
        ("pf_dora", "kaɪʃɐ leɪ tʃaʊ", "kIʃɐ lej ʧW"),
        ("jm_kumo", "kaɪʃɐ leɪ tʃaʊ", "kaɪʃa leɪ ʧaʊ"),
        ("ff_siwis", "le-z c\u0327a", "lez ça"),
        ("af_heart", "bˈɜːd wˈɔːɾɚ rɪəl", "bˈɜɹd wˈɔɾəɹ ɹiəl"),
        ("bf_emma", "ɐɡˈəʊ hˈeə jˈiəz", "ɐɡˈQ hˈɛː jˈɪəz"),
    ],
)
def test_phonemes_are_spelled_as_the_family_was_trained(voice: str, phonemes: str, wanted: str) -> None:
    assert family_of(voice).spell(phonemes) == wanted


def test_the_bundled_voices_come_after_the_native_ones() -> None:
    assert engine().voices == (*NATIVE_VOICES, *BUNDLED_VOICES)


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("muito", "mˈuɪ\u0303tʊ"),
        ("filha", "fˈiljɐ"),
        ("trem homem", "tɾˈejŋ ˈomejŋ"),
        ("treino", "tɾˈejnʊ"),
        ("oito", "ˈojtʊ"),
        ("põe", "pˈo\u0303j"),
        ("leite", "lˈejʧɪ"),
        ("azul", "azˈul"),
        ("culpa", "kˈuwpɐ"),
    ],
)
def test_portuguese_voices_are_given_phonemes_that_they_can_say(text: str, letters: str) -> None:
    [sentence] = espeak(text, "pt-br")
    assert family_of("pf_dora").spell("".join(sentence)) == letters
