"""What ``--a`` may say, what becomes of it, and what it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.errors import ConfigError
from cluster.ab.arms import ArmChoice, choose_arm, differences
from cluster.config.load import load_config


def choose(*given: str, assignments: tuple[str, ...] = (), profile: str | None = None) -> ArmChoice:
    return choose_arm("a", given, "offline", assignments, profile)


def changed(choice: ArmChoice) -> dict[str, object]:
    return {setting.key: setting.a for setting in differences(choice.arm.config, load_config())}


def test_settings_by_commas_and_repeated_are_all_taken() -> None:
    by_commas = choose("fitting.max_rate=1.3, mixing.duck_db=-18")
    repeated = choose("fitting.max_rate=1.3", "mixing.duck_db=-18")
    assert changed(by_commas) == {"fitting.max_rate": 1.3, "mixing.duck_db": -18.0}
    assert by_commas.arm.config == repeated.arm.config
    assert by_commas.label == "fitting.max_rate=1.3, mixing.duck_db=-18"


def test_a_comma_inside_a_value_divides_nothing() -> None:
    choice = choose("speech.by_language.pt={engine: kokoro, options: {}},fitting.max_rate=1.3")
    assert choice.arm.config.speech.by_language["pt"].engine == "kokoro"
    assert choice.arm.config.fitting.max_rate == 1.3


def test_a_file_is_its_settings(tmp_path: Path) -> None:
    file = tmp_path / "gentle.yaml"
    file.write_text("fitting: {max_rate: 1.3}\nspeech:\n  voices: {pt: pf_dora}\n")
    choice = choose(str(file))
    assert changed(choice) == {"fitting.max_rate": 1.3, "speech.voices": None, "speech.voices.pt": "pf_dora"}


def test_an_arm_lies_over_what_is_set_for_both() -> None:
    choice = choose("fitting.max_rate=1.3", assignments=("fitting.max_rate=1.35", "grouping.max_unit_s=10"))
    assert choice.arm.config.fitting.max_rate == 1.3
    assert choice.arm.config.grouping.max_unit_s == 10


def test_a_profile_brings_its_dubbing_and_leaves_the_hearing() -> None:
    choice = choose("profile=speed")
    base = load_config()
    assert choice.arm.config.profile == "speed"
    assert choice.arm.config.alignment == load_config(profile="speed").alignment
    assert choice.arm.config.transcription == base.transcription
    assert choice.arm.config.pipeline == base.pipeline
    assert {"transcription.options.beam_size", "pipeline.max_windows"} <= set(choice.held)


def test_equal_arms_are_allowed_and_do_not_differ() -> None:
    a, b = choose("fitting.max_rate=1.3"), choose("fitting.max_rate=1.3")
    assert differences(a.arm.config, b.arm.config) == []


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("transcription.options.beam_size=1", ["transcription.options.beam_size", "heard once", "--set"]),
        ("speech.clone=true", ["speech.clone"]),
        ("quality.thresholds.wer.good_to=1", ["quality.thresholds"]),
        ("hybird", ["hybrid", "profile=", "YAML file", "hybird"]),
        ("fitting.max_rat=1.3", ["did you mean 'max_rate'"]),
        ("profile=fast", ["speed", "'fast'"]),
    ],
)
def test_what_is_refused_is_named(given: str, named: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        choose(given)
    for name in named:
        assert name in str(caught.value)
