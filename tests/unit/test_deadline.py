from __future__ import annotations

import asyncio

import pytest

from cluster.streams import within
from tests.virtual_time import in_virtual_time, pass_time


async def answer_after(delay_s: float, result: str = "answer") -> str:
    await asyncio.sleep(delay_s)
    return result


@pytest.mark.parametrize("delay_s", [0.0, 0.3, 9.9])
@in_virtual_time
async def test_what_answers_in_time_is_returned(delay_s: float) -> None:
    assert await within(10.0, answer_after(delay_s)) == "answer"


@in_virtual_time
async def test_what_does_not_is_cancelled() -> None:
    start_s = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError, match="no answer within 10 s"):
        await within(10.0, asyncio.Event().wait())
    assert asyncio.get_running_loop().time() - start_s == pytest.approx(10.0)
    assert len(asyncio.all_tasks()) == 1


async def test_an_error_is_passed_on() -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await within(10.0, fail())


@in_virtual_time
async def test_whoever_is_cancelled_cancels_what_it_waits_for() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(within(10.0, work()))
    await asyncio.sleep(1.0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()


@in_virtual_time
async def test_time_in_which_the_loop_was_blocked_does_not_count() -> None:
    """The answer comes 60 ms from now; the loop is blocked for twice the deadline, and looks only then."""
    loop = asyncio.get_running_loop()
    answer = loop.create_future()
    waiting = asyncio.create_task(within(0.2, answer))
    await asyncio.sleep(0)
    pass_time(0.4)
    loop.call_later(0.06, answer.set_result, "late")
    assert await waiting == "late"
