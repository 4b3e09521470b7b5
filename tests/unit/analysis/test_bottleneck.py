"""The bottleneck of a dub, by times that are made up so that the answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.errors import ConfigError
from cluster import manifest
from cluster.analysis.bottleneck import StageLoad, analyse, replay
from cluster.config.load import load_config
from cluster.manifest import Manifest, PoolRecord
from cluster.storage.outputs import MANIFEST_NAME
from tests.command_line import raydub_here
from tests.unit.manifests import sample_manifest

CONFIG = load_config("offline").model_dump(mode="json")


def pool(name: str, num_batches: int, engine_s: float, num_hits: int = 0) -> PoolRecord:
    return PoolRecord(
        name=name,
        num_items=2 * num_batches,
        num_failed=0,
        num_batches=num_batches,
        num_lost_replicas=0,
        engine_s=engine_s,
        num_hits=num_hits,
    )


def dubbed(wall_s: float, *pools: PoolRecord) -> Manifest:
    sample = sample_manifest(20)
    timings = sample.timings.model_copy(update={"wall_s": wall_s, "pools": pools})
    return sample.model_copy(update={"timings": timings, "config": CONFIG})


def stage(name: str, num_batches: int, engine_s: float, replicas: int = 1) -> StageLoad:
    return StageLoad(
        pool=name, setting="", replicas=replicas, num_items=num_batches, num_batches=num_batches, engine_s=engine_s
    )


def test_a_replay_of_one_stage_takes_the_engine_time_over_the_replicas() -> None:
    assert replay([stage("speech/a", 100, 50.0)], {}) == pytest.approx(50.0)
    assert replay([stage("speech/a", 100, 50.0)], {"speech/a": 1}) == pytest.approx(25.0)
    assert replay([stage("speech/a", 1, 50.0)], {"speech/a": 9}) == pytest.approx(50.0)


def test_stages_overlap_and_the_slowest_sets_the_pace() -> None:
    path = [stage("translation/a", 100, 10.0), stage("speech/a", 100, 50.0)]
    assert replay(path, {}) == pytest.approx(50.1)
    assert replay(path, {"translation/a": 1}) == pytest.approx(50.1)
    assert replay(path, {"speech/a": 4}) == pytest.approx(10.5, abs=0.2)


def test_a_stage_with_fewer_larger_calls_waits_for_all_that_is_in_them() -> None:
    path = [stage("translation/a", 100, 10.0), stage("speech/a", 2, 8.0)]
    assert replay(path, {}) == pytest.approx(14.0)


def test_the_bound_and_the_gain_of_one_more_replica() -> None:
    found = analyse(
        dubbed(
            70.0,
            pool("speech/kokoro", 100, 50.0),
            pool("transcription/faster_whisper", 10, 5.0),
            pool("translation/bergamot", 50, 5.0, num_hits=3),
        )
    )
    assert found.bound.pool == "speech/kokoro"
    assert found.bound.setting == "speech.by_language.pt.pool.max_replicas"
    assert found.bound.bound_s == pytest.approx(50.0)
    assert found.rest_s == pytest.approx(20.0)
    gains_s = {each.stage.task: found.wall_s - each.wall_s for each in found.what_if}
    assert list(gains_s) == ["transcription", "translation", "speech"]
    assert gains_s["speech"] == pytest.approx(25.0, abs=0.5)
    assert gains_s["translation"] == pytest.approx(0.0, abs=0.5)
    assert any("translation/bergamot: 3 results" in each for each in found.missing)


@pytest.mark.parametrize(
    ("pools", "told"),
    [
        ((), "engine times"),
        ((pool("speech/kokoro", 0, 0.0, num_hits=9),), "stored before"),
        ((pool("speech/kokoro", 9, 90.0),), "served other dubs"),
    ],
)
def test_a_manifest_without_the_times_is_refused_with_the_reason(pools: tuple[PoolRecord, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        analyse(dubbed(70.0, *pools))


def test_the_command_names_stage_and_setting(tmp_path: Path) -> None:
    manifest.write(dubbed(70.0, pool("speech/kokoro", 100, 50.0)), tmp_path / MANIFEST_NAME)
    shown = raydub_here("analyze", tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "speech/kokoro bounds the dub" in shown.stdout
    assert "--set speech.by_language.pt.pool.max_replicas=2" in shown.stdout
    told = json.loads(raydub_here("analyze", tmp_path, "--json").stdout)
    assert told["bound"]["pool"] == "speech/kokoro"
    assert told["bound_s"] == pytest.approx(50.0)
