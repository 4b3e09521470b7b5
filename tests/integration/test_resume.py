"""Dubbing again: nothing is computed twice, whatever ended the run before; an edit costs its own speech."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest

from cluster import manifest as manifests
from cluster.batch.redub import redub_job
from cluster.batch.runner import ItemOutcome, run
from cluster.demo.talk import make_talk
from cluster.manifest import Manifest
from cluster.pipeline import Job
from tests.integration.dubbing import dub_one

TALK_S = 20.0


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("talk") / "talk.mp4"
    make_talk(path, TALK_S)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def first(talk: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A run that found nothing in the store, and where its results are."""
    out = tmp_path_factory.mktemp("first")
    return out / "talk", asyncio.run(dub_one(talk, out, settings=kept_in(store)))


def kept_in(store: Path) -> tuple[str, ...]:
    return ("speech.engine=tests.standins.speaks", f"store.url={store}")


def counts(manifest: Manifest) -> dict[str, tuple[int, int]]:
    """Stage → results found, items computed."""
    return {pool.name.partition("/")[0]: (pool.num_hits, pool.num_items) for pool in manifest.timings.pools}


def asked(manifest: Manifest) -> dict[str, int]:
    """Stage → requests. Equal ones that meet in flight share a result, which is neither found nor computed."""
    return {
        pool.name.partition("/")[0]: pool.num_hits + pool.num_items + pool.num_shared for pool in manifest.timings.pools
    }


def computed(manifest: Manifest) -> dict[str, int]:
    return {stage: num_items for stage, (_, num_items) in counts(manifest).items() if num_items}


async def again(path: Path, store: Path, out: Path, *only: str) -> Manifest:
    """The dub of a manifest, into another folder."""
    job, config = redub_job(
        path, source=None, out=out, only=only, assignments=["ray.mode=inline", f"store.url={store}"]
    )
    [outcome] = await run([job], config, lambda progress: None, lambda outcome: None)
    assert outcome.manifest is not None, outcome.error
    return outcome.manifest


def lines_of(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """What is said, by whom and when; not how it was chosen, nor its gain, which is by all lines so far."""
    said = {"text", "voice", "slot_start_s", "slot_end_s", "start_s", "end_s", "rung", "rate", "stretch", "flags"}
    return {line.id: line.model_dump(include=said) for dub in manifest.dubs for line in dub.utterances}


async def test_the_second_run_computes_nothing(
    talk: Path, store: Path, first: tuple[Path, Manifest], tmp_path: Path
) -> None:
    stored = values(store)
    second = await dub_one(talk, tmp_path, settings=kept_in(store))
    assert second.comparable() == first[1].comparable()
    assert values(store) == stored
    assert sound_of(tmp_path / "talk" / second.media_file) == sound_of(first[0] / second.media_file)
    assert set(counts(second)) >= {"transcription", "translation", "speech"}
    assert computed(second) == {}
    assert asked(second) == asked(first[1])


async def test_a_manifest_as_it_is_gives_the_same_again(
    store: Path, first: tuple[Path, Manifest], tmp_path: Path
) -> None:
    folder, manifest = first
    second = await again(folder / "manifest.json", store, tmp_path / "talk")
    assert computed(second) == {}
    assert lines_of(second) == lines_of(manifest)
    assert (second.segments, second.units) == (manifest.segments, manifest.units)
    assert (tmp_path / "talk" / "pt.srt").read_text() == (folder / "pt.srt").read_text()


async def test_an_edit_costs_its_own_speech(store: Path, first: tuple[Path, Manifest], tmp_path: Path) -> None:
    folder, manifest = first
    tree = json.loads((folder / "manifest.json").read_text())
    edited = tree["dubs"][0]["utterances"][1]
    edited["text"] = "Isto é outra coisa."
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(tree))
    stored = values(store)
    second = await again(path, store, tmp_path / "talk")
    assert computed(second)["speech"] == 2  # it was planned, and spoken
    made = Counter(value.relative_to(store).parts[0] for value in values(store).keys() - stored.keys())
    assert made == {"speech": 2, "sound": 2}  # the mix, and the report's copy of it
    was, now = lines_of(manifest), lines_of(second)
    assert now.pop(edited["id"])["text"] == "Isto é outra coisa."
    was.pop(edited["id"])
    assert now == was
    assert "Isto é outra coisa." in (tmp_path / "talk" / "pt.srt").read_text()


async def test_one_utterance_afresh(store: Path, first: tuple[Path, Manifest], tmp_path: Path) -> None:
    folder, manifest = first
    second = await again(folder / "manifest.json", store, tmp_path / "talk", "pt:u0001")
    assert computed(second) == {"speech": 1}
    assert lines_of(second) == lines_of(manifest)


async def test_two_runs_on_one_output(talk: Path, store: Path, first: tuple[Path, Manifest], tmp_path: Path) -> None:
    job, config = redub_job(
        first[0] / "manifest.json",
        source=talk,
        out=tmp_path / "talk",
        only=(),
        assignments=["ray.mode=inline", f"store.url={store}"],
    )
    jobs: list[Job] = [job, replace(job)]
    outcomes: list[ItemOutcome] = await run(jobs, config, lambda progress: None, lambda outcome: None)
    [refused] = [outcome.error for outcome in outcomes if outcome.manifest is None]
    assert f"process {os.getpid()} on" in (refused or "")
    assert manifests.read(tmp_path / "talk" / "manifest.json").status == "done"


def test_killed_time_and_again_it_computes_nothing_twice(
    talk: Path, first: tuple[Path, Manifest], tmp_path: Path
) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "cluster.cli.main",
        "dub",
        str(talk),
        "--from",
        "en",
        "--to",
        "pt",
        "--out",
        str(out),
    ]
    settings = ("ray.mode=inline", "quality.check=none", *kept_in(store))
    command += ["--json", *(part for setting in settings for part in ("--set", setting))]
    stored: dict[Path, int] = {}
    for _ in range(2):
        wanted = len(stored) + 3
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while len(stored) < wanted and process.poll() is None:
            time.sleep(0.01)
            stored |= values(store)
        process.send_signal(signal.SIGKILL)
        process.wait()
        stored |= values(store)
    finished = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    # A value that is put again is another file.
    assert values(store).items() >= stored.items()
    timings = json.loads(finished.stdout)["results"][0]["timings"]
    assert sum(pool["num_hits"] for pool in timings["pools"]) >= len(stored)
    assert manifests.read(out / "talk" / "manifest.json").comparable() == first[1].comparable()
    assert [path.name for path in out.iterdir()] == ["talk"]


def sound_of(path: Path) -> list[bytes]:
    """The packets of its first track of sound."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0])]


def values(store: Path) -> dict[Path, int]:
    """The store's files, and which they are; whole ones only."""
    found = {}
    for path in store.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            found[path] = path.stat().st_ino
    return found
