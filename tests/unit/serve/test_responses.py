from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from serve.api.responses import StreamedResponse

SCOPE = {"type": "http", "asgi": {"spec_version": "2.3"}}


@pytest.mark.parametrize("num_sent", [0, 1, 2])
async def test_a_client_that_hangs_up_ends_the_work_for_its_answer(num_sent: int) -> None:
    """``num_sent`` messages are sent, the next one waits for a client that does not read; then it hangs up."""
    is_closed = False
    sent: list[Any] = []
    waits = asyncio.Event()

    async def work() -> AsyncIterator[bytes]:
        nonlocal is_closed
        try:
            while True:
                yield b"sound"
        finally:
            await asyncio.sleep(0)  # as closing does that waits for tasks of its own
            is_closed = True

    async def send(message: Any) -> None:
        if len(sent) == num_sent:
            waits.set()
            await asyncio.Event().wait()
        sent.append(message)

    async def receive() -> Any:
        await waits.wait()
        return {"type": "http.disconnect"}

    stream = work()
    await anext(stream)
    await StreamedResponse(stream)(SCOPE, receive, send)
    assert len(sent) == num_sent
    assert is_closed
