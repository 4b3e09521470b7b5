"""The registry of voices: who speaks what with which engine, and what is answered to a name that is none."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import numpy as np
import pytest

from actors.errors import ConfigError, EngineLoadError
from actors.hub import npm
from actors.speech import kokoro
from actors.types import Clip
from cluster.casting.preview import PREVIEW_TEXTS, preview_text, speak, write_wav
from cluster.casting.voices import (
    all_voices,
    check_line_voice,
    chosen_voices,
    named_voice,
    settled_stage,
    speech_stage,
    spoken_languages,
    voices_for,
)
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.pools.routing import check_languages


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config("offline")


def ids(config: Config, language: str) -> list[str]:
    return [voice.id for voice in voices_for(config, language)]


def test_the_voices_of_a_language_are_its_own_engines_first(config: Config) -> None:
    assert ids(config, "pt-PT")[0] == "pf_dora"
    assert ids(config, "en")[:2] == ["heart", "af_heart"]
    assert {voice.engine for voice in voices_for(config, "en")} == {"hibari", "kokoro"}
    assert ids(config, "fr") == ["ff_siwis"]


def test_every_voice_is_registered_once_with_what_a_cast_is_chosen_by(config: Config) -> None:
    found = all_voices(config)
    assert len({voice.id for voice in found}) == len(found) == 47
    assert set(spoken_languages(config)) == {"en", "es", "fr", "hi", "it", "pt"}
    dora = named_voice(config, "pf_dora")
    assert (dora.engine, dora.gender, dora.languages) == ("kokoro", "female", ("pt-BR",))
    heart = named_voice(config, "af_heart")
    assert heart.pitch_hz is not None
    assert 150 < heart.pitch_hz < 260


def test_men_have_lower_measured_pitches_than_women(config: Config) -> None:
    by_gender = {
        gender: [voice.pitch_hz for voice in all_voices(config) if voice.gender == gender and voice.pitch_hz]
        for gender in ("female", "male")
    }
    assert all(len(pitches) >= 13 for pitches in by_gender.values())
    assert np.median(by_gender["male"]) < 150 < np.median(by_gender["female"])


def test_a_voice_of_another_engine_brings_that_engine(config: Config) -> None:
    assert speech_stage(config, "en").engine == speech_stage(config, "en", "heart").engine == "hibari"
    assert speech_stage(config, "en", "bf_emma") == speech_stage(config, "pt")


@pytest.mark.parametrize(
    ("target", "voice", "hint"),
    [
        ("pt", "nobody", "see raydub voices list"),
        ("pt", "pf_dore", "did you mean 'pf_dora'?"),
        ("pt", "if_sara", "if_sara speaks it"),
    ],
)
def test_a_voice_that_is_none_is_answered_with_those_there_are(
    config: Config, target: str, voice: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        speech_stage(config, target, voice)
    assert refused.value.message.startswith("a voice for pt must be one of pf_dora, pm_alex, pm_santa, jm_kumo, ")
    assert refused.value.message.endswith(f"found {voice!r}; {hint}")


def test_a_configured_voice_is_checked_with_the_languages() -> None:
    check_languages(load_config("offline", ["speech.voices={en: am_adam}"]), "pt", ("en",))
    with pytest.raises(ConfigError, match=r"a voice for en must be one of heart, af_heart, .* found 'nobody'"):
        check_languages(load_config("offline", ["speech.voices={en: nobody}"]), "pt", ("en",))


def test_engines_that_cannot_say_their_voices_take_any() -> None:
    config = load_config("base", ["speech.engine=tests.standins.speaks"])
    assert speech_stage(config, "pt", "anybody").engine == "tests.standins.speaks"
    assert voices_for(config, "pt") == ()
    gpu = load_config("gpu")
    assert speech_stage(gpu, "ja", "Ana Florence").engine == "xtts"


def test_choices_of_a_command_line(config: Config) -> None:
    targets = ("pt", "en")
    assert chosen_voices(config, targets, ()) == {}
    assert chosen_voices(config, targets, ["pm_alex"]) == {"pt": "pm_alex"}
    assert chosen_voices(config, targets, ["pm_alex", "en=bf_emma"]) == {"pt": "pm_alex", "en": "bf_emma"}
    for choice, found in (
        ("nobody", "a voice for pt must be"),
        ("en=pm_alex", "pm_alex speaks pt-BR"),
        ("fr=ff_siwis", "--voice must name a language of --to, pt, en; found 'fr=ff_siwis'"),
    ):
        with pytest.raises(ConfigError) as refused:
            chosen_voices(config, targets, [choice])
        assert found in refused.value.message


def test_a_line_keeps_to_the_engine_of_its_dub(config: Config) -> None:
    check_line_voice(config, "en", "heart", "voice of en:u1")
    with pytest.raises(ConfigError, match=r"voice of en:u1 must be one of hibari's heart; found 'af_heart'"):
        check_line_voice(config, "en", "af_heart", "voice of en:u1")


# --- what this node can get


def test_what_is_settled_goes_into_the_options(config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(npm, "find", lambda model: tmp_path)
    options = config.speech.by_language["pt"].options
    assert asyncio.run(settled_stage(config, "pt")).options == {**options, "voices": "native"}
    assert asyncio.run(settled_stage(config, "en")) == speech_stage(config, "en")


def test_a_voice_that_cannot_be_had_is_an_error(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm, "find", lambda model: None)
    monkeypatch.setattr(kokoro, "_failure", None)
    monkeypatch.setenv("RAYDUB_OFFLINE", "1")
    with pytest.raises(EngineLoadError, match=r"pf_dora for pt must be fetched; .*raydub models fetch npm:kokoro-js"):
        asyncio.run(settled_stage(config, "pt", "pf_dora"))
    assert asyncio.run(settled_stage(config, "pt")).options["voices"] == "bundled"


# --- previews


def test_every_language_of_the_default_configuration_has_a_sentence(config: Config) -> None:
    assert set(spoken_languages(config)) <= set(PREVIEW_TEXTS)
    assert preview_text("pt-BR") == PREVIEW_TEXTS["pt"]
    assert preview_text("ja") is None


def test_a_preview_is_a_wave_file_of_the_voice(config: Config, tmp_path: Path) -> None:
    clip = speak(named_voice(config, "heart"), "Two birds.")
    write_wav(clip, tmp_path / "heart.wav")
    with wave.open(str(tmp_path / "heart.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, clip.sample_hz)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
    assert np.abs(samples - clip.samples).max() < 1e-4
    assert np.abs(samples).max() > 0.05


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    clip = Clip(samples=np.zeros(10, np.float32), sample_hz=24_000)
    with pytest.raises(ConfigError, match=r"--out must be a file that can be written; .*none/x\.wav"):
        write_wav(clip, tmp_path / "none" / "x.wav")
