"""Batches submitted to a cluster of several nodes on this machine: undisturbed, again, and disturbed."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Both are read when Ray is imported, here and in the cluster's processes.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_worker_niceness", "0")

from ray.exceptions import AuthenticationError

from actors.errors import DubbingError
from cluster.cli import jobs, ray_jobs
from tests.command_line import raydub_here
from tests.standins.batches import LANGUAGES, Batch, code_on_nodes, coordinator_of, make_batch, raydub
from tests.standins.nodes import Node, cluster

NUM_VIDEOS, NUM_LINES = 4, 3
PATIENCE_S = 400.0
UNCHECKED = ("quality.check=none",)
"""Nothing is heard again: what these tests count is what is translated and spoken."""
NUM_SPOKEN = NUM_VIDEOS * NUM_LINES * len(LANGUAGES)


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[str, list[Node]]]:
    with code_on_nodes(), cluster(2, dashboard=True, num_cpus=4) as (made, workers):
        yield f"http://{made.webui_url}", workers


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_batch(tmp_path_factory.mktemp("batch"), NUM_VIDEOS, NUM_LINES)


@pytest.fixture(scope="module")
def undisturbed(nodes: tuple[str, list[Node]], rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    batch = Batch(rows=rows, folder=tmp_path_factory.mktemp("undisturbed"), more_settings=UNCHECKED)
    batch.submit(nodes[0], "--wait")
    return batch


def wait_for(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.1)


def test_every_item_is_dubbed_and_accounted_for(undisturbed: Batch, nodes: tuple[str, list[Node]]) -> None:
    summary = undisturbed.summary()
    assert summary is not None
    assert summary.states == {"done": NUM_VIDEOS}
    assert summary.num_segments == NUM_VIDEOS * NUM_LINES
    assert summary.cost > 0
    assert summary.cost_per_segment == pytest.approx(summary.cost / summary.num_segments, abs=1e-5)
    assert "talk3.mp4" in (undisturbed.out / "summary.html").read_text()
    assert set(undisturbed.computed().values()) == {1}
    assert undisturbed.is_all_stored()
    assert sum(work.startswith("speak") for work in undisturbed.computed()) == NUM_SPOKEN
    listed = json.loads(raydub_here("jobs", "list", "--address", nodes[0], "--json").stdout)["jobs"]
    [job] = [row for row in listed if row["out"] == str(undisturbed.out)]
    shown = json.loads(raydub_here("jobs", "show", job["job"], "--address", nodes[0], "--json").stdout)
    assert shown["status"] == "SUCCEEDED"
    assert shown["summary"]["states"] == {"done": NUM_VIDEOS}
    assert "items: 4 done" in raydub_here("jobs", "logs", job["job"], "--address", nodes[0]).stdout


def test_key_figures_are_told_of_the_batch_and_of_the_clusters_nodes(
    undisturbed: Batch, nodes: tuple[str, list[Node]]
) -> None:
    files = json.loads(raydub_here("kpi", undisturbed.out, "--json").stdout)
    assert files["of"] == (
        "4 dubs by speech/tests.standins.counted_speaker, translation/tests.standins.counted_translator"
    )
    assert all(row["measured"] is not None for row in files["kpis"])
    deadline_s = time.monotonic() + PATIENCE_S
    while (answer := raydub_here("kpi", "--address", nodes[0], "--json")).returncode != 0:
        # A node tells its metrics some time after it has joined.
        assert "every node of the cluster must tell its metrics" in answer.stderr
        assert time.monotonic() < deadline_s, answer.stderr
    told = json.loads(answer.stdout)
    assert told["of"] == f"all dubs of the processes that run at {nodes[0]}"
    assert [row["name"] for row in told["kpis"]] == [row["name"] for row in files["kpis"]]


def test_the_same_again_computes_nothing(undisturbed: Batch, nodes: tuple[str, list[Node]]) -> None:
    before = undisturbed.computed()
    undisturbed.submit(nodes[0], "--wait")
    assert undisturbed.computed() == before
    summary = undisturbed.summary()
    assert summary is not None
    assert (summary.num_kept, summary.states) == (NUM_VIDEOS, {"done": NUM_VIDEOS})


def test_killed_stopped_and_with_a_node_lost_it_computes_nothing_that_was_stored(
    undisturbed: Batch, nodes: tuple[str, list[Node]], rows: Path, tmp_path: Path
) -> None:
    address, workers = nodes
    batch = Batch(rows=rows, folder=tmp_path / "disturbed", service_s=3.0, more_settings=UNCHECKED)
    job = batch.submit(address)
    following = subprocess.Popen(
        [sys.executable, "-m", "cluster.cli.main", "jobs", "logs", job, "--follow", "--address", address],
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: batch.computed().total() >= 5)
    shown = json.loads(raydub_here("jobs", "show", job, "--address", address, "--json").stdout)
    assert shown["status"] == "RUNNING"
    states = shown["summary"]["states"]
    assert states["running"] >= 1
    assert states["running"] + states.get("waiting", 0) == NUM_VIDEOS
    coordinator = coordinator_of(job)
    assert coordinator is not None
    coordinator.kill()
    assert "batch items=4 drivers=2" in following.communicate()[0]
    assert following.returncode == 1

    before = batch.computed()
    job = batch.submit(address)
    wait_for(lambda: batch.computed() != before)
    assert raydub_here("jobs", "stop", job, "--address", address).returncode == 0

    def show() -> list[str]:
        return raydub_here("jobs", "show", job, "--address", address).stdout.splitlines()

    wait_for(lambda: show()[0] == f"{job}: STOPPED: {NUM_VIDEOS} waiting")
    assert [line.split() for line in show()[1:]] == [
        ["waiting", str(path)] for path in sorted(rows.parent.glob("*.mp4"))
    ]

    before = batch.computed()
    entry = [sys.executable, "-m", "cluster.cli.batch_job", *dataclasses.replace(batch, service_s=0.1).arguments()]
    ray = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--no-wait", "--address", address, "--"]
    subprocess.run([*ray, *entry, "--set", "ray.mode=cluster"], check=True, stdout=subprocess.DEVNULL)
    wait_for(lambda: batch.computed() != before)
    workers.pop().drop()
    wait_for(batch.summary)

    assert batch.contents() == undisturbed.contents()
    assert batch.computed_though_stored() == []
    summary = batch.summary()
    assert summary is not None
    assert summary.states == {"done": NUM_VIDEOS}


def test_a_bad_item_is_told_before_anything_is_submitted(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("source,to\na.mp4,pt\n,pt\n")
    finished = raydub("submit", rows, "--out", tmp_path, "--address", "http://127.0.0.1:1", check=False)
    assert finished.returncode == 2
    assert "row 2: field source" in finished.stderr


def test_a_token_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str) -> None:
        raise AuthenticationError("no token")

    monkeypatch.setattr(ray_jobs, "JobSubmissionClient", refuse)
    with pytest.raises(DubbingError, match="RAY_AUTH_MODE=token"):
        jobs.stop("raydub-1", "http://head:8265")
