"""Parts of `bench_scale.py` that are about one process and its storage: pools, database, store, leases, metrics."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.bench_pool import Idle
from bench.scale_batch import folder_in
from cluster.config.schema import BatchLimits, PoolConfig, StageConfig
from cluster.metrics import meters
from cluster.pools.pool import Pool
from cluster.storage import output_lock, outputs
from cluster.storage.folder import PARTS, FolderLimit, list_values
from serve.jobs import active, cleanup
from serve.jobs.database import Database
from serve.jobs.jobs import Jobs
from serve.jobs.leases import Leases
from serve.settings import KeyLimits
from tests.standins.echo import Item

OWNER = "key:one"
NUM_QUEUED, NUM_RUNNING = 200, 40
VALUE_BYTES = 200
NUM_TIMES = 7
LIMITS = KeyLimits(max_active_dubs=100_000, max_stored_bytes=10**15, media_s_per_day=10**9)


# --- pools


async def dispatch_cpu(num_replicas: int) -> dict[str, Any]:
    """CPU milliseconds of the driver for a batch of one request, with so many replicas that are all at work."""
    number = max(4_000, 4 * num_replicas)
    pool = PoolConfig(replicas=num_replicas, max_pending_items=number, batch=BatchLimits(max_items=1))
    async with Pool("translation", StageConfig(engine="tests.standins.echo", pool=pool), Idle) as running:
        await running.submit(Item(value=0))
        while running.stats().num_serving < num_replicas:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        start_s = time.process_time()
        await asyncio.gather(*(running.submit(Item(value=value), order=value) for value in range(number)))
        cpu_ms = (time.process_time() - start_s) / number * 1e3
        running.report()
    series = sum(line.startswith("ray_") for line in meters.exposition().decode().splitlines())
    return {"replicas": num_replicas, "cpu_ms": cpu_ms, "series": series}


# --- the database


def fill(path: Path, number: int) -> None:
    """So many dubs of one owner in a migrated database: most are done; some wait and some run."""
    now_s = time.time()
    usual = {
        **{"owner": OWNER, "name": "talk", "options": "{}", "created_s": now_s, "updated_s": now_s, "charged_s": 0},
        **{"stored_bytes": 1_000, "progress": "{}", "revision": 1, "output": "x", "num_events": 10, "is_fetched": 1},
        **{"num_spoken": 5, "num_attempts": 0, "cancel_requested": 0, "duration_s": 60.0},
    }

    def row(at: int) -> dict[str, Any]:
        own = {"id": f"dub_{at:026d}", "state": "done", "lease_until_s": 0.0, "lease_owner": None, "claimed_s": now_s}
        if at >= number - NUM_QUEUED:
            own |= {"state": "queued", "claimed_s": 0.0}
        elif at >= number - NUM_QUEUED - NUM_RUNNING:
            own |= {"state": "running", "lease_until_s": now_s + 9_999, "lease_owner": "me"}
        return usual | own

    names = list(row(0))
    with sqlite3.connect(path) as database:
        database.executemany(
            f"INSERT INTO dubs ({','.join(names)}) VALUES ({','.join('?' * len(names))})",  # our names
            ([row(at)[name] for name in names] for at in range(number)),
        )
        database.executemany(
            "INSERT INTO targets VALUES (?, 'pt', 'done', 1, ?, NULL)", ((row(at)["id"], now_s) for at in range(number))
        )


async def database_times(number: int, root: Path | None) -> dict[str, Any]:
    """Milliseconds of each query with so many dubs: the fastest of several, as others share this machine."""
    with folder_in(root) as folder:
        path = folder / "serve.db"
        url = f"sqlite+aiosqlite:///{path}"
        async with Database.open(url):
            pass
        fill(path, number)
        async with Database.open(url) as database:
            jobs, leases = Jobs(database, 10_000), Leases(database=database, holder="me", lease_s=60.0)
            running = [f"dub_{number - NUM_QUEUED - 1 - at:026d}" for at in range(NUM_RUNNING)]
            events = [("translation", {"text": "A line."})] * 10

            async def note() -> None:
                dub = (await jobs.get(OWNER, running[0])).dub
                await leases.note(running[0], dub.num_events, events, {})

            queries: dict[str, Callable[[], Awaitable[object]]] = {
                "claim": leases.claim,
                "renew": lambda: leases.renew(running),
                "events": note,
                "page": lambda: jobs.page(OWNER, before=None, limit=20),
                "page_of_failed": lambda: jobs.page(OWNER, before=None, limit=20, states=("failed", "cancelled")),
                "quotas": lambda: jobs.check_room(OWNER, LIMITS),
                "count": lambda: active.count_active(database),
                "deleted": lambda: cleanup.expired_dubs(database),
                "cleanup": lambda: cleanup.cleanup(database, keep_events_s=1e9, webhook_attempts=6),
            }
            found = {name: await _fastest_ms(query) for name, query in queries.items()}
        num_bytes = sum(file.stat().st_size for file in folder.iterdir())
    return {"dubs": number, "bytes_a_dub": num_bytes / number} | found


async def _fastest_ms(query: Callable[[], Awaitable[object]]) -> float:
    times_ms = []
    for _ in range(NUM_TIMES):
        start_s = time.perf_counter()
        await query()
        times_ms.append((time.perf_counter() - start_s) * 1e3)
    return min(times_ms)


# --- the store


def values_in(folder: Path, number: int) -> Iterator[int]:
    """Put so many values into a store's folder, and tell of the bytes of each."""
    made: set[Path] = set()
    for at in range(number):
        digest = hashlib.sha256(str(at).encode()).hexdigest()
        path = folder / "translation" / digest[:2]
        if path not in made:
            path.mkdir(parents=True, exist_ok=True)
            made.add(path)
        (path / digest).write_bytes(b"v" * VALUE_BYTES)
        yield VALUE_BYTES


def store_cost(number: int, root: Path | None) -> dict[str, Any]:
    """CPU of a look that evicts, per put, and its largest memory, in a full store of so many values."""
    with folder_in(root) as folder:
        num_bytes = sum(values_in(folder, number))
        limit = FolderLimit(str(folder), num_bytes - 1)
        limit.note_put(1)  # the first look
        num_puts = max(1, number // 20)
        tracemalloc.start()
        start_s = time.process_time()
        for _ in range(num_puts):
            limit.note_put(VALUE_BYTES)
        cpu_us = (time.process_time() - start_s) / num_puts * 1e6
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        start_s = time.process_time()
        num_listed = sum(1 for _ in list_values(str(folder)))
        list_us = (time.process_time() - start_s) / max(1, num_listed) * 1e6
    return {"values": number, "put_us": cpu_us, "peak_bytes": peak_bytes, "list_us": list_us, "parts": len(PARTS)}


# --- leases


async def lease_ms(sizes: Sequence[int], root: Path | None) -> list[dict[str, Any]]:
    """CPU milliseconds to lease an output, make its scratch folder and end both, beside so many results; in turns."""
    with folder_in(root) as folder:
        for number in sizes:
            for at in range(number):
                (folder / str(number) / f"other{at}").mkdir(parents=True)
        times_ms: dict[int, list[float]] = {number: [] for number in sizes}
        for turn in range(40):
            for number in sizes if turn % 2 else reversed(sizes):
                start_s = time.process_time()
                await _hold(folder / str(number) / "mine")
                times_ms[number].append((time.process_time() - start_s) * 1e3)
    return [{"videos": number, "cpu_ms": statistics.median(found)} for number, found in times_ms.items()]


async def _hold(out: Path) -> None:
    async with output_lock.held(out, 0.0):
        with outputs.scratch_folder(out, alone=True) as scratch:
            os.listdir(scratch)
