"""Speakers get voices of their own, as like theirs as there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.engine import make_engine
from actors.errors import ConfigError
from cluster.casting.cast import Cast, cast_of, check_cast, choose_voice, speaker_voices
from cluster.casting.voices import RegisteredVoice, speech_stage
from cluster.config.load import load_config
from cluster.config.schema import StageConfig


def voice(name: str, gender: Literal["female", "male"] | None = None, pitch_hz: float | None = None) -> RegisteredVoice:
    stage = StageConfig(engine="none")
    return RegisteredVoice(
        id=name, engine="none", stage=stage, languages=("pt",), gender=gender, pitch_hz=pitch_hz, licence=""
    )


VOICES = (voice("dora", "female", 210), voice("alex", "male", 120), voice("santa", "male", 90), voice("any"))


@pytest.mark.parametrize(
    ("pitch_hz", "taken", "expected"),
    [
        (220.0, (), "dora"),
        (118.0, (), "alex"),
        (85.0, (), "santa"),
        (118.0, ("alex",), "santa"),
        (230.0, ("dora",), "any"),
        (230.0, ("dora", "any"), "alex"),
        (118.0, ("alex", "santa", "any"), "dora"),
        (85.0, ("dora", "alex", "santa", "any"), "santa"),
        (None, (), "dora"),
        (None, ("dora",), "alex"),
    ],
)
def test_the_free_voice_most_alike_is_chosen(pitch_hz: float | None, taken: Sequence[str], expected: str) -> None:
    assert choose_voice(pitch_hz, VOICES, taken) == expected


def test_an_accent_is_worse_than_another_pitch_and_better_than_another_gender() -> None:
    foreign = dataclasses.replace(voice("kumo", "male", 118), is_native=False)
    assert choose_voice(118.0, (*VOICES[:3], foreign), ()) == "alex"
    assert choose_voice(85.0, (foreign, VOICES[0], VOICES[1]), ("alex",)) == "kumo"


def test_bundled_voices_are_the_last_choice_for_portuguese() -> None:
    engine = make_engine("speech", "kokoro", {"voices": "auto"})
    assert {each.name for each in engine.voices if "pt-BR" in each.languages and each.is_native} == {
        "pf_dora",
        "pm_alex",
        "pm_santa",
    }


@given(st.lists(st.one_of(st.none(), st.floats(60, 400)), min_size=1, max_size=9))
def test_nobody_shares_a_voice_while_another_is_free(pitches_hz: list[float | None]) -> None:
    cast = Cast(VOICES, {}, None)
    voices = [cast.voice_of(f"S{number}", pitch_hz) for number, pitch_hz in enumerate(pitches_hz)]
    shares = [voices.count(each.id) for each in VOICES]
    assert max(shares) - min(shares) <= 1
    # A speaker keeps the voice, whatever is heard of them later.
    assert [cast.voice_of(f"S{number}", 150.0) for number in range(len(voices))] == voices


def test_a_given_voice_is_kept_for_its_speaker() -> None:
    cast = Cast(VOICES, {"S2": ("pierre", "dora")}, None)
    assert cast.voice_of("S1", 220.0) == "any"
    assert cast.voice_of("S2", 90.0) == "dora"


def test_an_engine_that_cannot_say_its_voices_has_the_configured_one() -> None:
    assert Cast((), {}, "somebody").voice_of("S1", 220.0) == "somebody"
    assert Cast((), {}, None).voice_of("S2", None) is None


@pytest.mark.parametrize(
    ("settings", "voices"),
    [
        ([], {"pf_dora", "pm_alex"}),
        (["speech.voices.pt=jm_kumo"], {"jm_kumo"}),
        (["speech.voices.pt=jm_kumo", "speakers.voices={S2: [jf_alpha]}"], {"jm_kumo", "jf_alpha"}),
        (["speech.voices.pt=jm_kumo", "speakers.required=true"], {"pf_dora", "pm_alex"}),
    ],
)
def test_a_voice_named_for_the_language_is_everybodys_unless_speakers_are_asked_for(
    settings: list[str], voices: set[str]
) -> None:
    config = load_config("offline", settings)
    cast = cast_of(config, "pt", speech_stage(config, "pt", config.speech.voices.get("pt")))
    assert {cast.voice_of("S1", 220.0), cast.voice_of("S2", 110.0)} == voices


def test_choices_of_speakers_are_told_from_those_of_languages() -> None:
    given = ["S1=pf_dora", "pt=pm_alex", "pm_santa", "S1=ff_siwis", "S12=pm_alex"]
    assert speaker_voices(given) == (
        ['speakers.voices={"S1": ["pf_dora", "ff_siwis"], "S12": ["pm_alex"]}'],
        ["pt=pm_alex", "pm_santa"],
    )


@pytest.mark.parametrize(
    ("voices", "count", "problem"),
    [
        ("{S1: [nobody]}", "auto", "nobody"),
        ("{S3: [jm_kumo]}", "2", "S1 to S2"),
        ("{S13: [jm_kumo]}", "auto", "S1 to S12"),
    ],
)
def test_an_unknown_voice_or_speaker_is_an_error(voices: str, count: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        check_cast(load_config("offline", [f"speakers.voices={voices}", f"speakers.count={count}"]))


def test_a_known_voice_and_speaker_pass_and_are_cast() -> None:
    config = load_config(
        "offline", ["speakers.voices={S2: [jf_alpha]}", "speakers.count=2", "speech.voices.pt=jm_kumo"]
    )
    check_cast(config)
    cast: Any = cast_of(config, "pt", speech_stage(config, "pt", "jm_kumo"))
    assert cast.voice_of("S2", None) == "jf_alpha"
    assert cast.voice_of("S1", None) == "jm_kumo"
