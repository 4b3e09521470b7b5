"""Batches submitted to a cluster of several nodes on this machine, and again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

# Both are read when Ray is imported, here and in the cluster's processes.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_worker_niceness", "0")

from cluster import ledger
from tests.media import AudioSpec, make_media, tone
from tests.standins.nodes import Node, cluster

ROOT = Path(__file__).parents[2]
LINES = 3
LANGUAGES = ("pt", "es")
NUM_VIDEOS = 4


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[str, list[Node]]]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    try:
        with cluster(2, dashboard=True) as (made, workers):
            yield f"http://{made.webui_url}", workers
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.__setitem__("PYTHONPATH", before)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of short sounds, each with its subtitles: nothing has to be listened to."""
    folder = tmp_path_factory.mktemp("batch")
    rows = []
    for number in range(NUM_VIDEOS):
        media = make_media(folder / f"talk{number}.m4a", audio=[AudioSpec(samples=tone(2.0 * LINES))])
        cues = [f"00:0{2 * at}.000 --> 00:0{2 * at + 1}.500\nLine {at} of talk {number}." for at in range(LINES)]
        (folder / f"talk{number}.vtt").write_text("WEBVTT\n\n" + "\n\n".join(cues) + "\n")
        rows.append({"source": str(media), "subtitles": str(folder / f"talk{number}.vtt"), "from": "en"})
    path = folder / "batch.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def raydub(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.cli", *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=ROOT)
    assert not check or finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return finished


def submit(address: str, batch: Path, folder: Path, *more: str, service_s: float = 0.0, check: bool = True) -> str:
    options = f"{{log: {folder / 'log'}, service_s: {service_s}}}"
    settings = [
        "transcription.pool.num_cpus=0.1",
        "translation.engine=tests.standins.counted_translator",
        f"translation.options={options}",
        "translation.pool.num_cpus=0.1",
        "speech.engine=tests.standins.counted_speaker",
        f"speech.options={options}",
        "speech.pool.num_cpus=0.1",
        f"store.url={folder / 'store'}",
        "drivers.num_cpus=0.1",
        "price.cpu_hour=3.6",
    ]
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    folder.mkdir(exist_ok=True)
    finished = raydub(
        *("submit", batch, "--to", ",".join(LANGUAGES), "--out", folder / "out", "--config", "base"),
        *("--address", address, "--python", sys.executable, "--drivers", "2", *arguments, *more),
        check=check,
    )
    return finished.stdout.split()[0]


def computed(folder: Path) -> Counter[str]:
    """How often each piece of work was done, by whichever process."""
    return Counter(line.split(" ", 1)[1] for line in (folder / "log").read_text().splitlines())


@pytest.fixture(scope="module")
def undisturbed(nodes: tuple[str, list[Node]], batch: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    submit(nodes[0], batch, folder, "--wait")
    return folder


def test_every_item_is_dubbed_and_accounted_for(undisturbed: Path, nodes: tuple[str, list[Node]]) -> None:
    summary = ledger.Summary.model_validate_json((undisturbed / "out" / "summary.json").read_text())
    assert summary.states == {"done": NUM_VIDEOS}
    assert summary.num_segments == NUM_VIDEOS * LINES
    assert summary.cost > 0
    assert summary.cost_per_segment == pytest.approx(summary.cost / summary.num_segments, abs=1e-5)
    assert "talk3.m4a" in (undisturbed / "out" / "summary.html").read_text()
    assert set(computed(undisturbed).values()) == {1}
    spoken = [work for work in computed(undisturbed) if work.startswith("speak")]
    assert len(spoken) == NUM_VIDEOS * LINES * len(LANGUAGES)
    [job] = [
        row
        for row in json.loads(raydub("jobs", "list", "--address", nodes[0], "--json").stdout)["jobs"]
        if row["out"] == str(undisturbed / "out")
    ]
    shown = json.loads(raydub("jobs", "show", job["job"], "--address", nodes[0], "--json").stdout)
    assert shown["status"] == "SUCCEEDED"
    assert shown["summary"]["states"] == {"done": NUM_VIDEOS}
    assert "items: 4 done" in raydub("jobs", "logs", job["job"], "--address", nodes[0]).stdout


def test_the_same_again_computes_nothing(undisturbed: Path, nodes: tuple[str, list[Node]], batch: Path) -> None:
    before = computed(undisturbed)
    submit(nodes[0], batch, undisturbed, "--wait")
    assert computed(undisturbed) == before
    summary = ledger.Summary.model_validate_json((undisturbed / "out" / "summary.json").read_text())
    assert (summary.num_kept, summary.states) == (NUM_VIDEOS, {"done": NUM_VIDEOS})
