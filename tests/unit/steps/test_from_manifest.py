"""A manifest as what is to be said: what was recorded comes back as it was, edits count, and wrong ones are named."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.errors import ConfigError
from actors.types import Unit, Window
from cluster import manifest as manifests
from cluster.batch.redub import redub_job
from cluster.config.load import load_config, recorded_config
from cluster.config.schema import Config
from cluster.flags import Flag
from cluster.manifest import Manifest, SegmentRecord, UnitRecord
from cluster.steps.from_manifest import ManifestSource, read_manifest_source
from cluster.steps.mix import utterance_record
from cluster.steps.progress import Progress
from cluster.steps.records import HeardUnit, Spoken, Utterance
from tests.unit.manifests import sample_manifest


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config("offline", ["ray.mode=inline"])


@pytest.fixture
def tree() -> dict[str, Any]:
    """A manifest, to edit."""
    return edited(sample_manifest(12).model_dump(mode="json"))


def edited(tree: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Its first lines said by a voice there is."""
    for line in tree["dubs"][0]["utterances"]:
        line["voice"] = line["voice"] and "jm_kumo"
    return tree


def line(tree: dict[str, Any], index: int) -> dict[str, Any]:
    found: dict[str, Any] = tree["dubs"][0]["utterances"][index]
    return found


def given(tree: dict[str, Any], *only: str) -> ManifestSource:
    return ManifestSource(manifest=Manifest.model_validate(tree), only=frozenset(only))


async def nothing() -> AsyncIterator[Window]:
    raise AssertionError("nothing is to be heard")
    yield


async def units(what: ManifestSource, config: Config) -> list[Unit]:
    return [heard.unit async for heard in what.recorded_units(nothing(), config, Progress(job="test"))]


async def utterances(what: ManifestSource, config: Config) -> list[Utterance]:
    heard: AsyncIterator[HeardUnit] = what.recorded_units(nothing(), config, Progress(job="test"))
    return [each async for each in what.recorded_lines(heard, "pt", Progress(job="test"))]


async def test_what_was_heard_comes_back_as_it_was(tree: dict[str, Any], config: Config) -> None:
    what = given(tree)
    found = await units(what, config)
    assert tuple(UnitRecord.of(unit) for unit in found) == what.manifest.units
    segments = tuple(SegmentRecord.of(segment) for unit in found for segment in unit.segments)
    assert segments == what.manifest.segments
    assert (what.language, what.language_probability) == ("en", what.manifest.input.language_probability)


async def test_what_was_said_comes_back_with_its_times_and_words(tree: dict[str, Any], config: Config) -> None:
    what = given(tree)
    kept = {"id", "unit_id", "segment_id", "speaker", "source_text"}
    kept |= {"slot_start_s", "slot_end_s", "room_end_s", "source_lufs"}
    for utterance, was in zip(await utterances(what, config), what.manifest.dubs[0].utterances, strict=True):
        spoken = Spoken(
            utterance=utterance,
            text="",
            clip=None,
            voice=None,
            fit=None,
            start_s=utterance.slot.start_s,
            candidates=(),
            flags=(),
            error=None,
        )
        now = utterance_record(spoken, None)
        assert now.model_dump(include=kept) == was.model_dump(include=kept)
        if was.text:
            assert [candidate.text for candidate in utterance.candidates] == [was.candidates[0].text]
            assert utterance.voice == was.voice


@pytest.mark.parametrize("flag", [Flag.NOISE, Flag.ALREADY_IN_TARGET, Flag.LANGUAGE_UNSUPPORTED])
async def test_a_line_that_was_left_says_again_why(tree: dict[str, Any], config: Config, flag: Flag) -> None:
    line(tree, 2).update(text="", candidates=[], flags=[flag.value, "heard_wrong"])
    found = await utterances(given(tree), config)
    assert (found[2].candidates, found[2].flags) == ((), (flag,))


async def test_flags_of_checks_are_found_again_and_not_copied(tree: dict[str, Any], config: Config) -> None:
    line(tree, 2).update(flags=["heard_wrong", "too_fast", "drifted"])
    assert (await utterances(given(tree), config))[2].flags == ()


async def test_an_edit_is_what_is_said(tree: dict[str, Any], config: Config) -> None:
    line(tree, 2).update(text="Outra coisa.", voice="jf_nezumi")
    line(tree, 3)["slot_start_s"] += 0.25
    found = await utterances(given(tree), config)
    assert [candidate.text for candidate in found[2].candidates] == ["Outra coisa."]
    assert found[2].candidates[0].score is None
    assert found[2].voice == "jf_nezumi"
    assert found[3].slot.start_s == line(tree, 3)["slot_start_s"]


async def test_a_line_moved_forward_takes_the_room_before_it(tree: dict[str, Any], config: Config) -> None:
    line(tree, 3)["slot_start_s"] = line(tree, 2)["slot_end_s"] - 0.5
    found = await utterances(given(tree), config)
    assert found[2].room_end_s == line(tree, 3)["slot_start_s"]


async def test_a_doubt_stays_until_the_text_is_edited(tree: dict[str, Any], config: Config) -> None:
    doubt = {"flags": ["fast", "translation_doubtful"], "doubt": "it reads otherwise"}
    line(tree, 2).update(doubt | {"text": line(tree, 2)["candidates"][0]["text"]})
    line(tree, 3).update(doubt | {"text": "Outra coisa."})
    found = await utterances(given(tree), config)
    assert (found[2].flags, found[2].doubt) == ((Flag.TRANSLATION_DOUBTFUL,), "it reads otherwise")
    assert (found[3].flags, found[3].doubt) == ((), None)


async def test_a_text_taken_away_is_not_said(tree: dict[str, Any], config: Config) -> None:
    line(tree, 2).update(text="", flags=[])
    found = (await utterances(given(tree), config))[2]
    assert found.candidates == ()
    assert found.flags == (Flag.EMPTY,)


@pytest.mark.parametrize(
    ("flag", "num_candidates"), [("speech_failed", 1), ("no_room", 1), ("translation_failed", 0), ("empty", 0)]
)
async def test_what_could_not_be_said_is_tried_again_if_there_is_a_text(
    flag: str, num_candidates: int, tree: dict[str, Any], config: Config
) -> None:
    line(tree, 2).update(text="", flags=[flag], error="why")
    found = (await utterances(given(tree), config))[2]
    assert len(found.candidates) == num_candidates
    if not num_candidates:
        assert [each.value for each in found.flags] == [flag]
        assert found.error == "why"


async def test_a_line_that_was_cut_is_whole_again_before_it_is_fitted(tree: dict[str, Any], config: Config) -> None:
    whole = line(tree, 2)["candidates"][0]["text"]
    line(tree, 2).update(text=whole.split()[0], flags=["cut"])
    assert [each.text for each in (await utterances(given(tree), config))[2].candidates] == [whole]


# --- wrong edits


def message(tree: dict[str, Any], config: Config, *only: str) -> str:
    with pytest.raises(ConfigError) as caught:
        given(tree, *only).check(config)
    return caught.value.message


def test_a_manifest_as_it_was_written_is_right(tree: dict[str, Any], config: Config) -> None:
    given(tree, "pt:u0003").check(config)


@pytest.mark.parametrize(
    "times",
    [
        {"slot_start_s": -1.0},
        {"slot_end_s": 1e6},
        {"room_end_s": 0.0},
        {"slot_start_s": 1e6, "slot_end_s": 1e6, "room_end_s": 1e6},
    ],
    ids=str,
)
def test_times_that_cannot_be_are_named(times: dict[str, float], tree: dict[str, Any], config: Config) -> None:
    line(tree, 2).update(times)
    assert "times of pt:u0002 must be" in message(tree, config)


def test_lines_out_of_order_are_named(tree: dict[str, Any], config: Config) -> None:
    lines = tree["dubs"][0]["utterances"]
    lines[2], lines[3] = lines[3], lines[2]
    assert "found pt:u0002 at" in message(tree, config)


def test_a_voice_there_is_not_is_named(tree: dict[str, Any], config: Config) -> None:
    line(tree, 2)["voice"] = "nobody"
    assert "voice of pt:u0002 must be one of kokoro's pf_dora, " in message(tree, config)


def test_a_segment_there_is_not_is_named(tree: dict[str, Any], config: Config) -> None:
    tree["units"][1]["segment_ids"] = ["s9"]
    assert "segment_ids of unit u0001" in message(tree, config)


@pytest.mark.parametrize("record", ["dubs", "segments"])
def test_a_language_that_is_none_is_named(record: str, tree: dict[str, Any], config: Config) -> None:
    tree[record][0]["language"] = "p: t"
    assert "BCP-47 tag such as en, pt or pt-BR; found 'p: t'" in message(tree, config)


def test_two_ways_to_dub_are_not_one(tree: dict[str, Any], config: Config) -> None:
    tree["dubs"][0]["arm"] = "a"
    assert "one dub for a language" in message(tree, config)


def test_only_names_an_utterance_of_the_manifest(tree: dict[str, Any], config: Config) -> None:
    assert "did you mean pt:u0002?" in message(tree, config, "pt:u002")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"slot_start_s": "soon"}, "dubs.pt.utterances.pt:u0002.slot_start_s: "),
        ({"txet": "x"}, "dubs.pt.utterances.pt:u0002.txet: "),
        ({"flags": ["strange"]}, "dubs.pt.utterances.pt:u0002.flags.0: "),
        ({"text": None}, "dubs.pt.utterances.pt:u0002.text: "),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(change: dict[str, Any], named: str, tree: dict[str, Any], tmp_path: Path) -> None:
    line(tree, 2).update(change)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(ConfigError) as caught:
        read_manifest_source(path)
    assert named in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": "done"}'])
def test_what_is_no_manifest_is_told_so(text: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="must be a manifest"):
        read_manifest_source(path)
    with pytest.raises(ConfigError, match="must be readable"):
        read_manifest_source(tmp_path / "missing.json")


# --- the job


def recorded(folder: Path, source: Path) -> Path:
    """A manifest of ``source``, with a whole configuration."""
    tree = edited(sample_manifest(3).model_dump(mode="json"))
    tree["input"] |= {"name": source.name, "path": str(source), "num_bytes": source.stat().st_size}
    tree["config"] = load_config("offline", ["ray.address=gone:1", "fitting.max_rate=1.3"]).model_dump(mode="json")
    path = folder / "manifest.json"
    manifests.write(Manifest.model_validate(tree), path)
    return path


def test_the_job_is_the_manifests(tmp_path: Path) -> None:
    source = tmp_path / "rivers.mp4"
    source.write_bytes(b"media")
    path = recorded(tmp_path, source)
    job, config = redub_job(path, source=None, out=None, only=["pt:u0001"], assignments=["fitting.gap_s=0.1"])
    assert (job.source, job.targets, job.out) == (source, ("pt",), tmp_path)
    assert config.fitting.max_rate == 1.3
    assert config.fitting.gap_s == 0.1
    assert config.ray.address is None  # that of another machine, perhaps


def test_an_input_that_moved_or_changed_is_told(tmp_path: Path) -> None:
    source = tmp_path / "rivers.mp4"
    source.write_bytes(b"media")
    path = recorded(tmp_path, source)
    moved = source.rename(tmp_path / "moved.mp4")
    with pytest.raises(ConfigError, match=r"raydub dub rivers\.mp4 --from-manifest"):
        redub_job(path, source=None, out=None, only=(), assignments=())
    assert redub_job(path, source=moved, out=None, only=(), assignments=())[0].source == moved
    moved.write_bytes(b"other media")
    with pytest.raises(ConfigError, match="has 11; dub a changed input without --from-manifest"):
        redub_job(path, source=moved, out=None, only=(), assignments=())


def test_a_recorded_setting_there_is_no_more_is_named() -> None:
    with pytest.raises(ConfigError, match=r"fitting\.max_rat is unknown; did you mean 'max_rate'"):
        recorded_config(load_config("offline").model_dump(mode="json"), ["fitting.max_rat=1.3"])
