"""Costs of a batch of any size, counted in calls: what a video costs does not grow with the number of videos."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.errors import MediaError
from cluster.batch import coordinator, items, ledger, recorder
from cluster.batch.coordinator import run_sharded
from cluster.batch.items import Item, jobs_of
from cluster.batch.ledger import ItemStatus
from cluster.batch.run import BatchSpec
from cluster.batch.sharding import Sharding
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.pipeline import Job
from tests.standins.ghost_drivers import GhostDrivers, look_at_once
from tests.standins.sharded import statuses_of

ENGINES = [f"{task}.engine=tests.standins.echo" for task in ("translation", "speech")]
CONFIG = load_config("base", ["ray.mode=inline", *ENGINES])


def jobs(folder: Path, number: int) -> list[Job]:
    names = [f"talk{index}" for index in range(number)]
    return [
        Job(source=folder / name, targets=("pt",), source_language="en", audio_track=None, out=folder / "out" / name)
        for name in names
    ]


@pytest.fixture
def cluster() -> Iterator[GhostDrivers]:
    with GhostDrivers().in_place() as made:
        yield made


async def test_the_first_video_waits_for_no_look_at_all_inputs(
    cluster: GhostDrivers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    num_looked_at_first: list[int] = []

    async def look(job: Job, config: Config) -> float:
        looked.append(job.source.name)
        return await look_at_once(job, config)

    monkeypatch.setattr(coordinator, "look_at_input", look)
    some = jobs(tmp_path, 500)
    await run_sharded(some, CONFIG, 1, lambda _: None, on_start=lambda _: num_looked_at_first.append(len(looked)))
    assert num_looked_at_first[0] <= coordinator.FIRST_AHEAD[0] + coordinator.MAX_LOOKS
    assert sorted(looked) == sorted(job.source.name for job in some)


async def test_no_more_inputs_are_looked_at_than_drivers_will_soon_need(
    cluster: GhostDrivers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_looked, most_ahead = 0, 0

    async def look(job: Job, config: Config) -> float:
        nonlocal num_looked, most_ahead
        num_looked += 1
        most_ahead = max(most_ahead, num_looked - len(cluster.dubbed))
        return 1.0

    monkeypatch.setattr(coordinator, "look_at_input", look)
    await run_sharded(jobs(tmp_path, 3_000), CONFIG, 2, lambda _: None)
    assert num_looked == 3_000
    assert most_ahead <= coordinator.AHEAD[0] + coordinator.MAX_LOOKS + 2 * CONFIG.pipeline.max_videos


async def test_finished_items_are_neither_looked_at_nor_dubbed(cluster: GhostDrivers, tmp_path: Path) -> None:
    some = jobs(tmp_path, 20)
    ended: list[str] = []
    await run_sharded(
        some, CONFIG, 2, lambda status: ended.append(status.out), is_wanted=lambda job: job.source.name.endswith("1")
    )
    assert sorted(ended) == sorted(job.out_location for job in (some[1], some[11]))
    cluster.dubbed.clear()
    await run_sharded(some, CONFIG, 2, lambda _: None, is_wanted=lambda job: False)
    assert not cluster.dubbed


async def test_missing_inputs_end_without_a_driver(
    cluster: GhostDrivers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(job: Job, config: Config) -> float:
        raise MediaError("found no such file")

    monkeypatch.setattr(coordinator, "look_at_input", look)
    statuses = await statuses_of(jobs(tmp_path, 3), CONFIG, 2)
    assert [status.error for status in statuses] == ["found no such file"] * 3
    assert not cluster.most_open


async def test_an_outcome_wakes_few_of_many_drivers(
    cluster: GhostDrivers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_asked = Counter[int]()
    take = Sharding.take

    def counted(sharding: Sharding, driver: int) -> int | None:
        num_asked[driver] += 1
        return take(sharding, driver)

    monkeypatch.setattr(Sharding, "take", counted)
    num_videos, num_drivers = 2000, 100
    statuses = await statuses_of(jobs(tmp_path, num_videos), CONFIG, num_drivers)
    assert len(statuses) == num_videos
    assert num_asked.total() <= 4 * num_videos


async def test_waits_are_told_only_where_there_are_some(cluster: GhostDrivers, tmp_path: Path) -> None:
    told: list[Sequence[object]] = []
    await run_sharded(jobs(tmp_path, 50), CONFIG, 20, lambda _: None, on_waits=told.append)
    assert not told


def counted(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> Counter[str]:
    """Counts the calls of a function."""
    number, function = Counter[str](), getattr(module, name)

    def call(*arguments: Any, **named: Any) -> Any:
        number[name] += 1
        return function(*arguments, **named)

    monkeypatch.setattr(module, name, call)
    return number


def test_items_that_are_alike_are_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks, resolved = (
        counted(monkeypatch, items, "check_languages"),
        counted(monkeypatch, os.path, "realpath"),
    )
    rows = [Item(source=str(tmp_path / f"talk{number}.mp4"), to=("pt", "es")) for number in range(300)]
    rows.append(rows[0].model_copy(update={"to": ("fr",), "name": "another"}))
    made = jobs_of(rows, str(tmp_path / "out"), CONFIG)
    assert len(made) == 301
    assert checks["check_languages"] == 2
    assert resolved["realpath"] < 10


def test_the_configuration_is_hashed_once_for_items_that_are_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = counted(monkeypatch, ledger, "item_config")
    fingerprints = ledger.Fingerprints(CONFIG)
    assert len({fingerprints.of(job) for job in jobs(tmp_path, 30)}) == 30
    assert made["item_config"] == 1


def test_a_batch_is_not_shown_whole_in_a_line(tmp_path: Path) -> None:
    """As asyncio does with the result of each main task, when it ends."""
    statuses = [ledger.failed(job, "why") for job in jobs(tmp_path, 200)]
    summary = ledger.summarise(statuses, 200, 0, CONFIG, ended=True)
    items = tuple(Item(source=status.source, to=("pt",)) for status in statuses)
    spec = BatchSpec(items=items, out=str(tmp_path), config={})
    assert len(repr(summary)) < 1000
    assert len(repr(spec)) < 1000


def test_the_page_of_a_summary_has_the_items_to_look_at(tmp_path: Path) -> None:
    done = [ledger.failed(job, "").model_copy(update={"state": "done"}) for job in jobs(tmp_path, 3 * ledger.MAX_ROWS)]
    flagged = done[-1].model_copy(update={"source": "flagged.mp4", "num_flagged": 3})
    failed = ledger.failed(jobs(tmp_path, 1)[0], "the reason")
    statuses = [*done[:-1], flagged, failed]
    ledger.write_summary(ledger.summarise(statuses, len(statuses), 0, CONFIG, ended=True), str(tmp_path))
    page = (tmp_path / ledger.PAGE_NAME).read_text()
    assert page.count("<tr><td dir") == ledger.MAX_ROWS
    assert page.index("the reason") < page.index("flagged.mp4")
    assert f"And {2 * ledger.MAX_ROWS + 1} more" in page


async def recorded(out: Path, write: Callable[[ItemStatus], None], number: int) -> None:
    async with recorder.StatusRecorder(str(out), CONFIG, number) as written:
        for job in jobs(out, number):
            written.record_start(ledger.running(job, ""))
            written.record_end(ledger.failed(job, "why"))


async def test_statuses_are_written_beside_each_other_and_old_ones_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_at_once, most, states = 0, 0, Counter[tuple[str, str]]()

    def write(status: ItemStatus) -> None:
        nonlocal num_at_once, most
        num_at_once += 1
        most = max(most, num_at_once)
        states[status.out, status.state] += 1
        num_at_once -= 1

    monkeypatch.setattr(ledger, "write_status", write)
    await recorded(tmp_path, write, 200)
    assert most <= recorder.MAX_WRITES
    assert sum(state == "failed" for _, state in states) == 200
    assert states.total() == 200, "each ended before its start was written"
