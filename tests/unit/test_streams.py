import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.streams import Feed, FeedAborted, closing, flatten, from_thread, ordered_map, started, tap, tee, with_next


class BadItemError(Exception):
    pass


@pytest.fixture(autouse=True)
async def _leaves_nothing_behind() -> AsyncIterator[None]:
    threads = set(threading.enumerate())
    tasks = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() <= tasks | {asyncio.current_task()}
    left = [thread for thread in set(threading.enumerate()) - threads if thread.name == "stream"]
    for thread in left:  # the source is closed; the thread's last lines may still run
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in left)


class Source:
    """An async source that knows how many items were pulled, and whether it was closed."""

    def __init__(self, num_items: int, fail_at: int | None = None) -> None:
        self.num_pulled = 0
        self.num_closed = 0
        self._num_items = num_items
        self._fail_at = fail_at

    async def items(self) -> AsyncIterator[int]:
        try:
            for item in range(self._num_items):
                if item == self._fail_at:
                    raise BadItemError(item)
                self.num_pulled += 1
                yield item
        finally:
            self.num_closed += 1


async def settle() -> None:
    """Let every task run until all of them wait."""
    for _ in range(50):
        await asyncio.sleep(0)


async def identity(item: int) -> int:
    return item


async def drain(stream: AsyncIterator[int], seen: list[int] | None = None) -> list[int]:
    seen = [] if seen is None else seen
    async for item in stream:
        seen.append(item)
    return seen


# --- from_thread


class Blocking:
    """A blocking source that knows how far it was read, and on which thread it was closed."""

    def __init__(self, num_items: int, fail_at: int | None = None) -> None:
        self.num_pulled = 0
        self.closed_on: int | None = None
        self.pulled = threading.Condition()
        self._num_items = num_items
        self._fail_at = fail_at

    def items(self) -> Iterator[int]:
        try:
            for item in range(self._num_items):
                if item == self._fail_at:
                    raise BadItemError(item)
                with self.pulled:
                    self.num_pulled += 1
                    self.pulled.notify_all()
                yield item
        finally:
            self.closed_on = threading.get_ident()

    def wait_for(self, num_pulled: int) -> None:
        with self.pulled:
            assert self.pulled.wait_for(lambda: self.num_pulled >= num_pulled, timeout=60)


async def test_from_thread_gives_everything_in_order() -> None:
    assert [item async for item in from_thread(iter(range(1000)), 3)] == list(range(1000))


async def test_from_thread_stays_within_its_bound() -> None:
    source = Blocking(20)
    num_taken = 0
    async for _ in from_thread(source.items(), 3):
        num_taken += 1
        await asyncio.to_thread(source.wait_for, min(20, num_taken + 3))
        assert source.num_pulled <= num_taken + 3


async def test_from_thread_raises_in_place() -> None:
    seen: list[int] = []
    with pytest.raises(BadItemError):
        await drain(from_thread(Blocking(9, fail_at=5).items(), 2), seen)
    assert seen == [0, 1, 2, 3, 4]


async def test_from_thread_closes_its_source_on_its_own_thread_when_the_consumer_stops() -> None:
    source = Blocking(1000)
    async with closing(from_thread(source.items(), 2)) as stream:
        assert await anext(stream) == 0
    assert source.closed_on is not None
    assert source.closed_on != threading.get_ident()
    assert source.num_pulled <= 4


async def test_from_thread_ends_when_its_consumer_is_cancelled() -> None:
    source = Blocking(3)
    stuck = threading.Event()

    def items() -> Iterator[int]:
        yield from source.items()
        stuck.wait()

    async def read() -> None:
        async with closing(from_thread(items(), 1)) as stream:
            async for _ in stream:
                pass

    reader = asyncio.create_task(read())
    await asyncio.to_thread(source.wait_for, 3)
    await settle()
    reader.cancel()
    await settle()
    stuck.set()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def test_from_thread_outlives_a_source_that_cannot_close() -> None:
    def items() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            raise BadItemError

    async with closing(from_thread(items(), 1)) as stream:
        assert await anext(stream) == 1


async def test_from_thread_reads_in_the_context_of_its_consumer() -> None:
    job: contextvars.ContextVar[str] = contextvars.ContextVar("job", default="none")
    job.set("mine")
    assert [item async for item in from_thread((job.get() for _ in range(2)), 1)] == ["mine"] * 2


# --- ordered_map


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 6))
def test_ordered_map_keeps_order_and_bound(delays: list[int], max_pending: int) -> None:
    source = Source(len(delays))
    num_running = 0

    async def slow(item: int) -> int:
        nonlocal num_running
        num_running += 1
        assert num_running <= max_pending
        for _ in range(delays[item]):
            await asyncio.sleep(0)
        num_running -= 1
        return -item

    async def run() -> None:
        num_taken = 0
        async for result in ordered_map(source.items(), slow, max_pending):
            assert result == -num_taken
            num_taken += 1
            # One more than those under way: what was taken just now made room.
            assert source.num_pulled <= num_taken + max_pending
        assert num_taken == len(delays)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


async def test_ordered_map_pulls_no_further_than_its_bound_while_nobody_takes() -> None:
    source = Source(100)
    async with closing(ordered_map(source.items(), identity, 4)) as stream:
        await anext(stream)
        await settle()
        assert source.num_pulled == 5
    assert source.num_closed == 1


async def test_ordered_map_overlaps_calls() -> None:
    together = asyncio.Barrier(3)

    async def meet(item: int) -> int:
        await together.wait()
        return item

    assert [item async for item in ordered_map(Source(6).items(), meet, 3)] == list(range(6))


async def test_ordered_map_raises_a_calls_error_in_place_and_cancels_those_behind() -> None:
    source = Source(100)
    cancelled = []
    started = asyncio.Event()

    async def call(item: int) -> int:
        if item == 3:
            await started.wait()
            raise BadItemError(item)
        if item > 3:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(item)
                raise
        return item

    seen: list[int] = []
    with pytest.raises(BadItemError):
        await drain(ordered_map(source.items(), call, 4), seen)
    assert seen == [0, 1, 2]
    assert cancelled
    assert source.num_closed == 1


async def test_ordered_map_gives_what_came_before_the_sources_error() -> None:
    seen: list[int] = []
    with pytest.raises(BadItemError):
        await drain(ordered_map(Source(9, fail_at=4).items(), identity, 3), seen)
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("num_taken", [1, 2, 7])
async def test_a_chain_is_closed_from_its_end(num_taken: int) -> None:
    source, blocking = Source(100), Blocking(100)

    async def both(item: int) -> list[int]:
        return [item, item]

    for stream in (
        flatten(ordered_map(ordered_map(source.items(), identity, 3), both, 2)),
        flatten(ordered_map(ordered_map(from_thread(blocking.items(), 2), identity, 3), both, 2)),
    ):
        async with closing(stream):
            assert [await anext(stream) for _ in range(num_taken)] == [item // 2 for item in range(num_taken)]
    assert source.num_closed == 1
    assert blocking.closed_on is not None


async def test_ordered_map_is_cancelled_with_its_consumer() -> None:
    source = Source(100)

    async def forever(item: int) -> int:
        await asyncio.Event().wait()
        return item

    async def read() -> None:
        async with closing(ordered_map(source.items(), forever, 3)) as stream:
            await anext(stream)

    reader = asyncio.create_task(read())
    await settle()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert source.num_closed == 1


# --- tee


@given(st.data(), st.integers(0, 30), st.integers(1, 4), st.integers(1, 5))
def test_tee_gives_every_reader_everything_within_its_skew(
    data: st.DataObject, num_items: int, num_readers: int, max_ahead: int
) -> None:
    delays = data.draw(st.lists(st.integers(0, 4), min_size=num_readers, max_size=num_readers))
    num_taken = [0] * num_readers

    async def run() -> None:
        async with tee(Source(num_items).items(), num_readers, max_ahead) as readers:

            async def read(index: int) -> list[int]:
                seen = []
                async for item in readers[index]:
                    seen.append(item)
                    num_taken[index] += 1
                    assert max(num_taken) - min(num_taken) <= max_ahead
                    for _ in range(delays[index]):
                        await asyncio.sleep(0)
                return seen

            results = await asyncio.gather(*(read(index) for index in range(num_readers)))
            assert results == [list(range(num_items))] * num_readers
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


async def test_tee_shows_the_sources_error_to_every_reader() -> None:
    async with tee(Source(9, fail_at=2).items(), 3, 4) as readers:
        outcomes = await asyncio.gather(*map(drain, readers), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [BadItemError] * 3


async def test_tee_reader_that_is_cancelled_leaves_the_source_to_the_others() -> None:
    go_on = asyncio.Event()

    async def items() -> AsyncIterator[int]:
        yield 0
        await go_on.wait()
        yield 1

    async with tee(items(), 2, 4) as (first, second):
        reading = asyncio.create_task(drain(first))
        await settle()
        reading.cancel()
        await settle()
        go_on.set()
        assert await drain(second) == [0, 1]


async def test_tee_reader_that_is_closed_holds_nobody_up() -> None:
    async with tee(Source(50).items(), 2, 3) as (first, second):
        reading = asyncio.create_task(drain(first))
        await settle()
        assert not reading.done()
        async with closing(ordered_map(second, identity, 1)) as stream:
            await anext(stream)
        assert await reading == list(range(50))
        assert await drain(second) == []


async def test_tee_closes_its_source() -> None:
    source = Source(50)
    async with tee(source.items(), 2, 3) as (first, _):
        await anext(first)
    assert source.num_closed == 1


# --- Feed


async def test_feed_hands_over_in_order_within_its_bound() -> None:
    feed: Feed[int] = Feed(3)
    go_on = threading.Event()

    def read() -> list[int]:
        go_on.wait()
        return [next(feed) for _ in range(50)]

    reading = asyncio.create_task(asyncio.to_thread(read))

    num_put = 0

    async def write() -> None:
        nonlocal num_put
        for item in range(50):
            await feed.put(item)
            num_put += 1

    writing = asyncio.create_task(write())
    await settle()
    assert not writing.done()
    assert num_put == 3
    go_on.set()
    await writing
    assert await reading == list(range(50))


@pytest.mark.parametrize("num_put", [0, 2])
async def test_feed_abort_ends_a_thread_that_waits(num_put: int) -> None:
    feed: Feed[int] = Feed(4)
    seen: list[int] = []
    waiting = threading.Event()

    def read() -> None:
        for item in feed:
            seen.append(item)
            if len(seen) == num_put:
                waiting.set()

    reading = asyncio.create_task(asyncio.to_thread(read))
    for item in range(num_put):
        await feed.put(item)
    if num_put:
        await asyncio.to_thread(waiting.wait)
    feed.abort()
    with pytest.raises(FeedAborted):
        await reading
    assert seen == list(range(num_put))
    with pytest.raises(FeedAborted):
        next(feed)


async def test_feed_abort_comes_before_what_is_queued() -> None:
    feed: Feed[int] = Feed(4)
    await feed.put(1)
    feed.abort()
    with pytest.raises(FeedAborted):
        next(feed)


def test_feed_ends_its_thread_when_the_event_loop_is_gone() -> None:
    async def make() -> Feed[int]:
        feed: Feed[int] = Feed(4)
        await feed.put(1)
        return feed

    with pytest.raises(FeedAborted):
        next(asyncio.run(make()))


async def test_a_tap_tells_of_each_item_before_it_passes_and_closes_its_source() -> None:
    source = Source(5)
    told: list[int] = []
    async with closing(tap(source.items(), told.append)) as items:
        assert await anext(items) == 0
        assert told == [0]
        assert await anext(items) == 1
    assert told == [0, 1]
    assert source.num_closed == 1


async def test_the_next_item_is_known_without_asking_for_it() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in (1, 2):
            yield number

    stream = with_next(numbers())
    first, following = await anext(stream)
    assert (first, await following) == (1, 2)
    second, following = await anext(stream)
    assert (second, await following) == (2, None)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_source_that_breaks_has_no_next_item_and_raises_in_its_place() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ValueError("broken")

    stream = with_next(broken())
    first, following = await anext(stream)
    assert (first, await following) == (1, None)
    with pytest.raises(ValueError, match="broken"):
        await anext(stream)


async def test_who_waits_for_the_next_item_is_told_when_the_stream_is_closed() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    stream = with_next(endless())
    _, following = await anext(stream)
    waiting = asyncio.create_task(asyncio.wait_for(following, 60))
    await asyncio.sleep(0)
    await stream.aclose()  # type: ignore[attr-defined]
    assert await waiting is None
    assert closed.is_set()


@pytest.mark.parametrize("num_read", [0, 1, 2, 5])
async def test_a_started_stream_is_whole_and_closes_its_source_however_little_was_read(num_read: int) -> None:
    source = Source(5)
    async with closing(await started(source.items())) as stream:
        assert source.num_pulled == 1
        assert [await anext(stream) for _ in range(num_read)] == list(range(num_read))
    assert source.num_closed == 1
    assert await drain(await started(Source(3).items())) == [0, 1, 2]
    assert await drain(await started(Source(0).items())) == []


async def test_a_stream_that_fails_at_once_does_not_start() -> None:
    with pytest.raises(BadItemError):
        await started(Source(3, fail_at=0).items())
