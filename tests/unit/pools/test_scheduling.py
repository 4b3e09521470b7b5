import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config.schema import BatchLimits
from cluster.pools.scheduling import (
    MAX_RESTART_DELAY_S,
    AfterLoss,
    Backlog,
    ReplicaLoad,
    Send,
    Wait,
    after_loss,
    next_batch,
    retry_delay_s,
)

NOW_S = 100.0


@st.composite
def backlogs(draw: st.DrawFn) -> Backlog:
    num_items = draw(st.integers(0, 40))
    return Backlog(
        num_items=num_items,
        cost=draw(st.floats(0, 200)) if num_items else 0.0,
        num_suspects=draw(st.sampled_from([0, 0, 0, 1, 3])),
    )


ends = st.none() | st.floats(NOW_S - 1, NOW_S + 5)
loads = st.lists(st.tuples(st.integers(0, 4), ends, st.booleans()), max_size=6).map(
    lambda triples: [
        # Company is kept from what runs alone, so there is one batch of it.
        ReplicaLoad(id=id, num_batches=number, idle_from_s=end_s, alone=alone and number == 1)
        for id, (number, end_s, alone) in enumerate(triples)
    ]
)
leads = st.sampled_from([0.0, 0.02, 0.5, 2.0])
limits = st.builds(
    BatchLimits,
    max_items=st.integers(1, 9),
    max_cost=st.none() | st.floats(1, 60),
    in_flight=st.integers(1, 4),
)


def plain(num_items: int, num_suspects: int = 0) -> Backlog:
    return Backlog(num_items=num_items, cost=float(num_items), num_suspects=num_suspects)


def idle(count: int) -> list[ReplicaLoad]:
    return [ReplicaLoad(id=id, num_batches=0) for id in range(count)]


def send_all(
    backlog: Backlog, replicas: list[ReplicaLoad], limit: BatchLimits, lead_s: float = 0.0
) -> tuple[list[Send], Wait, list[ReplicaLoad], Backlog]:
    """Apply decisions until there is nothing to send; every item costs the same, and none is cut off by cost.

    A batch is expected to take a second, where that can be told.
    """
    sent = []
    loads_now = {replica.id: replica for replica in replicas}
    while isinstance(decision := next_batch(backlog, list(loads_now.values()), limit, lead_s, NOW_S), Send):
        sent.append(decision)
        before = loads_now[decision.replica_id]
        loads_now[before.id] = ReplicaLoad(
            id=before.id,
            num_batches=before.num_batches + 1,
            idle_from_s=None if before.idle_from_s is None else before.idle_from_s + 1,
            alone=decision.suspect,
        )
        taken = 0 if decision.suspect else min(decision.max_items, backlog.num_items)
        left = backlog.num_items - taken
        backlog = Backlog(
            num_items=left,
            cost=backlog.cost * left / backlog.num_items if left else 0.0,
            num_suspects=backlog.num_suspects - decision.suspect,
        )
        assert len(sent) < 200, "it must come to an end"
    return sent, decision, list(loads_now.values()), backlog


@given(backlogs(), loads, limits, leads)
def test_every_decision_keeps_every_limit(
    backlog: Backlog, replicas: list[ReplicaLoad], limit: BatchLimits, lead_s: float
) -> None:
    by_id = {replica.id: replica for replica in replicas}
    decision = next_batch(backlog, replicas, limit, lead_s, NOW_S)
    if isinstance(decision, Wait):
        return
    assert 1 <= decision.max_items <= limit.max_items
    chosen = by_id[decision.replica_id]
    assert not chosen.alone
    assert chosen.num_batches == 0 if decision.suspect else chosen.num_batches < limit.in_flight
    assert backlog.num_suspects if decision.suspect else backlog.num_items


@given(backlogs(), loads, limits, leads)
def test_no_replica_is_left_idle_while_there_is_work_for_it(
    backlog: Backlog, replicas: list[ReplicaLoad], limit: BatchLimits, lead_s: float
) -> None:
    _, _, loads_after, left = send_all(backlog, replicas, limit, lead_s)
    if left.num_items or left.num_suspects:
        num_idle = sum(replica.num_batches == 0 for replica in loads_after)
        assert num_idle == 0


@given(backlogs(), loads, limits, leads)
def test_it_wakes_only_for_what_waits_and_then_sends_it(
    backlog: Backlog, replicas: list[ReplicaLoad], limit: BatchLimits, lead_s: float
) -> None:
    _, wait, loads_after, left = send_all(backlog, replicas, limit, lead_s)
    if wait.until_s is None:
        return
    assert wait.until_s > NOW_S
    assert left.num_items
    assert isinstance(next_batch(left, loads_after, limit, lead_s, wait.until_s), Send)


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 16))
def test_idle_replicas_share_evenly(num_items: int, num_replicas: int, max_items: int) -> None:
    limit = BatchLimits(max_items=max_items, in_flight=1)
    sent, *_ = send_all(plain(num_items), idle(num_replicas), limit)
    numbers = [decision.max_items for decision in sent]
    assert sum(numbers) >= min(num_items, num_replicas * max_items)
    assert max(numbers) - min(numbers) <= 1
    assert len(numbers) == min(num_items, num_replicas)
    assert len({decision.replica_id for decision in sent}) == len(sent)


def test_a_backlog_puts_two_batches_on_each_replica_at_once() -> None:
    sent, wait, *_ = send_all(plain(40), idle(2), BatchLimits(max_items=4))
    assert [(decision.replica_id, decision.max_items) for decision in sent] == [(0, 4), (1, 4), (0, 4), (1, 4)]
    assert wait == Wait()


def test_a_busy_replica_gets_a_full_batch_shortly_before_it_ends() -> None:
    busy = [ReplicaLoad(id=7, num_batches=1, idle_from_s=NOW_S + 0.5)]
    limit = BatchLimits(max_items=4)
    for num_items in (4, 40):
        assert next_batch(plain(num_items), busy, limit, 0.1, NOW_S) == Wait(until_s=NOW_S + 0.4)
        assert next_batch(plain(num_items), busy, limit, 0.1, NOW_S + 0.4) == Send(replica_id=7, max_items=4)


def test_what_fills_no_batch_waits_for_an_idle_replica() -> None:
    busy = [ReplicaLoad(id=7, num_batches=1, idle_from_s=NOW_S), ReplicaLoad(id=8, num_batches=1)]
    limit = BatchLimits(max_items=8, max_cost=2.5)
    assert next_batch(plain(2), busy, limit, 1.0, NOW_S) == Wait()
    assert isinstance(next_batch(plain(3), busy, limit, 1.0, NOW_S), Send)
    assert next_batch(Backlog(num_items=1, cost=99.0), busy, limit, 1.0, NOW_S) == Wait()


def test_a_full_batch_goes_to_the_replica_that_ends_first() -> None:
    ends_s = {0: NOW_S + 3, 1: NOW_S + 1, 2: NOW_S + 2}
    busy = [ReplicaLoad(id=id, num_batches=1, idle_from_s=end_s) for id, end_s in ends_s.items()]
    assert next_batch(plain(9), busy, BatchLimits(), 0.0, NOW_S) == Wait(until_s=NOW_S + 1)
    assert next_batch(plain(9), busy, BatchLimits(), 0.0, NOW_S + 1) == Send(replica_id=1, max_items=8)
    unknown = [*busy, ReplicaLoad(id=3, num_batches=1)]
    assert next_batch(plain(9), unknown, BatchLimits(), 0.0, NOW_S) == Send(replica_id=3, max_items=8)


def test_a_suspect_gets_an_idle_replica_to_itself() -> None:
    assert next_batch(plain(8, num_suspects=1), idle(1), BatchLimits(), 0.0, NOW_S) == Send(
        replica_id=0, max_items=1, suspect=True
    )
    alone = [ReplicaLoad(id=0, num_batches=1, alone=True)]
    assert next_batch(plain(8), alone, BatchLimits(), 0.0, NOW_S) == Wait()


def test_one_replica_is_kept_free_for_a_suspect_while_the_others_go_on() -> None:
    replicas = [ReplicaLoad(id=0, num_batches=1), ReplicaLoad(id=1, num_batches=1)]
    sent, wait, *_ = send_all(plain(20, num_suspects=1), replicas, BatchLimits(max_items=4))
    assert [decision.replica_id for decision in sent] == [1]
    assert wait == Wait()
    assert send_all(plain(20, num_suspects=2), replicas, BatchLimits(max_items=4))[0] == []


def test_nothing_to_do() -> None:
    assert next_batch(plain(0), idle(3), BatchLimits(), 0.0, NOW_S) == Wait()
    assert next_batch(plain(3, num_suspects=1), [], BatchLimits(), 0.0, NOW_S) == Wait()


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


@given(st.integers(1, 10_000), st.floats(0, 0.999))
def test_tries_come_ever_more_rarely_and_not_together(num_failures: int, jitter: float) -> None:
    delay_s = retry_delay_s(0.5, num_failures, jitter)
    assert 0.375 <= delay_s <= 1.25 * MAX_RESTART_DELAY_S
    assert retry_delay_s(0.5, num_failures, 0.0) < retry_delay_s(0.5, num_failures, 0.5)
    assert retry_delay_s(0.5, num_failures, jitter) <= retry_delay_s(0.5, num_failures + 1, jitter)


def test_of_replicas_equally_busy_the_first_to_begin_is_handed_the_next_batch() -> None:
    busy = [
        ReplicaLoad(id=id, num_batches=1, running_since_s=since_s) for id, since_s in ((0, 3.0), (1, 1.0), (2, 2.0))
    ]
    sent, *_ = send_all(plain(2), busy, BatchLimits(max_items=1))
    assert [decision.replica_id for decision in sent] == [1, 2]
