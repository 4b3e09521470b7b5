from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.pools.fairness import (
    MAX_WEIGHT,
    PRIORITY_WEIGHT,
    USUAL_JOB_S,
    AdmissionLimiter,
    FairQueue,
    Ticket,
    job_weight,
)

JOBS = ["a", "b", "c"]


def ticket(
    job: str = "a",
    order: float = 0.0,
    cost: float = 1.0,
    priority: int = 0,
    queued_s: float = 0.0,
    weight: float = 1.0,
) -> Ticket:
    return Ticket(job=job, priority=priority, order=order, cost=cost, queued_s=queued_s, weight=weight)


tickets = st.builds(
    ticket,
    job=st.sampled_from(JOBS),
    order=st.integers(0, 5).map(float),
    cost=st.integers(1, 8).map(float),
    priority=st.integers(-1, 1),
)


def queue_of(waiting: Sequence[Ticket]) -> FairQueue[Ticket]:
    queue: FairQueue[Ticket] = FairQueue()
    for each in waiting:
        queue.push(each)
    return queue


@given(st.lists(st.tuples(st.sampled_from(["push", "push", "pop", "remove", "take"]), tickets), max_size=80))
def test_everything_comes_out_once_whatever_is_done(steps: list[tuple[str, Ticket]]) -> None:
    queue: FairQueue[Ticket] = FairQueue()
    inside: list[Ticket] = []
    for step, new in steps:
        if step == "push":
            queue.push(new)
            inside.append(new)
        elif not inside:
            assert queue.take(3, None) == []
        elif step == "pop":
            first = queue.first()
            assert queue.pop() is first
            inside.remove(first)
        elif step == "remove":
            queue.remove(inside.pop(len(inside) // 2))
        else:
            batch = queue.take(3, 6.0)
            assert 1 <= len(batch) <= 3
            assert len(batch) == 1 or sum(each.cost for each in batch) <= 6.0
            for each in batch:
                inside.remove(each)
        assert len(queue) == len(inside)
        assert math.isclose(queue.cost, sum(each.cost for each in inside), abs_tol=1e-9)
        assert queue.oldest_s is None if not inside else queue.oldest_s == 0.0
        assert all(each in queue for each in inside)
    assert Counter(map(id, queue.drain())) == Counter(map(id, inside))
    assert len(queue) == 0


@given(st.lists(tickets, min_size=1, max_size=40))
def test_of_one_job_and_priority_the_first_needed_goes_first(waiting: list[Ticket]) -> None:
    queue = queue_of(waiting)
    out = [queue.pop() for _ in waiting]
    for key in {(each.job, each.priority) for each in waiting}:
        keys = [(each.order, each.sequence) for each in out if (each.job, each.priority) == key]
        assert keys == sorted(keys)


@given(st.lists(st.lists(st.integers(1, 8).map(float), min_size=1, max_size=30), min_size=2, max_size=4))
def test_while_two_jobs_wait_neither_is_ahead_by_more_than_one_item(costs: list[list[float]]) -> None:
    """The bound of fair queueing: work given to two that wait differs by at most their largest items."""
    queue = queue_of([ticket(job=str(job), cost=cost) for job, mine in enumerate(costs) for cost in mine])
    given = [0.0] * len(costs)
    left = [len(mine) for mine in costs]
    while len(queue):
        waiting = [job for job in range(len(costs)) if left[job]]
        for one in waiting:
            for other in waiting:
                assert given[one] - given[other] <= max(costs[one]) + max(costs[other])
        out = queue.pop()
        given[int(out.job)] += out.cost
        left[int(out.job)] -= 1


@given(
    st.lists(
        st.tuples(st.floats(0.5, 2.0), st.lists(st.integers(1, 8).map(float), min_size=1, max_size=30)),
        min_size=2,
        max_size=4,
    )
)
def test_while_two_jobs_wait_they_are_given_work_in_proportion_to_their_weights(
    jobs: list[tuple[float, list[float]]],
) -> None:
    queue = queue_of([ticket(job=str(job), cost=cost, weight=w) for job, (w, mine) in enumerate(jobs) for cost in mine])
    given = [0.0] * len(jobs)
    left = [len(mine) for _, mine in jobs]
    while len(queue):
        waiting = [job for job in range(len(jobs)) if left[job]]
        for one in waiting:
            for other in waiting:
                ahead = given[one] / jobs[one][0] - given[other] / jobs[other][0]
                assert ahead <= max(jobs[one][1]) / jobs[one][0] + max(jobs[other][1]) / jobs[other][0] + 1e-9
        out = queue.pop()
        given[int(out.job)] += out.cost
        left[int(out.job)] -= 1


@given(st.integers(1, 5), st.floats(1.0, 1e6))
def test_a_long_job_beside_any_number_of_others_has_a_quarter_of_an_equal_share(
    num_others: int, media_s: float
) -> None:
    waiting = [ticket("long", weight=job_weight(1e6), order=i) for i in range(400)]
    waiting += [ticket(str(job), weight=job_weight(media_s), order=i) for job in range(num_others) for i in range(400)]
    queue = queue_of(waiting)
    share = [queue.pop().job for _ in range(400)].count("long") / 400
    assert share >= 1 / (num_others + 1) / MAX_WEIGHT**2 - 0.01


def test_a_higher_class_goes_before_whatever_the_weights_below() -> None:
    waiting = [ticket("short", weight=MAX_WEIGHT, order=i) for i in range(100)]
    waiting += [ticket("long", weight=1 / MAX_WEIGHT, priority=1, order=i) for i in range(100)]
    queue = queue_of(waiting)
    assert [queue.pop().job for _ in range(34)].count("long") >= 31


@given(st.floats(0.1, 1e6), st.floats(0.1, 1e6))
def test_a_shorter_job_weighs_no_less_and_at_most_four_times_as_much(one_s: float, other_s: float) -> None:
    short, long = job_weight(min(one_s, other_s)), job_weight(max(one_s, other_s))
    assert long <= short <= long * MAX_WEIGHT**2


def test_a_job_of_usual_or_unknown_length_weighs_one() -> None:
    assert job_weight(USUAL_JOB_S) == job_weight(0.0) == 1.0


def test_one_that_comes_late_is_served_at_once_and_saves_up_nothing() -> None:
    queue = queue_of([ticket("big", order=i) for i in range(100)])
    for _ in range(50):
        queue.pop()
    for i in range(10):
        queue.push(ticket("small", order=1000 + i))
    served = [queue.pop().job for _ in range(20)]
    assert served.count("small") == 10
    assert max(len(run) for run in "".join(job[0] for job in served).split("s")) <= 2


def test_a_job_that_pauses_does_not_win_the_turns_it_missed() -> None:
    queue = queue_of([ticket("steady", order=i) for i in range(200)])
    queue.push(ticket("pausing"))
    for _ in range(100):
        queue.pop()
    for i in range(50):
        queue.push(ticket("pausing", order=i))
    assert [queue.pop().job for _ in range(40)].count("pausing") == 20


def test_a_class_goes_before_the_one_below_and_does_not_starve_it() -> None:
    waiting = [ticket(f"low{i % 5}", priority=0) for i in range(500)]
    waiting += [ticket("high", priority=1, order=i) for i in range(500)]
    queue = queue_of(waiting)
    out = [queue.pop() for _ in range(340)]
    num_low = sum(each.priority == 0 for each in out)
    assert num_low == pytest.approx(340 / (PRIORITY_WEIGHT + 1), abs=1)
    assert [each.priority for each in out[1:16]] == [1] * 15


def test_what_comes_back_is_not_charged_twice_and_keeps_its_place() -> None:
    queue = queue_of([ticket("a", cost=5.0), ticket("b", cost=5.0), ticket("b", cost=5.0)])
    first = queue.pop()
    queue.push(first)
    assert queue.oldest_s == first.queued_s
    second, third = queue.pop(), queue.pop()
    assert {second.job, third.job} == {"a", "b"}


@given(st.lists(st.text("xyz", min_size=3, max_size=9), max_size=400))
def test_jobs_that_have_gone_are_forgotten(jobs: list[str]) -> None:
    queue = queue_of([ticket("always", order=i) for i in range(2 * len(jobs) + 1)])
    for job in jobs:
        queue.push(ticket(job))
        queue.pop()
        queue.pop()
    assert len(queue._classes[0].turns._reached if 0 in queue._classes else {}) <= 2 * 2 + 65


# --- admission


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Guests:
    """Enter a door and stay until told to leave."""

    def __init__(self, door: AdmissionLimiter) -> None:
        self.door = door
        self.inside: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    def send(self, job: str, number: int) -> None:
        self.tasks += [asyncio.create_task(self._enter(job)) for _ in range(number)]

    async def _enter(self, job: str) -> None:
        await self.door.enter(job)
        self.inside.append(job)

    def leave(self, job: str) -> None:
        self.inside.remove(job)
        self.door.leave(job)


async def test_a_late_job_waits_for_one_place_though_another_filled_the_house() -> None:
    guests = Guests(AdmissionLimiter(4, 4))
    guests.send("big", 20)
    await settle()
    guests.send("small", 3)
    await settle()
    assert guests.inside == ["big"] * 4
    guests.leave("big")
    await settle()
    assert guests.inside.count("small") == 1
    guests.leave("big")
    await settle()
    assert Counter(guests.inside) == {"big": 2, "small": 2}
    for task in guests.tasks:
        task.cancel()
    await asyncio.gather(*guests.tasks, return_exceptions=True)


async def test_a_job_has_a_limit_of_its_own() -> None:
    guests = Guests(AdmissionLimiter(10, 2))
    guests.send("a", 5)
    guests.send("b", 1)
    await settle()
    assert Counter(guests.inside) == {"a": 2, "b": 1}
    guests.leave("a")
    await settle()
    assert Counter(guests.inside) == {"a": 2, "b": 1}
    for _ in range(4):
        guests.leave("a")
        await settle()
    assert guests.inside == ["b"]


@given(st.lists(st.tuples(st.sampled_from(["send", "send", "leave", "cancel"]), st.sampled_from(JOBS)), max_size=60))
def test_no_place_is_lost_nor_given_twice(steps: list[tuple[str, str]]) -> None:
    async def run() -> None:
        guests = Guests(AdmissionLimiter(3, 2))
        for step, job in steps:
            if step == "send":
                guests.send(job, 1)
            elif step == "leave" and job in guests.inside:
                guests.leave(job)
            elif step == "cancel" and guests.tasks:
                guests.tasks.pop(len(guests.tasks) // 2).cancel()
            if job == "a":  # else the next step happens in the same turn of the loop
                await settle()
            assert len(guests.inside) <= 3
            assert all(number <= 2 for number in Counter(guests.inside).values())
        await settle()
        while guests.inside:
            guests.leave(guests.inside[0])
            await settle()
        waiting = [task for task in guests.tasks if not task.done()]
        assert waiting == []
        guests.send("fresh", 2)
        await settle()
        assert guests.inside == ["fresh"] * 2

    asyncio.run(run())
