"""Spoken answers are encoded beside the event loop, which answers everybody."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import numpy as np

from actors.types import Samples
from serve.inference.audio_stream import STREAM_HZ, StreamEncoder, encode
from serve.threads import FairThreads


async def test_speech_is_encoded_on_threads_of_its_own() -> None:
    names: list[str] = []

    class Noted(StreamEncoder):
        def encode(self, samples: Samples) -> bytes:
            names.append(threading.current_thread().name)
            return super().encode(samples)

        def finish(self) -> bytes:
            names.append(threading.current_thread().name)
            return super().finish()

    async def blocks() -> AsyncIterator[Samples]:
        for _ in range(3):
            yield np.zeros(STREAM_HZ, np.float32)

    threads = FairThreads("encode", 1)
    parts = [part async for part in encode(blocks(), Noted("wav"), threads)]
    assert len(b"".join(parts)) >= 3 * STREAM_HZ * 2
    assert len(names) == 4
    assert all(name.startswith("encode") for name in names)
    threads.close()
