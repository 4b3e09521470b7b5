"""Key figures against the founding targets, from files and from metrics; what cannot be told has its reason."""

from __future__ import annotations

import dataclasses
import inspect
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster import manifest
from cluster.analysis.kpi import ENDED, KeyFigures, Measured, Targets, judge, of_dubs, of_metrics
from cluster.analysis.recorded import read_dubs
from cluster.batch.ledger import STATUS_NAME, ItemStatus
from cluster.cli.kpi import kpi
from cluster.manifest import Manifest
from cluster.storage.outputs import MANIFEST_NAME
from tests.command_line import raydub_here
from tests.unit.manifests import sample_manifest

BEGIN_S = datetime(2026, 11, 29, 12, 0, tzinfo=UTC).timestamp()
METRICS = """
ray_raydub_jobs_total{outcome="done"} 150
ray_raydub_jobs_total{outcome="degraded"} 49
ray_raydub_jobs_total{outcome="failed"} 1
ray_raydub_jobs_total{outcome="cancelled"} 7
ray_raydub_job_segments_total 21000
ray_raydub_job_finished_segments_total 20000
ray_raydub_job_wall_seconds_sum 2000
ray_raydub_jobs_busy_seconds_total 1500
ray_raydub_jobs_running_peak 12
ray_raydub_driver_peak_bytes{models="apart"} 7.5e8
"""


def recorded(wall_s: float = 10.0, num_segments: int = 100, **timings: Any) -> Manifest:
    sample = sample_manifest(num_segments)
    return sample.model_copy(update={"timings": sample.timings.model_copy(update={"wall_s": wall_s, **timings})})


def write_item(folder: Path, made: Manifest | None, end_s: float = 0.0, state: str = "done") -> Path:
    """One item of a batch."""
    folder.mkdir(parents=True)
    if made is not None:
        manifest.write(made, folder / MANIFEST_NAME)
    ended = datetime.fromtimestamp(BEGIN_S + end_s, UTC).isoformat(timespec="seconds")
    status = ItemStatus(source="a.mp4", out=str(folder), state=state, fingerprint="", error=None, ended=ended)
    (folder / STATUS_NAME).write_text(status.model_dump_json())
    return folder


def figures_of(*paths: Path) -> KeyFigures:
    return of_dubs(read_dubs(paths))


def test_one_manifest_tells_time_throughput_and_memory(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST_NAME
    manifest.write(recorded(wall_s=12.0, num_segments=200), path)
    figures = figures_of(path)
    assert figures == figures_of(tmp_path)
    assert figures.seconds_per_100.value == pytest.approx(6.0)
    assert figures.segments_per_s.value == pytest.approx(200 / 12)
    assert figures.memory_gb.value == pytest.approx(0.31)
    assert (figures.failed_percent.value, figures.videos_at_once.value) == (None, None)
    assert "folder of a batch" in figures.failed_percent.why
    assert "folder of a batch" in figures.videos_at_once.why


def test_a_batch_tells_all_five(tmp_path: Path) -> None:
    """Eleven at once, one alone after a pause, and one that failed."""
    for number in range(11):
        write_item(tmp_path / f"item{number}", recorded(wall_s=10.0), end_s=10 + number / 20)
    write_item(tmp_path / "alone", recorded(wall_s=10.0), end_s=40)
    write_item(tmp_path / "failed", None, state="failed")
    figures = figures_of(tmp_path)
    assert figures.seconds_per_100.value == pytest.approx(10.0)
    assert figures.segments_per_s.value == pytest.approx(1200 / 20)
    assert figures.failed_percent.value == pytest.approx(100 / 13)
    assert figures.videos_at_once.value == 11


def test_dubs_one_after_another_are_not_at_once(tmp_path: Path) -> None:
    for number in range(3):
        write_item(tmp_path / f"item{number}", recorded(wall_s=10.0), end_s=10 * (number + 1))
    assert figures_of(tmp_path).videos_at_once.value == 1


def test_several_manifests_without_times_tell_no_throughput(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        manifest.write(recorded(), folder / MANIFEST_NAME)
    figures = figures_of(*folders)
    assert figures.segments_per_s.value is None
    assert figures.seconds_per_100.value == pytest.approx(10.0)


def test_memory_with_models_in_it_is_not_taken_for_the_drivers(tmp_path: Path) -> None:
    made = recorded()
    write_item(tmp_path / "a", made.model_copy(update={"config": {**made.config, "ray": {"mode": "inline"}}}))
    assert figures_of(tmp_path).memory_gb == Measured(why="ray.mode is inline: the models are in the same process")


def test_metrics_tell_all_five() -> None:
    figures = of_metrics(METRICS)
    assert figures.seconds_per_100.value == pytest.approx(10.0)
    assert figures.segments_per_s.value == pytest.approx(14.0)
    assert figures.failed_percent.value == pytest.approx(0.5)
    assert figures.memory_gb.value == pytest.approx(0.75)
    assert figures.videos_at_once.value == 12
    assert [result.verdict for result in judge(figures, Targets())] == ["met"] * 5


def test_metrics_of_several_processes_are_added_up() -> None:
    """Two drivers of a batch: the longer one tells how long they worked."""

    def of(process: str, segments: int, busy_s: int, running: int, peak: int, peak_bytes: float) -> str:
        own = f'WorkerId="{process}"'
        return f"""
ray_raydub_jobs_total{{outcome="done",{own}}} 5
ray_raydub_job_segments_total{{{own}}} {segments}
ray_raydub_job_finished_segments_total{{{own}}} {segments}
ray_raydub_job_wall_seconds_sum{{{own}}} 100
ray_raydub_jobs_busy_seconds_total{{{own}}} {busy_s}
ray_raydub_jobs_running{{{own}}} {running}
ray_raydub_jobs_running_peak{{{own}}} {peak}
ray_raydub_driver_peak_bytes{{models="apart",{own}}} {peak_bytes}
"""

    figures = of_metrics(of("a", 600, 100, 6, 8, 5e8) + of("b", 300, 80, 7, 7, 7e8))
    assert figures.seconds_per_100.value == pytest.approx(100 * 200 / 900)
    assert figures.segments_per_s.value == pytest.approx(9.0)
    assert figures.videos_at_once.value == 13
    assert figures.memory_gb.value == pytest.approx(0.7)


def test_metrics_of_processes_that_have_ended_say_so() -> None:
    """Ray keeps their counters, and drops their gauges."""
    counters = "\n".join(line for line in METRICS.splitlines() if "peak" not in line) + "\n"
    figures = of_metrics(counters)
    assert figures.segments_per_s.value == pytest.approx(14.0)
    assert {figures.memory_gb, figures.videos_at_once} == {Measured(why=ENDED)}


def test_metrics_of_a_service_that_has_done_nothing_tell_nothing() -> None:
    results = judge(of_metrics(""), Targets())
    assert {result.verdict for result in results} == {"not measured"}
    assert all(result.why for result in results)


@pytest.mark.parametrize(
    ("field", "value", "verdict"),
    [
        ("seconds_per_100", 15.0, "missed"),
        ("seconds_per_100", 14.9, "met"),
        ("segments_per_s", 7.0, "missed"),
        ("failed_percent", 1.0, "missed"),
        ("memory_gb", 2.0, "missed"),
        ("videos_at_once", 10, "met"),
        ("videos_at_once", 9, "missed"),
    ],
)
def test_a_target_is_a_strict_bound_but_that_of_videos(field: str, value: float, verdict: str) -> None:
    figures = dataclasses.replace(of_metrics(METRICS), **{field: Measured(value=value)})
    [judged] = [result for result in judge(figures, Targets()) if result.verdict != "met"] or [None]
    assert ("met" if judged is None else judged.verdict) == verdict


def test_the_options_have_the_targets_as_defaults() -> None:
    options = inspect.signature(kpi).parameters
    assert {name: options[name].default for name in dataclasses.asdict(Targets())} == dataclasses.asdict(Targets())


def test_the_command_prints_a_table_or_json_and_is_strict_when_asked(tmp_path: Path) -> None:
    write_item(tmp_path / "slow", recorded(wall_s=100.0), end_s=100)
    shown = raydub_here("kpi", tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "time per 100 segments" in shown.stdout
    assert "missed" in shown.stdout
    strict = raydub_here("kpi", tmp_path, "--strict", "--json")
    assert strict.returncode == 1
    told = json.loads(strict.stdout)
    assert told["of"].startswith("1 dub by speech/kokoro, ")
    rows = {row["name"]: row for row in told["kpis"]}
    assert rows["time per 100 segments"]["measured"] == pytest.approx(100.0)
    easier = ("--max-time-per-100", 101, "--min-segments-per-s", 0.5, "--min-videos", 1)
    assert raydub_here("kpi", tmp_path, "--strict", *easier).returncode == 0


def test_what_is_no_dub_is_named(tmp_path: Path) -> None:
    nothing = raydub_here("kpi", tmp_path)
    assert nothing.returncode == 2
    assert str(tmp_path) in nothing.stderr
    (tmp_path / MANIFEST_NAME).write_text("{}")
    assert raydub_here("kpi", tmp_path).returncode == 1
    assert raydub_here("kpi").returncode == 2
    assert raydub_here("kpi", tmp_path, "--address", "http://127.0.0.1:9").returncode == 2
    nobody = raydub_here("kpi", "--address", "http://127.0.0.1:9")
    assert nobody.returncode == 1
    assert "dashboard at http://127.0.0.1:9 must answer" in nobody.stderr
    assert raydub_here("kpi", "--url", "http://127.0.0.1:9").returncode == 2
