"""Bounded streams: stages overlap, while memory use does not depend on the length of an input.

A stream is an async iterator. A reader that stops early closes its stream, which closes its own source in
turn; ``closing`` does that for any async iterator.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import queue
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from enum import Enum, auto
from typing import Any, Final, Generic, Literal, TypeVar

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)


class _Sentinel(Enum):
    END = auto()


_END: Final = _Sentinel.END
"""Marks the end of a stream where items are handed over one by one."""
_End = Literal[_Sentinel.END]


@contextlib.asynccontextmanager
async def closing(source: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close ``source`` on the way out, if it can be; ``async for`` alone leaves that to the garbage collector."""
    try:
        yield source
    finally:
        await close(source)


async def close(source: AsyncIterable[Any]) -> None:
    """Close ``source``, if it can be."""
    if (aclose := getattr(source, "aclose", None)) is not None:
        await aclose()


async def from_thread(source: Iterator[T], max_ahead: int) -> AsyncIterator[T]:
    """Iterate a blocking iterator on a thread of its own, at most ``max_ahead`` items ahead.

    An exception of the source is raised here, in its place in the stream. If the consumer stops
    early, the source is closed on its own thread, and this waits until it is.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[T | _Raised | _End] = asyncio.Queue()
    room = threading.Semaphore(max_ahead)
    stopped = threading.Event()
    ended = asyncio.Event()

    def notify(function: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody listens
            loop.call_soon_threadsafe(function, *args)

    def pump() -> None:
        try:
            while room.acquire() and not stopped.is_set():
                item = next(source, _END)
                notify(arrived.put_nowait, item)
                if item is _END:
                    break
        except BaseException as error:  # raised by the consumer
            notify(arrived.put_nowait, _Raised(error))
        finally:
            try:
                getattr(source, "close", lambda: None)()
            except Exception:  # too late for the consumer, which has all items or wants no more
                log.exception("the source of a stream must close; it raised")
            finally:
                notify(ended.set)

    # The source's log records carry the context of its reader.
    threading.Thread(target=contextvars.copy_context().run, args=(pump,), name="stream", daemon=True).start()
    try:
        while (item := await arrived.get()) is not _END:
            if isinstance(item, _Raised):
                raise item.error
            room.release()
            yield item
    finally:
        stopped.set()
        room.release()
        await ended.wait()


def in_own_thread(function: Callable[[], R], name: str) -> asyncio.Future[R]:
    """Run ``function`` on a thread of its own: long waits must not take all threads of a shared pool."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[R] = loop.create_future()

    def settle(set_outcome: Callable[[], None]) -> None:
        if not outcome.cancelled():
            set_outcome()

    def call() -> None:
        try:
            set_outcome = functools.partial(outcome.set_result, function())
        except BaseException as error:  # raised where the outcome is awaited
            set_outcome = functools.partial(outcome.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody listens
            loop.call_soon_threadsafe(settle, set_outcome)

    threading.Thread(target=contextvars.copy_context().run, args=(call,), name=name, daemon=True).start()
    return outcome


async def finish_before_cancel(work: asyncio.Future[R]) -> R:
    """Wait for the end of ``work``, even when cancelled; a cancellation takes effect after it.

    For a thread that writes: were it left running, it could publish files that are being removed.
    """
    try:
        return await asyncio.shield(work)
    finally:
        await asyncio.shield(asyncio.gather(work, return_exceptions=True))


class _Raised:
    """An exception on its way to the consumer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def ordered_map(
    source: AsyncIterator[T], function: Callable[[T], Awaitable[R]], max_pending: int
) -> AsyncIterator[R]:
    """Results of ``function`` for every item, in order; at most ``max_pending`` are running or not yet taken.

    The source is pulled while results are awaited, so that a slow item holds up others only at the bound.
    An exception of a call is raised in its place; calls behind it are cancelled.
    """
    results: asyncio.Queue[asyncio.Task[R] | None] = asyncio.Queue()
    room = asyncio.Semaphore(max_pending)
    calls: set[asyncio.Task[R]] = set()

    async def call(item: T) -> R:
        return await function(item)

    async def pull() -> None:
        try:
            async with closing(source):
                # Room first: an item that waits for it outside the bound could be a large one.
                while await room.acquire() and (item := await anext(source, _END)) is not _END:
                    task = asyncio.create_task(call(item))
                    calls.add(task)
                    results.put_nowait(task)
        finally:
            results.put_nowait(None)

    puller = asyncio.create_task(pull())
    try:
        while (task := await results.get()) is not None:
            result = await task
            calls.discard(task)
            room.release()
            yield result
        await puller  # raises what the source raised
    finally:
        await _cancel((puller, *calls))


async def tap(source: AsyncIterator[T], function: Callable[[T], object]) -> AsyncIterator[T]:
    """Call ``function`` with each item as it passes."""
    async with closing(source):
        async for item in source:
            function(item)
            yield item


async def flatten(source: AsyncIterator[Iterable[T]]) -> AsyncIterator[T]:
    """The items of each item, in order."""
    async with closing(source):
        async for items in source:
            for item in items:
                yield item


async def singly(source: AsyncIterator[T]) -> AsyncIterator[list[T]]:
    """Each item in a list of its own."""
    async with closing(source):
        async for item in source:
            yield [item]


async def with_next(source: AsyncIterator[T]) -> AsyncIterator[tuple[T, asyncio.Future[T | None]]]:
    """Pair each item with a future of the next one, which is None after the last.

    The source is pulled one item ahead, asked or not: a reader that awaits the next item while it holds
    this one waits for the source alone.
    """
    loop = asyncio.get_running_loop()
    following: asyncio.Future[T | None] = loop.create_future()

    async def pull() -> T | _End:
        return await anext(source, _END)

    async with closing(source):
        pulling = asyncio.create_task(pull())
        try:
            item = await pulling
            while item is not _END:
                following, pulling = loop.create_future(), asyncio.create_task(pull())
                pulling.add_done_callback(functools.partial(_settle_next, following))
                yield item, following
                item = await pulling
        finally:
            await _cancel((pulling,))


def _settle_next(following: asyncio.Future[T | None], pulling: asyncio.Task[T | _End]) -> None:
    if following.done():
        return
    failed = pulling.cancelled() or pulling.exception() is not None
    item = _END if failed else pulling.result()
    following.set_result(None if item is _END else item)


async def started(source: AsyncIterator[T]) -> AsyncIterator[T]:
    """Wait for the first item, and return the whole stream; an error before that item is raised here."""
    first = await anext(source, _END)
    return _Started([] if first is _END else [first], source)


class _Started(AsyncIterator[T]):
    """A stream whose first item was taken. Unlike a generator, it closes its source also if nobody read from it."""

    def __init__(self, taken: list[T], source: AsyncIterator[T]) -> None:
        self._taken = taken
        self._source = source

    async def __anext__(self) -> T:
        return self._taken.pop() if self._taken else await anext(self._source)

    async def aclose(self) -> None:
        await close(self._source)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    tasks = tuple(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def tee(source: AsyncIterator[T], num_readers: int, max_ahead: int) -> AsyncIterator[list[Tee[T]]]:
    """``num_readers`` readers of one stream; the fastest is at most ``max_ahead`` items ahead of the slowest.

    Every reader sees the end or the exception of the source. A closed reader no longer holds up the others.
    The source is closed on exit.
    """
    tee_source = _TeeSource(source, max_ahead)
    tee_source.readers = [Tee(tee_source) for _ in range(num_readers)]
    try:
        yield list(tee_source.readers)
    finally:
        await tee_source.close()


class Tee(AsyncIterator[T]):
    """One of several readers of a stream; see ``tee``."""

    def __init__(self, source: _TeeSource[T]) -> None:
        self.buffer: deque[T] = deque()
        self._source = source

    async def __anext__(self) -> T:
        while not self.buffer:
            await self._source.advance(self)
        self._source.moved.set()
        return self.buffer.popleft()

    async def aclose(self) -> None:
        self.buffer.clear()
        self._source.leave(self)


class _TeeSource(Generic[T]):
    """The source of several readers, each with a buffer of its own."""

    def __init__(self, source: AsyncIterator[T], max_ahead: int) -> None:
        self.readers: list[Tee[T]] = []
        self.moved = asyncio.Event()
        self._source = source
        self._max_ahead = max_ahead
        self._pulling: asyncio.Task[None] | None = None
        self._end: BaseException | None = None

    async def advance(self, reader: Tee[T]) -> None:
        """Add one item to every buffer, as soon as the slowest reader has room. Raises the source's exception."""
        if reader not in self.readers:
            raise StopAsyncIteration
        if self._end is not None:
            raise self._end
        if max(len(other.buffer) for other in self.readers) >= self._max_ahead:
            self.moved.clear()
            await self.moved.wait()
            return
        if self._pulling is None or self._pulling.done():
            # A task of its own: a reader that is cancelled must not cancel the source of the others.
            self._pulling = asyncio.create_task(self._pull())
        await asyncio.wait((self._pulling,))

    def leave(self, reader: Tee[T]) -> None:
        if reader in self.readers:
            self.readers.remove(reader)
            self.moved.set()

    async def close(self) -> None:
        async with closing(self._source):
            if self._pulling is not None:
                await _cancel((self._pulling,))

    async def _pull(self) -> None:
        try:
            item = await anext(self._source)
        except BaseException as error:  # StopAsyncIteration included: every reader is to see it
            self._end = error
        else:
            for reader in self.readers:
                reader.buffer.append(item)


class FeedAborted(Exception):  # noqa: N818  # not an error: a request to stop
    """The event loop asks the thread to stop."""


class Feed(Iterator[T]):
    """A bounded queue from the event loop to one thread: ``await feed.put(item)`` here, ``next(feed)`` there.

    It has no end: the last item must say so, or ``abort`` ends it.
    """

    def __init__(self, max_ahead: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(max_ahead)
        self._items: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._aborted = threading.Event()

    async def put(self, item: T) -> None:
        """Add an item; wait while ``max_ahead`` items have not been taken."""
        await self._room.acquire()
        self._items.put(item)

    def abort(self) -> None:
        """Make the thread's current or following ``next`` raise FeedAborted."""
        self._aborted.set()
        self._items.put(None)

    def __next__(self) -> T:
        item = None if self._aborted.is_set() else self._items.get()
        if item is None or self._aborted.is_set():
            raise FeedAborted
        try:
            self._loop.call_soon_threadsafe(self._room.release)
        except RuntimeError as error:  # the event loop is closed
            raise FeedAborted from error
        return item


MAX_TICK_S = 1.0
NUM_TICKS = 4


async def within(timeout_s: float, awaitable: Awaitable[T]) -> T:
    """The result of ``awaitable``. Raises TimeoutError after ``timeout_s`` in which the event loop ran.

    While the loop is blocked (a long computation, a stopped process), answers lie unread; a timer would
    expire first, and blame the replica for the driver's delay. So time is counted in ticks, and a late tick
    counts as if it had been punctual.
    """
    call = asyncio.ensure_future(awaitable)
    tick_s = min(MAX_TICK_S, timeout_s / NUM_TICKS)
    left_s = timeout_s
    try:
        while left_s > 0:
            await asyncio.wait((call,), timeout=min(tick_s, left_s))
            if call.done():
                return call.result()
            left_s -= tick_s
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    finally:
        if not call.done():
            call.cancel()
            await asyncio.wait((call,))
        if not call.cancelled():
            call.exception()  # mark it as retrieved: if this was cancelled, no one else will
