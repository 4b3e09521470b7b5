"""The store for code on the event loop: it is read and written on threads, and failures count as misses."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from cluster.storage import codec
from cluster.storage.codec import CodecError
from cluster.storage.framing import CorruptValueError
from cluster.storage.keys import Key, Keyring
from cluster.storage.store import Store, StoreError

log = logging.getLogger(__name__)

R = TypeVar("R")

NUM_READERS, NUM_WRITERS = 8, 4
"""Threads."""
MAX_WRITES = 64
"""Results being written or waiting to be; beyond that, whoever computes more waits."""
LARGE_BYTES = 1 << 16
"""Arrays of this size and more are hashed on a thread: 2 MB of audio take 4 ms, which would block the event loop."""


class AsyncStore:
    """Use as ``async with AsyncStore(store) as async_store``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._readers = ThreadPoolExecutor(NUM_READERS, "store-read")
        self._writers = ThreadPoolExecutor(NUM_WRITERS, "store-write")
        self._room = asyncio.Semaphore(MAX_WRITES)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writers.shutdown()
        self._readers.shutdown()

    @property
    def is_readable(self) -> bool:
        return self._store.is_readable

    async def key(self, keyring: Keyring, request: Any) -> Key:
        """The key under which the result of ``request`` is stored. Raises CodecError."""
        if any(isinstance(value, np.ndarray) and value.nbytes >= LARGE_BYTES for value in _values(request)):
            return await self._on(self._readers, functools.partial(keyring.key, request))
        return keyring.key(request)

    async def find(self, key: Key) -> Any:
        """The stored result; None if there is none or the store does not answer. Raises CorruptValueError."""
        if not self._store.is_readable:
            return None
        with contextlib.suppress(StoreError):
            return await self._on(self._readers, functools.partial(self._load, key))
        return None

    async def keep(self, key: Key, result: Any) -> asyncio.Task[bool]:
        """Begin to store a result; waits while ``MAX_WRITES`` are pending. The task tells if it was stored."""
        await self._room.acquire()
        writing = asyncio.create_task(self._keep(key, result))
        writing.add_done_callback(lambda _: self._room.release())
        return writing

    def _load(self, key: Key) -> Any:
        value = self._store.get(key)
        if value is None:
            return None
        try:
            return codec.decode(value)
        except CodecError as error:
            log.warning("unreadable value removed from the store key=%s error=%s", key, error)
            self._store.discard(key)
            raise CorruptValueError(str(error)) from error

    async def _keep(self, key: Key, result: Any) -> bool:
        if not self._store.is_writable:
            return False
        try:
            await self._on(self._writers, lambda: self._store.put(key, codec.encode(result)))
        except StoreError:  # the store has logged it
            return False
        except CodecError as error:
            log.warning("result cannot be stored key=%s error=%s", key, error)
            return False
        return True

    async def _on(self, threads: ThreadPoolExecutor, function: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(threads, function)


def _values(request: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(request):
        for field in dataclasses.fields(request):
            yield getattr(request, field.name)
