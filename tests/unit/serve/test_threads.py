"""Threads of their own: owners take turns, and other work is not kept from its threads."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

from cluster.pools.fairness import AdmissionLimiter
from serve.threads import OWNER, FairThreads


async def test_owners_take_turns_in_one_thread() -> None:
    threads, gate, order = FairThreads("test", 1), threading.Event(), []

    def work(name: str) -> None:
        gate.wait()
        order.append(name)

    async def ask(owner: str, number: int) -> None:
        OWNER.set(owner)
        await threads.run(work, f"{owner}{number}")

    asked = [asyncio.create_task(ask("many", number)) for number in range(6)]
    await asyncio.sleep(0)
    asked += [asyncio.create_task(ask(owner, 0)) for owner in ("few", "one")]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*asked)
    assert set(order[:4]) == {"many0", "many1", "few0", "one0"}
    assert order[4:] == ["many2", "many3", "many4", "many5"]
    threads.close()


async def test_a_thread_is_kept_for_other_owners() -> None:
    threads, gate, running = FairThreads("test", 2, max_per_owner=1), threading.Event(), Counter[str]()

    def work(owner: str) -> None:
        running[owner] += 1
        gate.wait()

    async def ask(owner: str) -> None:
        OWNER.set(owner)
        await threads.run(work, owner)

    asked = [asyncio.create_task(ask(owner)) for owner in ("many", "many", "many", "few")]
    while not running["few"]:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert running == {"many": 1, "few": 1}
    gate.set()
    await asyncio.gather(*asked)
    assert running["many"] == 3
    threads.close()


async def test_a_caller_that_goes_frees_no_thread_that_still_works() -> None:
    threads, gate, running = FairThreads("test", 2), threading.Event(), Counter[str]()

    def work(name: str) -> str:
        running[name] += 1
        gate.wait()
        return name

    left = [asyncio.create_task(threads.run(work, "left")) for _ in range(2)]
    while running["left"] < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    later = asyncio.create_task(threads.run(work, "later"))
    default = await asyncio.to_thread(lambda: "not kept from its own threads")
    assert default
    assert running["later"] == 0
    gate.set()
    assert await later == "later"
    threads.close()


async def test_places_that_fall_free_go_around() -> None:
    limiter, order = AdmissionLimiter(1, 1), []

    async def hold(job: str) -> None:
        await limiter.enter(job)
        order.append(job)
        await asyncio.sleep(0)
        limiter.leave(job)

    await limiter.enter("first")
    waiting = [asyncio.create_task(hold(job)) for job in ("a", "a", "a", "b", "b", "c")]
    await asyncio.sleep(0)
    limiter.leave("first")
    await asyncio.gather(*waiting)
    assert order == ["a", "b", "c", "a", "b", "a"]
