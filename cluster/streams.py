"""Bounded streams: what lets every stage overlap while memory depends on no input's length.

A stream is an async iterator. Whoever stops reading one early closes it, which closes what it reads
from in turn; ``closing`` does that for any of them.
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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)

_END = object()


@contextlib.asynccontextmanager
async def closing(source: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close ``source`` on the way out, if it can be; ``async for`` alone leaves that to the garbage collector."""
    try:
        yield source
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


async def from_thread(source: Iterator[T], max_ahead: int) -> AsyncIterator[T]:
    """Iterate a blocking iterator on a thread of its own, at most ``max_ahead`` items ahead.

    An exception of the source is raised here, in its place in the stream. If the consumer stops
    early, the source is closed on its own thread, and this waits until it is.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[object] = asyncio.Queue()
    room = threading.Semaphore(max_ahead)
    stopped = threading.Event()
    ended = asyncio.Event()

    def tell(function: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody listens
            loop.call_soon_threadsafe(function, *args)

    def pump() -> None:
        try:
            while room.acquire() and not stopped.is_set():
                item = next(source, _END)
                tell(arrived.put_nowait, item)
                if item is _END:
                    break
        except BaseException as error:  # handed to the consumer, who raises it
            tell(arrived.put_nowait, _Raised(error))
        finally:
            try:
                getattr(source, "close", lambda: None)()
            except Exception:  # too late for the consumer, who has all items or wants no more
                log.exception("the source of a stream must close; it raised")
            finally:
                tell(ended.set)

    # The source's log records belong to whoever reads it.
    threading.Thread(target=contextvars.copy_context().run, args=(pump,), name="stream", daemon=True).start()
    try:
        while (item := await arrived.get()) is not _END:
            if isinstance(item, _Raised):
                raise item.error
            room.release()
            yield item  # type: ignore[misc]  # a queue of T and two private marks
    finally:
        stopped.set()
        room.release()
        await ended.wait()


def in_own_thread(function: Callable[[], R], name: str) -> asyncio.Future[R]:
    """``function`` on a thread of its own: for work that waits long, when the few shared ones could all be waiting."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[R] = loop.create_future()

    def settle(result: R | None, error: BaseException | None) -> None:
        if outcome.cancelled():
            return
        if error is None:
            outcome.set_result(result)  # type: ignore[arg-type]  # an R, as there was no error
        else:
            outcome.set_exception(error)

    def call() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as raised:  # handed to whoever awaits
            error = raised
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody listens
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=contextvars.copy_context().run, args=(call,), name=name, daemon=True).start()
    return outcome


async def to_the_end(work: asyncio.Future[R]) -> R:
    """Wait even when cancelled: a thread that goes on writing would publish half of what is removed meanwhile."""
    try:
        return await asyncio.shield(work)
    finally:
        await asyncio.shield(asyncio.gather(work, return_exceptions=True))


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


async def ordered_map(
    source: AsyncIterator[T], function: Callable[[T], Awaitable[R]], max_pending: int
) -> AsyncIterator[R]:
    """``function`` of every item, in order, with at most ``max_pending`` under way or waiting to be taken.

    The source is pulled while results are awaited, so that slow items hold nothing up but the bound.
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
                    task = asyncio.create_task(call(item))  # type: ignore[arg-type]  # a T, or the mark just excluded
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
    """The same items; ``function`` is told of each as it passes."""
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
    """Each item as soon as it is there, and what the one behind it will be; None if there is none.

    The source is pulled one item ahead, whether or not anybody asks for it: who waits for the next item
    while he holds this one waits for the source alone.
    """
    loop = asyncio.get_running_loop()
    following: asyncio.Future[T | None] = loop.create_future()

    async def pull() -> object:
        return await anext(source, _END)

    async with closing(source):
        pulling = asyncio.create_task(pull())
        try:
            item = await pulling
            while item is not _END:
                following, pulling = loop.create_future(), asyncio.create_task(pull())
                pulling.add_done_callback(functools.partial(_tell, following))
                yield item, following  # type: ignore[misc]  # a T: the mark is excluded
                item = await pulling
        finally:
            await _cancel((pulling,))


def _tell(following: asyncio.Future[T | None], pulling: asyncio.Task[object]) -> None:
    if following.done():
        return
    is_item = not pulling.cancelled() and pulling.exception() is None and pulling.result() is not _END
    following.set_result(pulling.result() if is_item else None)  # type: ignore[arg-type]  # a T, or none


async def started(source: AsyncIterator[T]) -> AsyncIterator[T]:
    """The same stream with its first item already there: what fails before it is raised here."""
    first = await anext(source, _END)

    async def whole() -> AsyncIterator[T]:
        async with closing(source):
            if first is not _END:
                yield first  # type: ignore[misc]  # a T, as it is not the mark
            async for item in source:
                yield item

    return whole()


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    tasks = tuple(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def tee(source: AsyncIterator[T], num_readers: int, max_ahead: int) -> AsyncIterator[list[Tee[T]]]:
    """``num_readers`` views of one stream; the fastest is at most ``max_ahead`` items ahead of the slowest.

    All of them see the source's end, or its exception. One that is closed holds the others up no
    more. The source is closed on the way out.
    """
    shared = _Shared(source, max_ahead)
    shared.readers = [Tee(shared) for _ in range(num_readers)]
    try:
        yield list(shared.readers)
    finally:
        await shared.close()


class Tee(AsyncIterator[T]):
    """One of several readers of a stream; see ``tee``."""

    def __init__(self, shared: _Shared[T]) -> None:
        self.buffer: deque[T] = deque()
        self._shared = shared

    async def __anext__(self) -> T:
        while not self.buffer:
            await self._shared.advance(self)
        self._shared.moved.set()
        return self.buffer.popleft()

    async def aclose(self) -> None:
        self.buffer.clear()
        self._shared.leave(self)


class _Shared(Generic[T]):
    def __init__(self, source: AsyncIterator[T], max_ahead: int) -> None:
        self.readers: list[Tee[T]] = []
        self.moved = asyncio.Event()
        self._source = source
        self._max_ahead = max_ahead
        self._pulling: asyncio.Task[None] | None = None
        self._end: BaseException | None = None

    async def advance(self, reader: Tee[T]) -> None:
        """Give every reader one item more, as soon as the slowest has room. Raises what the source raised."""
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
        except BaseException as error:  # its end included: every reader is to see it
            self._end = error
        else:
            for reader in self.readers:
                reader.buffer.append(item)


class FeedAborted(Exception):  # noqa: N818  # not an error: the event loop's wish
    """The event loop gave up on what the thread was doing."""


class Feed(Iterator[T]):
    """A bounded way from the event loop to one thread: ``await feed.put(item)`` here, ``next(feed)`` there.

    It has no end of its own: the last item says so, or ``abort`` does.
    """

    def __init__(self, max_ahead: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(max_ahead)
        self._items: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._aborted = threading.Event()

    async def put(self, item: T) -> None:
        """Waits while ``max_ahead`` items have not been taken."""
        await self._room.acquire()
        self._items.put(item)

    def abort(self) -> None:
        """The thread's next ``next`` raises FeedAborted, and so does one that waits."""
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
