"""Memory that heaps keep is given back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import sys

import psutil
import pytest

from serve.dispatch import housekeeping

BLOCK_BYTES = 100_000  # below glibc's threshold for blocks of their own, so from the heap
NUM_BLOCKS = 2000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can give memory back")
async def test_free_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("only glibc can give memory back")
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = [libc.malloc(BLOCK_BYTES) for _ in range(NUM_BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK_BYTES)
    kept = blocks.pop()  # the last: the heap cannot shrink below it by itself
    for block in blocks:
        libc.free(block)
    before = psutil.Process().memory_info().rss
    monkeypatch.setattr(housekeeping, "TRIM_EVERY_S", 0.01)
    task = asyncio.create_task(housekeeping.return_memory_forever())
    try:
        async with asyncio.timeout(30):
            while psutil.Process().memory_info().rss > before - NUM_BLOCKS * BLOCK_BYTES / 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        libc.free(kept)
