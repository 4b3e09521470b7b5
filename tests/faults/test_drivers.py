"""A batch over several drivers, with real processes: some are killed, frozen or stopped while they work."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

# Both are read when Ray is imported.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_worker_niceness", "0")

import ray

import cluster.batch.drivers as drivers_module
from actors.errors import ConfigError
from cluster.batch import coordinator, room
from cluster.batch.ledger import ItemStatus
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.pipeline import Job
from cluster.streams import within
from tests.media import AudioSpec, make_media, speech
from tests.standins.sharded import statuses_of

PATIENCE_S = 300.0
SHORT, LONG = "Good evening.", "Good evening, ladies and gentlemen, and a warm welcome to you all."
FATAL_S = 2.5
"""More than SHORT takes, less than LONG."""


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=16,
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return (
        make_media(folder / "short.m4a", audio=[AudioSpec(samples=speech(SHORT))]),
        make_media(folder / "long.m4a", audio=[AudioSpec(samples=speech(LONG))]),
    )


def jobs_of(tmp_path: Path, *clips: Path) -> list[Job]:
    jobs = []
    for index, clip in enumerate(clips):
        source = Path(shutil.copy(clip, tmp_path / f"{index}{clip.suffix}"))
        out = tmp_path / "out" / str(index)
        jobs.append(Job(source=source, targets=("pt",), source_language="en", audio_track=None, out=out))
    return jobs


def config_of(tmp_path: Path, *settings: str, mode: str = "cluster") -> Config:
    return load_config(
        "base",
        [
            f"ray.mode={mode}",
            "drivers.num_cpus=0.1",
            "transcription.engine=tests.standins.waiting_listener",
            f"transcription.options={{folder: {tmp_path}}}",
            "transcription.pool.num_cpus=0.1",
            "translation.engine=tests.standins.echo",
            "translation.pool.num_cpus=0.1",
            "speech.engine=tests.standins.echo",
            "speech.pool.num_cpus=0.1",
            *settings,
        ],
    )


def processes(*names: str) -> list[psutil.Process]:
    """This test's Ray workers by the actor they are."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if any(title.startswith(f"ray::{name}") for name in names):
            found.append(process)
    return found


async def until_listening(run: asyncio.Task[Any], folder: Path, num_processes: int) -> list[psutil.Process]:
    def wait() -> list[Path]:
        while len(found := list(folder.glob("pid-*"))) < num_processes and not run.done():
            time.sleep(0.05)
        return found

    found = await asyncio.to_thread(wait)
    assert not run.done(), run.result()
    return [psutil.Process(int(path.name.removeprefix("pid-"))) for path in found]


def one_ends(some: list[psutil.Process]) -> bool:
    end_s = time.monotonic() + PATIENCE_S
    while all(process.is_running() for process in some) and time.monotonic() < end_s:
        time.sleep(0.05)
    return not all(process.is_running() for process in some)


async def nothing_outlives() -> bool:
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes("Driver", "ActorHost"), PATIENCE_S)
    return not alive


async def test_videos_of_a_killed_driver_go_to_others(tmp_path: Path, clips: tuple[Path, Path]) -> None:
    jobs = jobs_of(tmp_path, *[clips[0]] * 6)
    came: list[ItemStatus] = []
    (tmp_path / "hold").touch()
    run = asyncio.create_task(statuses_of(jobs, config_of(tmp_path), 2, came.append))
    replicas = await until_listening(run, tmp_path, 2)
    victim, _ = processes("Driver")
    victim.kill()
    assert await asyncio.to_thread(one_ends, replicas)
    assert not came
    (tmp_path / "hold").unlink()
    outcomes = await run
    assert [outcome.out for outcome in outcomes] == [job.out_location for job in jobs]
    assert [outcome.error for outcome in outcomes] == [None] * 6
    assert all((job.out / "manifest.json").exists() for job in jobs)
    assert len(came) == len(outcomes)
    assert await nothing_outlives()


async def test_a_video_that_kills_drivers_fails_alone(tmp_path: Path, clips: tuple[Path, Path]) -> None:
    short, long = clips
    jobs = jobs_of(tmp_path, short, long, short, short)
    config = config_of(tmp_path, f"transcription.options.fatal_s={FATAL_S}", mode="inline")
    outcomes = await statuses_of(jobs, config, 2)
    assert [outcome.state == "failed" for outcome in outcomes] == [False, True, False, False]
    assert "3 drivers were lost with it" in str(outcomes[1].error)
    assert await nothing_outlives()


async def test_a_frozen_driver_is_replaced(
    tmp_path: Path, clips: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[psutil.Process] = []

    async def unless_frozen(timeout_s: float, awaitable: Awaitable[Any]) -> Any:
        """A driver that is only slow, on a busy machine, has all the time it needs."""
        call = asyncio.ensure_future(awaitable)
        while not call.done() and not any(process.is_running() for process in frozen):
            await asyncio.wait((call,), timeout=0.1)
        return await within(timeout_s, call)

    monkeypatch.setattr(drivers_module, "within", unless_frozen)
    jobs = jobs_of(tmp_path, *[clips[0]] * 3)
    (tmp_path / "hold").touch()
    run = asyncio.create_task(statuses_of(jobs, config_of(tmp_path, "drivers.silence_timeout_s=4"), 1))
    await until_listening(run, tmp_path, 1)
    frozen += processes("Driver")
    frozen[0].suspend()
    (tmp_path / "hold").unlink()
    assert [outcome.error for outcome in await run] == [None] * 3
    assert not frozen[0].is_running()
    assert await nothing_outlives()


async def test_cancelled_it_leaves_nothing(tmp_path: Path, clips: tuple[Path, Path]) -> None:
    jobs = jobs_of(tmp_path, *[clips[0]] * 4)
    (tmp_path / "hold").touch()
    run = asyncio.create_task(statuses_of(jobs, config_of(tmp_path), 2))
    await until_listening(run, tmp_path, 2)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert not list((tmp_path / "out").iterdir())
    assert await nothing_outlives()


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("drivers.num_cpus=17", "driver needs 17 CPU on one node; the nodes have 16 CPU"),
        ("drivers.num_cpus=15.9", r"need \d+\.?\d* CPU \(driver 15.9.*; the nodes have 16 CPU; lower num_cpus"),
        ("speech.pool.num_gpus=3", "speech/tests.standins.echo needs 0.1 CPU, 3 GPU on one node"),
    ],
)
async def test_what_the_cluster_can_never_hold_is_refused_with_the_arithmetic(
    setting: str, reason: str, tmp_path: Path, clips: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "REPORT_S", PATIENCE_S)
    with pytest.raises(ConfigError, match=reason):
        await statuses_of(jobs_of(tmp_path, *clips), config_of(tmp_path, setting), 1)


async def test_drivers_that_cannot_start_fail_every_video(
    tmp_path: Path, clips: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def accept(_: object) -> None:
        return None

    monkeypatch.setattr(coordinator, "check_room", accept)
    settings = ("drivers.resources={moon: 1}", "drivers.start_timeout_s=0.5", "drivers.max_start_failures=1")
    jobs = jobs_of(tmp_path, *clips)
    outcomes = await statuses_of(jobs, config_of(tmp_path, *settings), 2)
    assert ["a driver must start" in str(outcome.error) for outcome in outcomes] == [True, True]


async def test_an_input_that_is_no_media_is_an_outcome_like_others(tmp_path: Path, clips: tuple[Path, Path]) -> None:
    jobs = jobs_of(tmp_path, clips[0], clips[1])
    jobs[0].source.write_bytes(b"no media")
    outcomes = await statuses_of(jobs, config_of(tmp_path, mode="inline"), 1)
    assert outcomes[0].state == "failed"
    assert outcomes[1].error is None
