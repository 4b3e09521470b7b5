import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduling import (
    AfterLoss,
    Assignment,
    BatchLimits,
    Dispatch,
    QueuedItem,
    ReplicaLoad,
    after_loss,
    dispatch,
)

NOW_S = 100.0

queues = st.lists(
    st.builds(
        QueuedItem,
        cost=st.floats(0, 20),
        queued_s=st.floats(NOW_S - 1, NOW_S),
        alone=st.sampled_from([False, False, False, True]),
    ),
    max_size=40,
)
loads = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=6).map(
    lambda pairs: [
        # Company is kept from what runs alone, so there is one batch of it.
        ReplicaLoad(id=id, num_batches=number, alone=alone and number == 1)
        for id, (number, alone) in enumerate(pairs)
    ]
)
limits = st.builds(
    BatchLimits,
    max_items=st.integers(1, 9),
    max_cost=st.just(math.inf) | st.floats(1, 60),
    max_wait_s=st.sampled_from([0.0, 0.02, 0.5, 2.0]),
    in_flight=st.integers(1, 4),
)


def plain(count: int, queued_s: float = NOW_S) -> list[QueuedItem]:
    return [QueuedItem(cost=1.0, queued_s=queued_s)] * count


def idle(count: int) -> list[ReplicaLoad]:
    return [ReplicaLoad(id=id, num_batches=0) for id in range(count)]


def sizes(decision: Dispatch) -> list[tuple[int, int]]:
    return [(assignment.replica_id, assignment.num_items) for assignment in decision.assignments]


def batches(queue: list[QueuedItem], assignments: tuple[Assignment, ...]) -> list[list[QueuedItem]]:
    found, taken = [], 0
    for assignment in assignments:
        found.append(queue[taken : taken + assignment.num_items])
        taken += assignment.num_items
    return found


@given(queues, loads, limits)
def test_batches_are_prefixes_within_every_limit(
    queue: list[QueuedItem], replicas: list[ReplicaLoad], limit: BatchLimits
) -> None:
    decision = dispatch(queue, replicas, limit, NOW_S)
    assert sum(assignment.num_items for assignment in decision.assignments) <= len(queue)
    for batch in batches(queue, decision.assignments):
        assert 1 <= len(batch) <= limit.max_items
        assert len(batch) == 1 or math.fsum(item.cost for item in batch) <= limit.max_cost + 1e-6
        assert len(batch) == 1 or not any(item.alone for item in batch)


@given(queues, loads, limits)
def test_no_replica_above_in_flight_and_no_company_for_what_runs_alone(
    queue: list[QueuedItem], replicas: list[ReplicaLoad], limit: BatchLimits
) -> None:
    decision = dispatch(queue, replicas, limit, NOW_S)
    for replica in replicas:
        given_to = [
            batch
            for assignment, batch in zip(decision.assignments, batches(queue, decision.assignments), strict=True)
            if assignment.replica_id == replica.id
        ]
        assert not given_to or replica.num_batches + len(given_to) <= limit.in_flight
        assert not (given_to and replica.alone)
        if any(batch[0].alone for batch in given_to):
            assert replica.num_batches == 0
            assert len(given_to) == 1


@given(queues, loads, limits)
def test_an_idle_replica_gets_work_while_there_is_any(
    queue: list[QueuedItem], replicas: list[ReplicaLoad], limit: BatchLimits
) -> None:
    decision = dispatch(queue, replicas, limit, NOW_S)
    served = {assignment.replica_id for assignment in decision.assignments}
    num_taken = sum(assignment.num_items for assignment in decision.assignments)
    unserved = [replica for replica in replicas if replica.num_batches == 0 and replica.id not in served]
    assert not unserved or num_taken == len(queue)


@given(queues, loads, limits)
def test_asking_again_at_once_changes_nothing(
    queue: list[QueuedItem], replicas: list[ReplicaLoad], limit: BatchLimits
) -> None:
    """Sending wakes nobody, so a decision must be complete: else two batches in flight would rarely be."""
    first = dispatch(queue, replicas, limit, NOW_S)
    sent = batches(queue, first.assignments)
    loads_after = {replica.id: replica for replica in replicas}
    for assignment, batch in zip(first.assignments, sent, strict=True):
        before = loads_after[assignment.replica_id]
        loads_after[before.id] = ReplicaLoad(id=before.id, num_batches=before.num_batches + 1, alone=batch[0].alone)
    rest = queue[sum(map(len, sent)) :]
    again = dispatch(rest, list(loads_after.values()), limit, NOW_S)
    assert again.assignments == ()
    assert again.wake_at_s == first.wake_at_s


@given(queues, loads, limits)
def test_it_wakes_only_for_what_waits_and_then_sends_it(
    queue: list[QueuedItem], replicas: list[ReplicaLoad], limit: BatchLimits
) -> None:
    decision = dispatch(queue, replicas, limit, NOW_S)
    if decision.wake_at_s is None:
        return
    assert decision.wake_at_s > NOW_S
    num_taken = sum(assignment.num_items for assignment in decision.assignments)
    assert num_taken < len(queue)
    later = dispatch(queue, replicas, limit, decision.wake_at_s)
    assert sum(assignment.num_items for assignment in later.assignments) > num_taken


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 16))
def test_idle_replicas_share_evenly(num_items: int, num_replicas: int, max_items: int) -> None:
    decision = dispatch(plain(num_items), idle(num_replicas), BatchLimits(max_items=max_items, in_flight=1), NOW_S)
    numbers = [assignment.num_items for assignment in decision.assignments]
    assert sum(numbers) == min(num_items, num_replicas * max_items)
    assert max(numbers) - min(numbers) <= 1
    assert len(numbers) == min(num_items, num_replicas)


def test_a_backlog_puts_two_batches_on_each_replica_at_once() -> None:
    decision = dispatch(plain(40), idle(2), BatchLimits(max_items=4), NOW_S)
    assert sizes(decision) == [(0, 4), (1, 4), (0, 4), (1, 4)]
    assert decision.wake_at_s is None


def test_a_busy_replica_waits_for_a_full_batch_until_it_is_due() -> None:
    busy = [ReplicaLoad(id=7, num_batches=1)]
    limit = BatchLimits(max_items=4, max_wait_s=0.5)
    assert dispatch(plain(3), busy, limit, NOW_S) == Dispatch(assignments=(), wake_at_s=NOW_S + 0.5)
    assert sizes(dispatch(plain(3), busy, limit, NOW_S + 0.5)) == [(7, 3)]
    assert sizes(dispatch(plain(4), busy, limit, NOW_S)) == [(7, 4)]


def test_what_must_be_alone_waits_for_an_idle_replica_and_holds_the_queue() -> None:
    alone = QueuedItem(cost=1.0, queued_s=NOW_S - 9, alone=True)
    queue = [alone, *plain(8)]
    assert sizes(dispatch(queue, [ReplicaLoad(id=0, num_batches=1)], BatchLimits(), NOW_S)) == []
    assert sizes(dispatch(queue, idle(1), BatchLimits(), NOW_S)) == [(0, 1)]
    assert sizes(dispatch(plain(8), [ReplicaLoad(id=0, num_batches=1, alone=True)], BatchLimits(), NOW_S)) == []


def test_nothing_to_do() -> None:
    assert dispatch([], idle(3), BatchLimits(), NOW_S) == Dispatch(assignments=(), wake_at_s=None)
    assert dispatch(plain(3), [], BatchLimits(), NOW_S) == Dispatch(assignments=(), wake_at_s=None)


@pytest.mark.parametrize(
    ("num_losses", "was_alone", "max_losses", "expected"),
    [
        (1, False, 3, AfterLoss.RETRY),
        (2, False, 3, AfterLoss.RETRY_ALONE),
        (3, True, 3, AfterLoss.GIVE_UP),
        (1, False, 2, AfterLoss.RETRY_ALONE),
        (2, True, 2, AfterLoss.GIVE_UP),
        (3, True, 5, AfterLoss.RETRY_ALONE),
        (5, True, 5, AfterLoss.GIVE_UP),
    ],
)
def test_after_loss(num_losses: int, was_alone: bool, max_losses: int, expected: AfterLoss) -> None:
    assert after_loss(num_losses, was_alone, max_losses) is expected


@given(st.integers(2, 9))
def test_every_item_is_given_up_after_max_losses_and_the_last_was_alone(max_losses: int) -> None:
    alone, num_losses = False, 0
    while True:
        num_losses += 1
        decision = after_loss(num_losses, alone, max_losses)
        if decision is AfterLoss.GIVE_UP:
            break
        alone = decision is AfterLoss.RETRY_ALONE
    assert num_losses == max_losses
    assert alone
