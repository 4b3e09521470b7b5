"""Profiles: they lie over the defaults and under the file, and reach the stages whose engines they speak of."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import configs
from actors.engine import engine_names, make_engine
from actors.errors import ConfigError
from actors.types import TASKS, Candidate, Segment, TranslateRequest, Translation, Unit
from cluster.casting.voices import named_stages
from cluster.config.load import config_names, dump_yaml, load_config, profile_names
from cluster.config.schema import StageConfig
from cluster.steps.progress import Progress
from cluster.steps.records import HeardUnit
from cluster.steps.translate import Translator

PROFILES_BY_SPEED = ("quality", "balanced", "speed")
FOLDER = Path(__file__).parents[3] / "configs" / "profiles"


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
    for stage in named_stages(config):
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


def test_profiles_trade_what_they_say(tmp_path: Path) -> None:
    quality, balanced, speed = (load_config("gpu", profile=name) for name in ("quality", "balanced", "speed"))
    assert [each.translation.num_candidates for each in (quality, balanced, speed)] == [4, 1, 1]
    assert [each.translation.options["beam_size"] for each in (quality, balanced, speed)] == [5, 4, 1]
    spoken = [each.speech.by_language["pt"].pool.batch.max_items for each in (quality, balanced, speed)]
    assert spoken == sorted(set(spoken))
    assert quality.fitting.ordinary_rate < balanced.fitting.ordinary_rate
    assert [each.alignment.strategy for each in (quality, balanced, speed)] == ["hybrid", "hybrid", "length"]
    assert [each.alignment.segment_translations for each in (quality, balanced, speed)] == [True, False, False]
    # gpu.yaml itself says what fills a GPU, whatever the profile.
    on_cpus = write(tmp_path, "translation: {engine: nllb_ct2}")
    sizes = [load_config(on_cpus, profile=name).translation.pool.batch.max_items for name in PROFILES_BY_SPEED]
    assert sizes == sorted(set(sizes))
    waiting = [load_config(on_cpus, profile=name).pipeline.max_utterances for name in PROFILES_BY_SPEED]
    assert waiting == sorted(waiting)
    assert waiting[-1] > waiting[0]


@pytest.mark.parametrize("profile", [None, *profile_names()])
def test_one_video_fills_the_batches_of_a_gpu(profile: str | None) -> None:
    """Of whisper the running batch and the next; translations and lines fill at least the running one."""
    config = load_config("gpu", profile=profile)
    whisper, translator = config.transcription.pool.batch, config.translation.pool.batch
    assert config.pipeline.max_windows >= 2 * whisper.max_items
    assert config.pipeline.max_utterances >= translator.max_items == 128
    for stage in config.speech.by_language.values():
        assert config.pipeline.max_utterances >= 2 * stage.pool.batch.max_items


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


GPU_CONFIGS = [name for name in config_names() if name.startswith("gpu")]


@pytest.mark.parametrize("profile", [None, *profile_names()])
@pytest.mark.parametrize("name", GPU_CONFIGS)
def test_two_target_languages_fit_one_gpu(name: str, profile: str | None) -> None:
    config = load_config(name, profile=profile)
    stages = (config.transcription, config.translation, config.embedding)
    shares = [stage.pool.num_gpus * max(1, stage.pool.smallest) for stage in stages]
    # Languages of one engine and options share a pool.
    voices = {dump_of(stage): stage.pool.num_gpus for stage in config.speech.by_language.values()}
    two = sorted(voices.values())[-2:]
    assert sum(shares) + sum(two) <= 1.0, (shares, two)
    assert all(share > 0 for share in [*shares, *two])


def dump_of(stage: StageConfig) -> str:
    return stage.model_dump_json()


def test_configurations_for_gpus_choose_what_their_memory_holds() -> None:
    assert {"gpu", "gpu-24gb", "gpu-80gb", "gpu-multi"} <= set(GPU_CONFIGS)
    small, large, multi = (load_config(name) for name in ("gpu-24gb", "gpu-80gb", "gpu-multi"))
    assert "turbo" in small.transcription.options["model"]
    assert large.transcription.options["model"].endswith("large-v3")
    assert (large.transcription.pool.smallest, large.transcription.pool.batch.max_items) == (2, 32)
    assert large.speech.by_language == small.speech.by_language  # what one extends is there
    assert multi.transcription.pool.largest > small.transcription.pool.largest
    # No number is needed that only holds for one cluster.
    assert multi.autoscaling.max_gpus is None
    assert multi.translation.pool.place_timeout_s > small.translation.pool.place_timeout_s


@pytest.mark.parametrize("name", GPU_CONFIGS)
def test_a_configuration_for_gpus_says_what_is_not_for_commercial_use(name: str) -> None:
    text = (Path(configs.__file__).parent / f"{name}.yaml").read_text()
    comments = " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
    assert "Licences" in comments
    assert "NLLB" in comments
    assert "non-commercial" in comments
