"""Drivers as their coordinator sees them: the actors are stand-ins, whose calls the test answers."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.batch import coordinator, drivers, ledger
from cluster.batch.drivers import DriverState
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.pipeline import Job
from cluster.pools.stats import RoomWait
from tests.standins.sharded import statuses_of

Call = asyncio.Future[Any]


class Cluster:
    """In ``calls``, by the method, what waits for an answer; in ``killed`` the actors that were."""

    def __init__(self) -> None:
        self.calls: defaultdict[str, asyncio.Queue[Call]] = defaultdict(asyncio.Queue)
        self.killed: list[object] = []

    def remote(self, actor: type) -> Any:
        """As ``ray.remote``."""
        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=lambda *arguments: self._actor()))

    def kill(self, actor: object) -> None:
        """As ``ray.kill``."""
        self.killed.append(actor)

    def _actor(self) -> object:
        methods = ("open", "dub", "ping", "close")
        return SimpleNamespace(**{name: SimpleNamespace(remote=self._method(name)) for name in methods})

    def _method(self, name: str) -> Any:
        def call(*arguments: object) -> Call:
            answer = asyncio.get_running_loop().create_future()
            self.calls[name].put_nowait(answer)
            return answer

        return call

    async def answer(self, method: str, result: object = None) -> None:
        (await self.calls[method].get()).set_result(result)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(drivers.ray, "remote", made.remote)
    monkeypatch.setattr(drivers.ray, "kill", made.kill)
    monkeypatch.setattr(coordinator, "look_at_input", _of_one_second)
    return made


async def _of_one_second(*_: object) -> float:
    return 1.0


def config_of(*settings: str) -> Config:
    return load_config("base", ["ray.mode=cluster", "speech.engine=tests.standins.echo", *settings])


def job_of(tmp_path: Path) -> Job:
    return Job(
        source=tmp_path / "talk.mp4", targets=("pt",), source_language="en", audio_track=None, out=tmp_path / "out"
    )


async def test_a_coordinator_that_stood_still_loses_no_driver(cluster: Cluster, tmp_path: Path) -> None:
    """For twice the time in which a driver must answer; the answer is read only then."""
    job = job_of(tmp_path)
    status = ledger.failed(job, "why")
    run = asyncio.create_task(statuses_of([job], config_of("drivers.silence_timeout_s=0.2"), 1))
    await cluster.answer("open")
    ping = await cluster.calls["ping"].get()
    time.sleep(0.4)  # noqa: ASYNC251  # that is the point
    asyncio.get_running_loop().call_later(0.06, ping.set_result, DriverState())
    await asyncio.wait((ping,))
    assert not ping.cancelled()
    await cluster.answer("dub", status)
    await cluster.answer("close")
    assert await run == [status]
    assert len(cluster.killed) == 1


async def test_a_driver_that_is_no_longer_needed_is_not_waited_for(cluster: Cluster, tmp_path: Path) -> None:
    job = job_of(tmp_path)
    status = ledger.failed(job, "why")
    run = asyncio.create_task(statuses_of([job], config_of(), 2))
    await cluster.answer("open")
    await cluster.answer("dub", status)
    await cluster.answer("close")
    assert await run == [status]
    assert len(cluster.killed) == 2


STUCK = DriverState(
    waits=(RoomWait(name="speech/x", number=1, seconds=61.0, text="waiting 61 s for 1 replica of speech/x"),),
    is_stuck=True,
)


async def test_a_driver_that_cannot_have_all_its_replicas_gives_back_what_it_holds_and_tries_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    job = job_of(tmp_path)
    status = ledger.failed(job, "why")
    told: list[str] = []
    settings = ("drivers.silence_timeout_s=0.2", "drivers.restart_delay_s=0")
    run = asyncio.create_task(
        statuses_of([job], config_of(*settings), 1, on_waits=lambda waits: told.extend(map(str, waits)))
    )
    for _ in range(2):
        await cluster.answer("open")
        await cluster.calls["dub"].get()
        await cluster.answer("ping", STUCK)
        await cluster.answer("close")
    assert "waiting 61 s for 1 replica of speech/x" in told[0]
    await cluster.answer("open")
    await cluster.answer("dub", status)
    await cluster.answer("close")
    assert await run == [status]
    assert len(cluster.killed) == 3


async def test_a_driver_that_never_has_all_its_replicas_is_given_up(cluster: Cluster, tmp_path: Path) -> None:
    settings = ("drivers.silence_timeout_s=0.2", "drivers.restart_delay_s=0", "drivers.max_start_failures=2")
    run = asyncio.create_task(statuses_of([job_of(tmp_path)], config_of(*settings), 1))
    for _ in range(2):
        await cluster.answer("open")
        await cluster.calls["dub"].get()
        await cluster.answer("ping", STUCK)
        await cluster.answer("close")
    [status] = await run
    assert "waiting 61 s for 1 replica of speech/x" in str(status.error)
