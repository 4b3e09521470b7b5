from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from actors.engine import make_engine
from actors.errors import ConfigError
from cluster.casting.voices import speech_stage
from cluster.config.load import config_names, dump_yaml, load_config
from cluster.config.schema import Config, PoolConfig


def message(name_or_file: str = "offline", *assignments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(name_or_file, assignments)
    assert "\n" not in caught.value.message
    return caught.value.message


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


# --- merging


def test_a_file_lies_over_base_and_assignments_over_both(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        translation: {pool: {batch: {max_items: 3}}}
        speech: {engine: piper}
        fitting: {gap_s: 0.2}
        """,
    )
    config = load_config(file, ["fitting.max_rate=1.3", "translation.pool.batch.lead_s=1"])
    base = load_config("base")
    assert config.fitting.gap_s == 0.2
    assert config.fitting.max_rate == 1.3
    assert config.fitting.ordinary_rate == base.fitting.ordinary_rate
    assert config.translation.engine == base.translation.engine
    assert config.translation.pool.num_cpus == base.translation.pool.num_cpus
    assert config.translation.pool.batch.max_items == 3
    assert config.translation.pool.batch.lead_s == 1
    assert config.transcription == base.transcription


def test_the_last_assignment_wins() -> None:
    assert load_config(assignments=["fitting.gap_s=0.2", "fitting.gap_s=0.3"]).fitting.gap_s == 0.3


def test_mappings_merge_and_lists_replace() -> None:
    config = load_config(
        assignments=[
            "translation.options.a=[1, 2, 3]",
            "translation.options.b={x: 1, y: 2}",
            "translation.options.a=[4]",
            "translation.options.b.x=7",
        ]
    )
    assert config.translation.options == {"a": [4], "b": {"x": 7, "y": 2}}


@pytest.mark.parametrize("swapped", [False, True])
def test_another_engine_takes_no_options_of_the_one_below(swapped: bool, tmp_path: Path) -> None:
    assignments = ["translation.engine=madlad", "translation.options.beam_size=2"]
    config = load_config("gpu-24gb", assignments[::-1] if swapped else assignments, profile="speed")
    # Its own of the profile, and what was assigned; of NLLB's options, with its model, none.
    assert config.translation.options == {"beam_size": 2, "max_batch_tokens": 16384}
    assert config.translation.pool.batch.max_items == 128
    same = load_config("gpu-24gb", ["translation.engine=nllb_ct2"])
    assert same.translation == load_config("gpu-24gb").translation
    below = tmp_path / "voice.yaml"
    below.write_text("extends: gpu\nspeech: {by_language: {pt: {engine: piper}}}\n")
    assert load_config(str(below)).speech.by_language["pt"].options == {}


def test_a_language_model_translates_beside_the_engines_for_gpus() -> None:
    gpu, llm = load_config("gpu"), load_config("llm")
    assert (llm.transcription, llm.embedding, llm.speech) == (gpu.transcription, gpu.embedding, gpu.speech)
    assert llm.translation.engine == "openai_chat"
    assert "max_batch_tokens" not in llm.translation.options
    assert (llm.translation.pool.num_gpus, llm.translation.pool.batch.max_items) == (0, 16)


def test_a_mapping_may_be_replaced_by_a_value_and_back() -> None:
    config = load_config(assignments=["translation.options.a={x: 1}", "translation.options.a=null"])
    assert config.translation.options == {"a": None}
    config = load_config(assignments=["translation.options.a=1", "translation.options.a.b.c=2"])
    assert config.translation.options == {"a": {"b": {"c": 2}}}


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "# nothing\n")) == load_config("base")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.5", 1.5),
        ("-3", -3),
        ("null", None),
        ("", None),
        ("true", True),
        ("[1, two]", [1, "two"]),
        ("{a: {b: c}}", {"a": {"b": "c"}}),
        ("text", "text"),
        ("'1'", "1"),
        ("a=b", "a=b"),
        ("http://host:1/x", "http://host:1/x"),
    ],
)
def test_the_value_of_an_assignment_is_yaml(text: str, value: Any) -> None:
    assert load_config(assignments=[f"translation.options.key={text}"]).translation.options["key"] == value


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abcé 日:-", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(trees)
def test_whatever_is_assigned_arrives(value: Any) -> None:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    config = load_config(assignments=[f"translation.options.key={text}"])
    assert config.translation.options["key"] == value


# --- what is wrong is named


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("fiting.max_rate=1.3", ["key fiting is unknown", "did you mean 'fitting'?", "known here: alignment"]),
        (
            "fitting.maxrate=1.3",
            ["fitting.maxrate", "'max_rate'", "known here: gap_s, max_lead_s, max_rate, min_room_s"],
        ),
        ("zzz=1", ["key zzz is unknown; known here: alignment"]),
        ("speech.by_language.pt.engin=x", ["speech.by_language.pt.engin", "'engine'"]),
        ("speech.by_language.pt.pool.replica=2", ["speech.by_language.pt.pool.replica", "'replicas'"]),
        ("translation.pool.batch.max_item=2", ["translation.pool.batch.max_item", "'max_items'"]),
        ("fitting.max_rate=fast", ["key fitting.max_rate", "valid number", "'fast'"]),
        ("fitting.max_rate=9", ["key fitting.max_rate", "less than or equal to 2", "found 9"]),
        ("fitting.ordinary_rate=1.5", ["key fitting must be valid: ordinary_rate must not exceed max_rate"]),
        ("ray.mode=lokal", ["key ray.mode", "'inline'", "'lokal'"]),
        ("speech=null", ["key speech", "found None"]),
        ("grouping=2", ["key grouping", "found 2"]),
        ("translation.engine=null", ["key translation.engine", "valid string", "found None"]),
        ("translation.pool.replicas=0", ["key translation.pool.replicas", "found 0"]),
        ("translation.pool.replicas=1.5", ["key translation.pool.replicas", "found 1.5"]),
        ("translation.pool.resources={tpu: many}", ["key translation.pool.resources.tpu", "'many'"]),
        ("speech.voices={no: x}", ["speech.voices", "found False"]),  # YAML 1.1 reads no as false
    ],
)
def test_a_wrong_setting_is_named_with_what_was_found(assignment: str, parts: list[str]) -> None:
    text = message("offline", assignment)
    assert [part for part in parts if part not in text] == [], text


@pytest.mark.parametrize("assignment", ["x", "", "=3", "a..b=3", ".a=3", "a.=3"])
def test_a_malformed_assignment_is_shown_how(assignment: str) -> None:
    assert f"must look like fitting.max_rate=1.3; found {assignment!r}" in message("offline", assignment)


@pytest.mark.parametrize("value", ["[1", "{a", "@x", "2024-13-45", "!!timestamp x", "[" * 2000])
def test_a_value_that_is_no_yaml_is_named(value: str) -> None:
    assert "--set fitting.gap_s: the value must be YAML" in message("offline", f"fitting.gap_s={value}")


@pytest.mark.parametrize("setting", ["profile: *g", "extends: *g", "fitting: {gap_s: *g}"])
def test_what_stands_for_much_more_is_named_in_part(tmp_path: Path, setting: str) -> None:
    names = "abcdefg"
    lines = [f"a: &a [{'x, ' * 10}]"]
    lines += [f"{name}: &{name} [{f'*{below}, ' * 10}]" for below, name in pairwise(names)]
    assert len(message(write(tmp_path, "\n".join([*lines, setting])))) < 2000


def test_a_key_of_several_lines_is_told_in_one(tmp_path: Path) -> None:
    assert "\n" not in message(write(tmp_path, '"a\\n\\nb": 1\n'))


@pytest.mark.parametrize(
    "text", ["a: [1", "a: b: c", "\t- x", "`", "a: 2024-13-45", "a: " + "1" * 5000, "a: !!bool x", "[" * 2000]
)
def test_a_file_that_is_no_yaml_is_named(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, text)
    assert message(file).startswith(f"{file} must be readable YAML; ")


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text\n", "3\n"])
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, text)
    assert message(file).startswith(f"{file} must hold a mapping of settings, found a ")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    assert "must be readable YAML" in message(str(file))


def test_a_name_that_is_neither_is_told_the_names(tmp_path: Path) -> None:
    assert "one of base, offline" in message("nope").replace(", ".join(config_names()), "base, offline")
    assert "neither" in message(str(tmp_path))


# --- what comes with the package


@pytest.mark.parametrize("name", config_names())
def test_every_configuration_that_comes_along_makes_its_engines(name: str) -> None:
    config = load_config(name)
    make_engine("transcription", config.transcription.engine, config.transcription.options)
    make_engine("translation", config.translation.engine, config.translation.options)
    for target in config.speech.by_language:
        stage = speech_stage(config, target)
        assert make_engine("speech", stage.engine, stage.options).supports(target)


def test_the_names_are_the_files() -> None:
    folder = Path(__file__).parents[3] / "configs"
    assert config_names() == sorted({path.stem for path in folder.glob("*.yaml")} - {"serve"})


@pytest.mark.parametrize("name", config_names())
def test_what_is_printed_can_be_read_again(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    assert load_config(write(tmp_path, dump_yaml(config))) == config


def test_a_configuration_cannot_be_changed() -> None:
    config = load_config()
    with pytest.raises(ValueError, match="frozen"):
        config.fitting = Config.model_fields["fitting"].default


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (1, 1)),
        ({"replicas": 3}, (3, 3)),
        ({"max_replicas": 4}, (1, 4)),
        ({"replicas": 2, "max_replicas": 4}, (2, 4)),
        ({"min_replicas": 0}, (0, 1)),
        ({"min_replicas": 0, "max_replicas": 4}, (0, 4)),
        ({"min_replicas": 3}, (3, 3)),
        ({"replicas": 8, "max_replicas": 4}, (4, 4)),
    ],
)
def test_a_pool_has_a_fixed_size_or_a_range(settings: dict[str, int], expected: tuple[int, int]) -> None:
    pool = PoolConfig(**settings)  # type: ignore[arg-type]
    assert (pool.smallest, pool.largest) == expected


def test_a_pools_range_must_not_be_empty() -> None:
    with pytest.raises(ConfigError, match="min_replicas must be at most max_replicas; found 5 and 2"):
        load_config(assignments=["translation.pool={min_replicas: 5, max_replicas: 2}"])


def test_a_file_may_lie_over_a_configuration_that_comes_with_raydub(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: gpu-80gb\ntranscription: {pool: {num_gpus: 0.4}}\n")
    config = load_config(str(file))
    assert config.transcription.pool.num_gpus == 0.4
    assert config.transcription.pool.batch.max_items == 32
    assert config.profile == "balanced"


@pytest.mark.parametrize("parent", ["base", "nothing", "[gpu]", "3"])
def test_what_a_file_cannot_extend_is_told_the_known(parent: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: {parent}\n")
    with pytest.raises(ConfigError, match=r"extends in .* must be one of gpu, gpu-24gb, "):
        load_config(str(file))
