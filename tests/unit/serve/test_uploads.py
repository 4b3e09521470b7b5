"""Uploads under way count against their owner's limits: no more are received than there are places."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from actors.errors import CapacityError
from serve.dispatch.claims import JobRunner, _RunningJob
from serve.errors import ServiceFullError
from serve.ids import new_dub_id
from serve.jobs.database import Database
from serve.jobs.jobs import DubOptions, Jobs, NewDub
from serve.jobs.tables import Dub
from serve.settings import KeyLimits, ServeSettings

LIMITS = KeyLimits(max_active_dubs=2, max_stored_bytes=1000)


def new(owner: str) -> NewDub:
    return NewDub(id=new_dub_id(), owner=owner, name="x", options=DubOptions(), targets=("pt",), duration_s=1.0)


async def test_an_upload_keeps_a_place_until_it_ends_or_its_dub_is_made(tmp_path: Path) -> None:
    async with Database.open(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}") as database:
        jobs = Jobs(database, max_queued=100)
        async with jobs.uploading("a", LIMITS, 0):
            await jobs.create(new("a"), LIMITS)
            async with jobs.uploading("a", LIMITS, 0):  # the dub that was made counts once
                for _ in range(2):
                    with pytest.raises(CapacityError, match="2 dubs uploading, waiting or running"):
                        async with jobs.uploading("a", LIMITS, 0):
                            raise AssertionError
                async with jobs.uploading("b", LIMITS, 0):
                    pass
        async with jobs.uploading("a", LIMITS, 0):
            await jobs.create(new("a"), LIMITS)
        with pytest.raises(CapacityError):
            await jobs.check_room("a", LIMITS)


async def test_bytes_and_places_of_all_are_kept_too(tmp_path: Path) -> None:
    async with Database.open(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}") as database:
        jobs = Jobs(database, max_queued=2)
        async with jobs.uploading("a", LIMITS, 600):
            with pytest.raises(CapacityError, match="600 are being uploaded and 500 would be added") as refused:
                await jobs.check_room("a", LIMITS, 500)
            assert refused.value.retry_after_s == 30.0
            async with jobs.uploading("b", LIMITS, 500):
                with pytest.raises(ServiceFullError):
                    await jobs.check_room("c", LIMITS)
        await jobs.check_room("a", LIMITS, 500)


async def test_a_repeated_request_takes_no_second_place(tmp_path: Path) -> None:
    limits = KeyLimits(max_active_dubs=1)
    async with Database.open(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}") as database:
        jobs = Jobs(database, max_queued=100)
        async with jobs.uploading("a", limits, 0, "key"), jobs.uploading("a", limits, 0, "key"):
            with pytest.raises(CapacityError):
                async with jobs.uploading("a", limits, 0, "another"):
                    raise AssertionError


@pytest.mark.parametrize(
    ("owner", "is_fetched", "wakes"),
    [("one", True, []), ("two", True, ["jobs"]), ("one", False, ["downloads"])],
)
def test_a_new_job_wakes_only_who_can_take_it(owner: str, is_fetched: bool, wakes: list[str]) -> None:
    """All places are taken by ``one``, but that for owners who have none."""
    parts = {name: Mock() for name in ("leases", "jobs", "files", "attempts", "fetcher", "feed", "health")}
    runner = JobRunner(ServeSettings(), max_jobs=1, **parts)
    woken: list[str] = []
    runner._loop = Mock(wake=lambda: woken.append("jobs"))
    parts["fetcher"].wake = lambda: woken.append("downloads")
    runner._running["a"] = _RunningJob(task=Mock(), owner="one")
    runner.wake(Dub(id="b", owner=owner, is_fetched=is_fetched))
    assert woken == wakes
