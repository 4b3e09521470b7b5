"""Profiles: they lie over the defaults and under the file, and reach the stages whose engines they speak of."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from actors.engine import engine_names, make_engine
from actors.errors import ConfigError
from actors.types import TASKS, Candidate, Segment, TranslateRequest, Translation, Unit
from cluster.config import config_names, dump_yaml, load_config, profile_names
from cluster.listening import HeardUnit
from cluster.models import stages
from cluster.progress import Progress
from cluster.translating import Translator

FOLDER = Path(__file__).parents[2] / "configs" / "profiles"


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_the_names_are_the_files() -> None:
    assert profile_names() == sorted(path.stem for path in FOLDER.glob("*.yaml")) == ["balanced", "quality", "speed"]


@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize("name", config_names())
def test_every_profile_resolves_on_every_configuration(name: str, profile: str, tmp_path: Path) -> None:
    config = load_config(name, profile=profile)
    assert config.profile == profile
    for stage in stages(config):
        make_engine(stage.task, stage.settings.engine, stage.settings.options)
    assert load_config(write(tmp_path, dump_yaml(config))) == config


@pytest.mark.parametrize("profile", profile_names())
def test_every_engine_a_profile_speaks_of_takes_its_options(profile: str) -> None:
    engines = yaml.safe_load((FOLDER / f"{profile}.yaml").read_text())["engines"]
    assert set(engines) <= set(TASKS)
    for task, by_engine in engines.items():
        assert set(by_engine) <= set(engine_names(task))
        for name, settings in by_engine.items():
            assert set(settings) <= {"options", "pool"}
            make_engine(task, name, settings.get("options", {}))


@pytest.mark.parametrize("profile", profile_names())
def test_no_two_profiles_are_one(profile: str) -> None:
    others = [load_config("gpu", profile=other) for other in profile_names() if other != profile]
    mine = load_config("gpu", profile=profile)
    for other in others:
        assert mine.translation != other.translation
        assert mine.speech != other.speech


def test_profiles_trade_what_they_say() -> None:
    quality, balanced, speed = (load_config("gpu", profile=name) for name in ("quality", "balanced", "speed"))
    assert [each.translation.num_candidates for each in (quality, balanced, speed)] == [4, 1, 1]
    assert [each.translation.options["beam_size"] for each in (quality, balanced, speed)] == [5, 4, 1]
    sizes = [each.translation.pool.batch.max_items for each in (quality, balanced, speed)]
    assert sizes == sorted(set(sizes))
    spoken = [each.speech.by_language["pt"].pool.batch.max_items for each in (quality, balanced, speed)]
    assert spoken == sorted(set(spoken))
    assert quality.fitting.ordinary_rate < balanced.fitting.ordinary_rate
    assert [each.alignment.strategy for each in (quality, balanced, speed)] == ["hybrid", "hybrid", "length"]
    assert [each.alignment.segment_translations for each in (quality, balanced, speed)] == [True, False, False]
    assert speed.pipeline.max_utterances > balanced.pipeline.max_utterances


def test_a_profile_lies_over_base_and_under_the_file_and_the_assignments(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        translation: {engine: nllb_ct2, options: {beam_size: 7}, num_candidates: 2}
        speech: {engine: coqui, pool: {batch: {max_items: 3}}}
        """,
    )
    config = load_config(file, ["pipeline.max_windows=5"], profile="speed")
    assert config.translation.options["beam_size"] == 7
    assert config.translation.options["max_batch_tokens"] == 16384
    assert config.translation.num_candidates == 2
    assert config.speech.pool.batch.max_items == 3
    assert config.speech.pool.batch.max_wait_s == 0.05
    assert config.pipeline.max_windows == 5
    assert config.pipeline.max_utterances == 128
    # base.yaml has 8 for Bergamot, and lies under the profile.
    assert load_config(file, profile="quality").translation.pool.batch.max_items == 16


def test_only_stages_of_the_engine_are_reached() -> None:
    offline = load_config("offline", profile="speed")
    without = load_config("offline").translation
    assert (offline.translation.options, offline.translation.pool) == (without.options, without.pool)
    assert offline.transcription.options == {"model": "base", "beam_size": 1}
    assigned = load_config("offline", ["translation.engine=nllb_ct2"], profile="speed")
    assert assigned.translation.options["beam_size"] == 1


def test_a_configuration_may_name_its_profile_and_the_command_line_another(tmp_path: Path) -> None:
    file = write(tmp_path, "profile: speed\n")
    assert load_config(file).alignment.strategy == "length"
    assert load_config(file, profile="quality").alignment.strategy == "hybrid"
    assert load_config(file, ["profile=balanced"], profile="quality").profile == "balanced"
    assert load_config(file, ["profile=null"]).profile is None
    assert load_config().profile is None
    assert load_config("gpu").profile == "balanced"


@pytest.mark.parametrize("profile", ["zippy", "", "../offline", "Speed"])
def test_an_unknown_profile_is_told_the_known(profile: str) -> None:
    with pytest.raises(ConfigError, match="one of balanced, quality, speed; found") as caught:
        load_config(profile=profile)
    assert repr(profile) in caught.value.message


@pytest.mark.parametrize("text", ["profile: [speed]", "profile: 3", "profile: {a: b}"])
def test_a_profile_that_is_no_name_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--profile must be one of balanced"):
        load_config(write(tmp_path, text))


@pytest.mark.parametrize("text", ["translation: 3", "speech: {by_language: 3}", "speech: {by_language: {pt: x}}"])
def test_a_broken_stage_is_named_with_a_profile_too(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"configuration key (translation|speech)"):
        load_config(write(tmp_path, text), profile="speed")


def test_engines_is_no_setting_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="key engines is unknown"):
        load_config(write(tmp_path, "engines: {}\n"))


class CountingPool:
    def __init__(self) -> None:
        self.requests: list[TranslateRequest] = []

    async def submit(self, request: TranslateRequest, order: float) -> Translation:
        self.requests.append(request)
        return Translation(candidates=(Candidate(text="Olá.", score=None),))


@pytest.mark.parametrize("number", [1, 3])
async def test_as_many_candidates_are_asked_for(number: int) -> None:
    config = load_config(assignments=[f"translation.num_candidates={number}"])
    pool = CountingPool()
    progress = Progress(job="job", on_change=lambda progress: None)
    translator = Translator(config, pool, None, "pt", progress)  # type: ignore[arg-type]
    segment = Segment(
        id="s0000",
        start_s=1.0,
        end_s=2.0,
        text="Hello.",
        language="en",
        speaker="speaker0",
        words=(),
        mean_log_probability=-0.1,
        no_speech_probability=0.0,
    )
    unit = Unit(id="u0000", segments=(segment,), room_end_s=3.0)
    [utterance] = await translator.translate(HeardUnit(unit=unit, source_lufs=None))
    assert [request.num_candidates for request in pool.requests] == [number]
    assert [candidate.text for candidate in utterance.candidates] == ["Olá."]
