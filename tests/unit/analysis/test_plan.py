"""Plans of batches, by times that are made up so that the answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.errors import ConfigError
from cluster import manifest
from cluster.analysis.packing import NodeShape, pack
from cluster.analysis.plan import CapacityPlan, PlanTask, plan
from cluster.analysis.workload import PoolWork, Workload, measured_workload, read_times
from cluster.config.load import load_config
from cluster.manifest import Manifest, PoolRecord
from cluster.pools.needs import Need
from cluster.storage.outputs import MANIFEST_NAME
from tests.command_line import raydub_here
from tests.unit.manifests import sample_manifest

CONFIG = load_config(
    "gpu", ["drivers.num_cpus=16", "price.gpu_hour=2", "speech.engine=coqui", "speech.pool.num_gpus=0.5"]
)
SPEECH_S = 0.1
WORKLOAD = Workload(
    pools=(
        PoolWork(name="transcription/faster_whisper", shared_per_hour=120, item_s=0.5),
        PoolWork(name="translation/nllb_ct2", language_per_hour=800, call_s=0.05, item_s=0.001),
        PoolWork(name="speech/coqui", language_per_hour=1000, item_s=SPEECH_S),
    ),
    lines_per_hour=500,
    videos_s=(1200.0,),
)


def planned(workload: Workload = WORKLOAD, **task: float | int | NodeShape | None) -> CapacityPlan:
    wanted = {"hours": 1000.0, "languages": 5, "driver_cpu_s": 0.0} | task
    return plan(workload, CONFIG, PlanTask(**wanted))  # type: ignore[arg-type]


def pool(name: str, num_items: int, num_batches: int, engine_s: float, num_hits: int = 0) -> PoolRecord:
    return PoolRecord(
        name=name,
        num_items=num_items,
        num_failed=0,
        num_batches=num_batches,
        num_lost_replicas=0,
        engine_s=engine_s,
        num_hits=num_hits,
        num_misses=num_items,
    )


def dubbed(
    *pools: PoolRecord, driver: str = "", wall_s: float = 1000.0, targets: tuple[str, ...] = ("pt",)
) -> Manifest:
    sample = sample_manifest(40, targets)
    timings = sample.timings.model_copy(update={"pools": pools, "driver": driver, "wall_s": wall_s})
    config = load_config("offline").model_dump(mode="json")
    return sample.model_copy(update={"timings": timings, "config": config})


def test_no_replica_is_given_more_work_than_the_deadline_allows_nor_much_less() -> None:
    for hours, deadline_h in ((1000, 24), (1000, 3), (50, 1), (100_000, 24 * 7)):
        found = planned(hours=float(hours), deadline_s=3600.0 * deadline_h)
        assert found.wall_s <= 3600 * deadline_h
        assert all(each.busy <= 1 for each in found.pools)
        busiest = max(each.busy for each in found.pools)
        assert busiest > (0.85 if found.num_gpus > 10 else 0.5)


def test_half_the_time_takes_twice_the_replicas() -> None:
    slow, fast = planned(deadline_s=24 * 3600.0), planned(deadline_s=12 * 3600.0)
    replicas = [next(each for each in one.pools if each.name == "speech/coqui").total_replicas for one in (slow, fast)]
    assert replicas[0] == pytest.approx(1000 * 5 * 1000 * SPEECH_S / (24 * 3600), rel=0.15)
    assert replicas[1] == pytest.approx(2 * replicas[0], rel=0.1)


def test_the_time_on_a_number_of_gpus_is_that_of_the_deadline_they_meet() -> None:
    met = planned(deadline_s=10 * 3600.0)
    given = planned(max_gpus=met.num_gpus)
    assert given.num_gpus <= met.num_gpus
    assert given.wall_s == pytest.approx(met.wall_s, rel=0.1)


def test_shares_are_packed_onto_cards_and_nodes() -> None:
    third, half = Need(name="speech/a", cpus=1, gpus=0.35), Need(name="translation/a", cpus=1, gpus=0.5)
    found = pack([(third, 5), (half, 3)], NodeShape(gpus=2, cpus=16))
    assert (found.num_nodes, found.num_cards) == (2, 4)  # half + half, half + third, third + third, third + third
    crowded = pack([(half, 4)], NodeShape(gpus=4, cpus=2))
    assert (crowded.num_nodes, crowded.num_cards) == (2, 2)
    with pytest.raises(ConfigError, match="speech/a needs 1 CPU, 2 GPU"):
        pack([(Need(name="speech/a", cpus=1, gpus=2), 1)], NodeShape(gpus=1))


def test_whole_nodes_are_paid_for_the_wall_time() -> None:
    found = planned(deadline_s=24 * 3600.0, shape=NodeShape(gpus=4, cpus=64))
    assert found.gpu_hours == pytest.approx(found.num_nodes * 4 * found.wall_s / 3600)
    assert found.cost == pytest.approx(2 * found.gpu_hours)
    assert found.cost_per_minute == pytest.approx(found.cost / (1000 * 60 * 5))


def test_languages_with_models_of_their_own_have_a_pool_each() -> None:
    config = load_config("gpu")
    found = plan(WORKLOAD, config, PlanTask(hours=1000, languages=5, deadline_s=24 * 3600.0))
    speech = found.pools[-1]
    assert (speech.num_pools, speech.gpus) == (5, 0.1)
    assert speech.total_replicas == 5 * speech.replicas * found.num_drivers


def test_more_drivers_share_what_a_driver_does_itself() -> None:
    slow = planned(deadline_s=24 * 3600.0, driver_cpu_s=0.08)
    quick = planned(deadline_s=24 * 3600.0, driver_cpu_s=0.0)
    # 16 CPUs, 0.04 + 5 × 0.08 CPU-s a second of media: 36 s of media a second, where 42 are needed.
    assert (slow.num_drivers, quick.num_drivers) == (2, 1)


def test_few_videos_take_no_less_than_one_alone() -> None:
    found = planned(hours=1.0, deadline_s=24 * 3600.0, video_s=3600.0)
    assert found.num_videos == 1
    assert found.num_drivers == 1
    with pytest.raises(ConfigError, match="longer than one video's own latency"):
        planned(hours=1.0, deadline_s=124.0, video_s=3600.0)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ({}, "found neither"),
        ({"max_gpus": 1, "deadline_s": 3600.0}, "--gpus must be enough"),
        ({"hours": 0.0, "deadline_s": 3600.0}, "--hours must be more than 0"),
    ],
)
def test_what_cannot_be_planned_is_refused(task: dict[str, float], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        planned(**task)


def test_a_manifest_tells_requests_by_the_hour_and_the_time_of_each() -> None:
    made = dubbed(
        pool("transcription/faster_whisper", 10, 10, 20.0),
        pool("embedding/use_multilingual", 0, 0, 0.0),  # never asked
        pool("speech/kokoro", 80, 40, 60.0),
        targets=("pt", "ar"),
    )
    found = measured_workload([made])
    hours = made.input.duration_s / 3600
    heard, spoken = found.pools
    assert (heard.shared_per_hour, heard.language_per_hour) == (pytest.approx(10 / hours), 0)  # no line was checked
    assert spoken.language_per_hour == pytest.approx(80 / hours / 2)
    assert (spoken.call_s, spoken.item_s, spoken.batch_items) == (0, pytest.approx(0.75), 2)
    assert found.lines_per_hour == pytest.approx(40 / hours)


def test_batches_of_two_sizes_tell_the_time_of_a_call() -> None:
    small = dubbed(pool("speech/kokoro", 40, 40, 40 * 0.2 + 40 * 0.05))
    large = dubbed(pool("speech/kokoro", 40, 10, 10 * 0.2 + 40 * 0.05))
    [spoken] = measured_workload([small, large]).pools
    assert (spoken.call_s, spoken.item_s) == (pytest.approx(0.2), pytest.approx(0.05))


def test_counters_of_one_process_are_taken_once() -> None:
    first = dubbed(pool("speech/kokoro", 40, 40, 10.0), driver="host:1")
    second = dubbed(pool("speech/kokoro", 80, 80, 20.0), driver="host:1")
    [spoken] = measured_workload([second, first]).pools
    assert spoken.language_per_hour == pytest.approx(40 / (first.input.duration_s / 3600))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (dubbed(pool("speech/kokoro", 0, 0, 0.0, num_hits=40)), "were stored before"),
        (dubbed(pool("speech/kokoro", 40, 40, 99.0), wall_s=10.0), "hold all dubs of their process"),
        (dubbed(pool("speech/kokoro", 40, 40, 0.0)), "engine times of each pool"),
    ],
)
def test_manifests_without_usable_times_are_refused(made: Manifest, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        measured_workload([made])


def test_the_command_takes_manifests_and_its_own_times(tmp_path: Path) -> None:
    manifest.write(dubbed(pool("speech/kokoro", 80, 40, 60.0)), tmp_path / MANIFEST_NAME)
    shown = raydub_here("plan", "--hours", 10, "--languages", 2, "--deadline", "10h", "--from-manifest", tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "speech/kokoro" in shown.stdout
    assert shown.stdout.count("assumed: ") == 5
    wanted = ("plan", "--hours", 10, "--languages", 2, "--deadline", "10h", "--config", "offline", "--json")
    told = json.loads(raydub_here(*wanted[:-3], "--from-manifest", tmp_path, "--json").stdout)
    times = tmp_path / "times.json"
    times.write_text(json.dumps(told))
    assert read_times(times).model_dump(mode="json") == told["workload"]
    again = json.loads(raydub_here(*wanted, "--times", times).stdout)
    assert again["wall_s"] == pytest.approx(told["wall_s"])


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ("pools: []\nlines_per_hour: 1\nvideos_s: [1]", "pools"),
        ("pools: [{name: speech, item_s: 1}]\nlines_per_hour: 1\nvideos_s: [1]", "task/engine"),
        ("pools: [{name: speech/a, item_ms: 1}]\nlines_per_hour: 1\nvideos_s: [1]", "item_ms"),
    ],
)
def test_wrong_times_are_named(tmp_path: Path, times: str, reason: str) -> None:
    path = tmp_path / "times.yaml"
    path.write_text(times)
    with pytest.raises(ConfigError, match=reason):
        read_times(path)


def test_wrong_usage_ends_with_2(tmp_path: Path) -> None:
    some = ("plan", "--hours", 1, "--languages", 1)
    assert raydub_here(*some, "--deadline", "24h").returncode == 2
    refused = raydub_here(*some, "--deadline", "soon", "--from-manifest", tmp_path)
    assert refused.returncode == 2
