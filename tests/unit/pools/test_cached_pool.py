"""The pools' front: found is not computed, equal requests under way are one, and a broken store costs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from actors.errors import EngineLoadError, ItemError
from actors.types import Candidate as Line
from actors.types import EmbedRequest, Task, TranslateRequest, Translation
from cluster.config.schema import StageConfig
from cluster.pools.cached_pool import CachedPool, PoolCache, bypass_cache
from cluster.pools.stats import PoolStats
from cluster.storage.config import StoreConfig
from cluster.storage.keys import salted
from cluster.storage.store import Store, open_store

STAGES: dict[Task, StageConfig] = {
    "translation": StageConfig(engine="bergamot"),
    "embedding": StageConfig(engine="use_multilingual"),
    "speech": StageConfig(engine="kokoro"),
}
_stores = itertools.count()


@dataclass
class FakePool:
    """Answers with how often it was asked; an error it is told to raise is raised. Waits while ``gate`` is shut."""

    name: str = "translation/bergamot"
    requests: list[Any] = field(default_factory=list)
    num_starts: int = 0
    num_cancelled: int = 0
    error: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def start(self) -> None:
        self.num_starts += 1

    async def submit(
        self, request: Any, *, order: float = 0.0, job: str = "", priority: int = 0, weight: float = 1.0
    ) -> Any:
        assert self.num_starts == 1
        self.requests.append(request)
        number = len(self.requests)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return Translation(candidates=(Line(text=f"{request.text} {number}", score=None),))

    def stats(self) -> PoolStats:
        return PoolStats(
            name=self.name,
            num_items=len(self.requests),
            num_failed=0,
            num_batches=0,
            num_lost_replicas=0,
            engine_s=0.0,
            queue_items=0,
        )


@pytest.fixture
def store() -> Store:
    opened = open_store(StoreConfig(url=f"memory://caching{next(_stores)}", max_attempts=1))
    assert opened is not None
    return opened


@contextlib.asynccontextmanager
async def opened(store: Store, pool: FakePool, task: Task = "translation") -> AsyncIterator[CachedPool]:
    cache = PoolCache(store)
    async with cache.opened():
        yield await front_of(cache, pool, task)


async def front_of(cache: PoolCache, pool: FakePool, task: Task) -> CachedPool:
    front = await cache.wrap(task, STAGES[task], pool, pool.start)  # type: ignore[arg-type]  # it looks like one
    assert isinstance(front, CachedPool)
    return front


def hello(text: str = "hello") -> TranslateRequest:
    return TranslateRequest(text=text, source_language="en", target_language="pt")


def text_of(translation: Translation) -> str:
    return translation.candidates[0].text


async def test_the_second_time_it_is_found_and_nothing_starts(store: Store) -> None:
    first, second = FakePool(), FakePool()
    async with opened(store, first) as front:
        computed = await front.submit(hello())
    async with opened(store, second) as front:
        assert await front.submit(hello()) == computed
        stats = front.stats()
    assert (first.num_starts, second.num_starts) == (1, 0)
    assert (stats.num_hits, stats.num_misses, stats.num_corrupt) == (1, 0, 0)


async def test_other_requests_are_computed(store: Store) -> None:
    pool = FakePool()
    async with opened(store, pool) as front:
        texts = [text_of(await front.submit(hello(text))) for text in ("a", "b", "a")]
    assert texts == ["a 1", "b 2", "a 1"]
    assert front.stats().num_misses == 2


async def test_a_result_that_is_being_stored_is_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    may_write, put, pool = threading.Event(), store.put, FakePool()

    def put_late(*arguments: Any) -> None:
        may_write.wait()
        put(*arguments)

    monkeypatch.setattr(store, "put", put_late)
    async with opened(store, pool) as front:
        texts = [text_of(await front.submit(hello())) for _ in range(2)]
        may_write.set()
    assert texts == ["hello 1", "hello 1"]
    assert (front.stats().num_misses, front.stats().num_hits) == (1, 1)


async def test_equal_requests_under_way_are_one(store: Store) -> None:
    pool = FakePool()
    pool.gate.clear()
    async with opened(store, pool) as front:
        asking = [asyncio.create_task(front.submit(hello())) for _ in range(5)]
        await until(lambda: len(pool.requests) == 1)
        pool.gate.set()
        answers = await asyncio.gather(*asking)
    assert {text_of(answer) for answer in answers} == {"hello 1"}
    assert front.stats().num_shared == 4


async def test_results_with_another_salt_are_not_found(store: Store) -> None:
    pool = FakePool()
    async with opened(store, pool) as cached:
        for salt, text in [("one", "hello 1"), ("two", "hello 2"), ("one", "hello 1"), ("", "hello 3")]:
            with salted(salt):
                assert text_of(await cached.submit(hello())) == text
        pool.gate.clear()
        waiting = []
        for salt in ("one", "two", "two"):
            with salted(salt):
                waiting.append(asyncio.create_task(cached.submit(hello("under way"))))
        await until(lambda: len(pool.requests) == 5)
        pool.gate.set()
        assert sorted(map(text_of, await asyncio.gather(*waiting))) == ["under way 4", "under way 5", "under way 5"]


async def test_one_who_leaves_takes_nothing_from_the_others(store: Store) -> None:
    pool = FakePool()
    pool.gate.clear()
    async with opened(store, pool) as front:
        leaving, staying = (asyncio.create_task(front.submit(hello())) for _ in range(2))
        await until(lambda: len(pool.requests) == 1)
        leaving.cancel()
        await asyncio.wait((leaving,))
        assert leaving.cancelled()
        pool.gate.set()
        assert text_of(await staying) == "hello 1"
    assert pool.num_cancelled == 0


async def test_when_all_have_left_the_work_ends(store: Store) -> None:
    pool = FakePool()
    pool.gate.clear()
    async with opened(store, pool) as front:
        asking = [asyncio.create_task(front.submit(hello())) for _ in range(3)]
        await until(lambda: len(pool.requests) == 1)
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        # One who asks now does not wait for what was given up.
        pool.gate.set()
        assert text_of(await front.submit(hello())) == "hello 2"
    assert pool.num_cancelled == 1


async def test_failures_reach_all_who_wait_and_are_not_stored(store: Store) -> None:
    pool = FakePool(error=ItemError("bad"))
    pool.gate.clear()
    async with opened(store, pool) as front:
        asking = [asyncio.create_task(front.submit(hello())) for _ in range(2)]
        await until(lambda: len(pool.requests) == 1)
        pool.gate.set()
        errors = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(error) for error in errors] == [ItemError, ItemError]
        assert errors[0] is not errors[1]
        pool.error = None
        assert text_of(await front.submit(hello())) == "hello 2"


async def test_an_engine_that_cannot_load_is_told(store: Store) -> None:
    async with opened(store, FakePool(error=EngineLoadError("no weights"))) as front:
        with pytest.raises(EngineLoadError, match="no weights"):
            await front.submit(hello())


async def test_asked_afresh_it_is_computed_and_replaced(store: Store) -> None:
    pool = FakePool()
    async with opened(store, pool) as front:
        await front.submit(hello())
        with bypass_cache():
            assert text_of(await front.submit(hello())) == "hello 2"
    async with opened(store, FakePool()) as front:
        assert text_of(await front.submit(hello())) == "hello 2"


async def test_a_miss_starts_the_pools_behind_it(store: Store) -> None:
    pools: dict[Task, FakePool] = {task: FakePool(name=task) for task in STAGES}
    cache = PoolCache(store)
    async with cache.opened():
        fronts = {task: await front_of(cache, pool, task) for task, pool in pools.items()}
        await fronts["embedding"].submit(EmbedRequest(text="hello"))
        assert {task: pool.num_starts for task, pool in pools.items()} == {
            "translation": 0,
            "embedding": 1,
            "speech": 1,
        }
        late = FakePool()
        await front_of(cache, late, "speech")
        assert late.num_starts == 1


async def test_an_engine_of_unknown_weights_is_not_stored(store: Store) -> None:
    pool = FakePool()
    cache = PoolCache(store)
    async with cache.opened():
        stage = StageConfig(engine="tests.standins.echo")
        assert await cache.wrap("translation", stage, pool, pool.start) is pool  # type: ignore[arg-type,comparison-overlap]
    assert pool.num_starts == 1


async def test_a_damaged_value_is_computed_again_and_counted(tmp_path: Path) -> None:
    store = open_store(StoreConfig(url=str(tmp_path)))
    assert store is not None
    async with opened(store, FakePool()) as front:
        await front.submit(hello())
    [listed] = store.list()
    os.truncate(listed.path, listed.num_bytes - 1)
    async with opened(store, FakePool()) as front:
        assert text_of(await front.submit(hello())) == "hello 1"
        assert (front.stats().num_misses, front.stats().num_corrupt) == (1, 1)
    async with opened(store, FakePool()) as front:
        await front.submit(hello())
        assert front.stats().num_hits == 1


async def test_a_value_of_another_format_is_computed_again(store: Store) -> None:
    async with opened(store, FakePool()) as front:
        key = await front._store.key(front._keyring, hello())
        store.put(key, b"whole, and no record")
        assert text_of(await front.submit(hello())) == "hello 1"
        assert front.stats().num_corrupt == 1


@pytest.mark.parametrize("broken", ["_read", "_write"])
@pytest.mark.parametrize("error", [TimeoutError("slow"), OSError(28, "No space left on device"), RuntimeError("500")])
async def test_a_store_that_fails_costs_nothing(
    store: Store, broken: str, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def fail(*_: object) -> None:
        calls.append(1)
        raise error

    monkeypatch.setattr(store, broken, fail)
    async with opened(store, FakePool()) as front:
        for number, text in enumerate("abc", 1):
            assert text_of(await front.submit(hello(text))) == f"{text} {number}"
            await front.drained()
    assert len(calls) == 1  # then it was left alone
    assert len([record for record in caplog.records if "work goes on without" in record.message]) == 1


async def test_results_are_stored_before_it_closes(store: Store) -> None:
    async with opened(store, FakePool()) as front:
        await asyncio.gather(*(front.submit(hello(str(number))) for number in range(100)))
    assert len(list(store.list())) == 100


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # of a stand-in that has no event for it
        await asyncio.sleep(0.001)
