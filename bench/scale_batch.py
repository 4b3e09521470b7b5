"""Parts of `bench_scale.py` that are about a batch: its coordinator, its drivers, and its way to the first line."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import logging
import os
import shutil
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from cluster.batch.drivers import Driver
from cluster.batch.items import Item, jobs_of, read_items
from cluster.batch.run import BatchSpec, read_spec, run_batch
from cluster.cli.submit import _spec, _write_spec
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.logs import LogFormat, LogSettings
from cluster.pools.ray_session import ray_session
from tests.standins.batches import make_batch
from tests.standins.ghost_drivers import GhostDrivers, finished

TARGETS = ("pt", "es", "fr", "it", "de")
LINKS_A_FILE = 10_000
"""Names of one file: file systems limit them."""
NUM_DRIVERS = 16
MAX_VIDEOS = 8
NUM_LINES = 3
POLL_S = 0.02
REST = 3
"""Pause of batches that are repeated beside a larger one, as a multiple of their time: the core is for that one."""


@contextmanager
def folder_in(root: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="scale-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def stand_ins(folder: Path, *settings: str) -> Config:
    """A configuration with engines that compute nothing, and log what they are asked for."""
    options = f"{{log: {folder / 'log'}}}"
    return load_config(
        "base",
        [
            "ray.mode=inline",
            "translation.engine=tests.standins.counted_translator",
            f"translation.options={options}",
            "speech.engine=tests.standins.counted_speaker",
            f"speech.options={options}",
            "translation.num_candidates=1",
            "alignment.strategy=length",
            "quality.check=none",
            "store.url=none",
            "drivers.num_cpus=0.1",
            f"pipeline.max_videos={MAX_VIDEOS}",
            *settings,
        ],
    )


def many_names(source: Path, folder: Path, number: int, suffix: str) -> Iterator[Path]:
    """So many names of a file's content in ``folder``."""
    folder.mkdir(exist_ok=True)
    for at in range(number):
        path = folder / f"video{at}{suffix}"
        if at % LINKS_A_FILE == 0:
            shutil.copyfile(source, path)
            source = path
        else:
            os.link(source, path)
        yield path


def items_in(folder: Path, number: int) -> tuple[Item, ...]:
    (folder / "one").write_bytes(b"no media, which nobody opens here")
    files = many_names(folder / "one", folder / "inputs", number, ".mp4")
    return tuple(Item(source=str(path), to=TARGETS, source_language="en") for path in files)


# --- the coordinator


def coordinate(items: Sequence[Item], folder: Path, config: Config, num_drivers: int) -> None:
    """A whole batch on drivers that take no time: all of the coordinator, its ledger and its summary."""
    spec = BatchSpec(
        items=tuple(items), out=str(folder), num_drivers=num_drivers, config=config.model_dump(mode="json")
    )
    drivers = GhostDrivers(finished)
    drivers.keeps_jobs = False
    with drivers.in_place():
        summary = asyncio.run(run_batch(spec, config))
    assert summary.states == {"done": len(items)}, summary.states


def coordinator_cpu(
    number: int, root: Path | None, stop: Path, is_last: bool, num_drivers: int = NUM_DRIVERS
) -> dict[str, Any]:
    """CPU milliseconds per video of batches of this many: of one, or one after another until ``stop`` exists."""
    cpu_s, num_videos = 0.0, 0
    with folder_in(root) as folder:
        config, items = stand_ins(folder), items_in(folder, number)
        coordinate(items[:100], folder / "warm", config, num_drivers)
        shutil.rmtree(folder / "warm")
        while not num_videos or not (is_last or stop.exists()):
            gc.collect()
            start_s = time.process_time()
            begin_s = time.monotonic()
            coordinate(items, folder / "out", config, num_drivers)
            cpu_s += time.process_time() - start_s
            num_videos += number
            shutil.rmtree(folder / "out")
            stop_s = time.monotonic() + REST * (time.monotonic() - begin_s)
            while time.monotonic() < stop_s and not (is_last or stop.exists()):
                time.sleep(POLL_S)
    return {
        "videos": number,
        "drivers": num_drivers,
        "cpu_ms": cpu_s / num_videos * 1e3,
        "batches": num_videos // number,
    }


def coordinator_bytes(number: int, root: Path | None) -> dict[str, Any]:
    """Most bytes that Python held per video during a batch of this many."""
    with folder_in(root) as folder:
        config, items = stand_ins(folder), items_in(folder, number)
        coordinate(items[:100], folder / "warm", config, NUM_DRIVERS)
        gc.collect()
        tracemalloc.start()
        coordinate(items, folder / "out", config, NUM_DRIVERS)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        written = {path.name: path.stat().st_size for path in (folder / "out").glob("summary.*")}
    return {"videos": number, "bytes": peak_bytes / number} | {
        name: size / number for name, size in sorted(written.items())
    }


# --- a driver


class DriverAmong:
    """A driver without a process, whose results go to a folder beside those of many other videos."""

    def __init__(self, folder: Path, num_others: int, rows: Path) -> None:
        self._out = folder / f"out{num_others}"
        self._config = stand_ins(folder)
        self._rows = read_items(str(rows))
        self._num_done = 0
        self.cpu_s: list[float] = []
        self._out.mkdir(parents=True)
        for number in range(num_others):
            (self._out / f"other{number}").mkdir()

    async def __aenter__(self) -> DriverAmong:
        self._driver = Driver(self._config, LogSettings(level=logging.ERROR, format=LogFormat.TEXT), None)
        await self._driver.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._driver.close()

    async def dub(self) -> None:
        """Dub one more video, and note the CPU time of this process for it."""
        item = self._rows[self._num_done % len(self._rows)]
        item = item.model_copy(update={"to": TARGETS, "name": f"mine{self._num_done}"})
        [job] = jobs_of([item], str(self._out), self._config)
        self._num_done += 1
        start_s = time.process_time()
        status = await self._driver.dub(job)
        self.cpu_s.append(time.process_time() - start_s)
        assert status.error is None, status.error


async def drivers_cpu(sizes: Sequence[int], num_dubs: int, root: Path | None) -> list[dict[str, Any]]:
    """CPU milliseconds per dub beside so many results, in turns: medians of the same moments."""
    with folder_in(root) as folder:
        rows = make_batch(folder / "videos", 4, NUM_LINES)
        drivers = [DriverAmong(folder, number, rows) for number in sizes]
        for driver in drivers:
            await driver.__aenter__()
        try:
            for turn in range(num_dubs + 1):
                for driver in drivers if turn % 2 else reversed(drivers):
                    await driver.dub()
        finally:
            for driver in drivers:
                await driver.__aexit__()
    found = [statistics.median(driver.cpu_s[1:]) * 1e3 for driver in drivers]
    ratios = [
        statistics.median(mine / first for mine, first in zip(driver.cpu_s[1:], drivers[0].cpu_s[1:], strict=True))
        for driver in drivers
    ]
    return [
        {"videos": number, "cpu_ms": cpu_ms, "to_fewest": ratio}
        for number, cpu_ms, ratio in zip(sizes, found, ratios, strict=True)
    ]


async def driver_growth_bytes(num_dubs: int, root: Path | None) -> float:
    """Bytes that a driver holds more for each video that it has dubbed, after the first ones."""
    with folder_in(root) as folder:
        rows = make_batch(folder / "videos", 4, NUM_LINES)
        async with DriverAmong(folder, 0, rows) as driver:
            for _ in range(10):
                await driver.dub()
            gc.collect()
            tracemalloc.start()
            before_bytes, _ = tracemalloc.get_traced_memory()
            for _ in range(num_dubs):
                await driver.dub()
            gc.collect()
            after_bytes, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    return (after_bytes - before_bytes) / num_dubs


# --- from submission to the first line


async def first_line(run: Callable[[], Any], log: Path) -> None:
    """Run a batch until its first line is spoken, and stop it then."""
    batch = asyncio.create_task(run())
    try:
        while not batch.done() and not await asyncio.to_thread(_has_spoken, log):
            await asyncio.wait((batch,), timeout=POLL_S)
        if batch.done():
            batch.result()
    finally:
        batch.cancel()
        await asyncio.gather(batch, return_exceptions=True)


def _has_spoken(log: Path) -> bool:
    return log.exists() and " speak " in log.read_text()


def submit(number: int, root: Path | None) -> dict[str, Any]:
    """Seconds from the submission of so many videos to the first spoken line, on a cluster that is up.

    The driver dubs two videos at a time: more would share this machine's few cores with the first.
    """
    with folder_in(root) as folder:
        made = read_items(str(make_batch(folder / "videos", 1, NUM_LINES)))[0]
        files = many_names(Path(made.source), folder / "inputs", number, ".mp4")
        rows = folder / "batch.jsonl"
        rows.write_text(
            "\n".join(json.dumps({"source": str(path), "from": "en", "subtitles": made.subtitles}) for path in files)
        )
        config = stand_ins(folder, "pipeline.max_videos=2")
        with ray_session(config.model_copy(update={"ray": config.ray.model_copy(update={"mode": "local"})})):
            start_s, start_cpu_s = time.monotonic(), time.process_time()
            spec = _spec([str(rows)], str(folder / "out"), ",".join(TARGETS), None, 1, config)
            _, location = _write_spec(spec)
            submitted_s = time.monotonic()
            read = read_spec(location)
            asyncio.run(first_line(functools.partial(run_batch, read, read.settings()), folder / "log"))
            end_s, end_cpu_s = time.monotonic(), time.process_time()
            assert ray.is_initialized()
    return {
        "videos": number,
        "submit_s": submitted_s - start_s,
        "first_s": end_s - submitted_s,
        "to_first_line_s": end_s - start_s,
        "cpu_s": end_cpu_s - start_cpu_s,
    }
