"""The index of loads: it offers what a look at all replicas would choose, and looks at few."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.config.schema import BatchLimits
from cluster.pools.loads import LoadIndex
from cluster.pools.scheduling import Backlog, ReplicaLoad, next_batch

IN_FLIGHT = 2


def loads(number: int) -> st.SearchStrategy[ReplicaLoad]:
    return st.builds(
        ReplicaLoad,
        id=st.integers(min_value=0, max_value=number - 1),
        num_batches=st.integers(min_value=0, max_value=IN_FLIGHT),
        running_since_s=st.sampled_from([0.0, 1.0, 2.0]),
        idle_from_s=st.none() | st.sampled_from([3.0, 4.0, 5.0, 6.0]),
        alone=st.just(False) | st.booleans(),
    ).filter(lambda load: not (load.alone and load.num_batches == 0))


@given(
    steps=st.lists(loads(5) | st.integers(min_value=0, max_value=4), max_size=60),
    num_items=st.integers(min_value=0, max_value=9),
    times_s=st.lists(st.sampled_from([2.0, 3.5, 4.5, 9.0]), min_size=1, max_size=4),
)
def test_the_decision_is_that_of_a_look_at_all(
    steps: list[ReplicaLoad | int], num_items: int, times_s: list[float]
) -> None:
    index = LoadIndex(IN_FLIGHT)
    limits = BatchLimits(max_items=2, in_flight=IN_FLIGHT)
    backlog = Backlog(num_items=num_items, cost=0.0)
    now_s = iter(sorted(times_s))
    at_s = next(now_s)
    for number, step in enumerate(steps):
        if isinstance(step, int):
            index.remove(step)
        else:
            index.update(step)
        if number % 15 == 14:
            at_s = next(now_s, at_s)
        seen = next_batch(backlog, index.candidates(0.5, at_s), limits, 0.5, at_s, index.num_idle)
        assert seen == next_batch(backlog, index.all(), limits, 0.5, at_s)


def test_a_thousand_replicas_cost_as_many_looks_as_ten() -> None:
    index = LoadIndex(IN_FLIGHT)
    for number in range(1000):
        index.update(ReplicaLoad(id=number, num_batches=number % 3, idle_from_s=float(number)))
    assert index.num_idle == 334
    assert len(index.candidates(0.0, 500.0)) == 1
    for number in range(0, 1000, 3):
        index.update(ReplicaLoad(id=number, num_batches=2))
    assert not index.num_idle
    assert len(index.candidates(0.0, 500.0)) == 2


def test_what_was_replaced_is_forgotten() -> None:
    index = LoadIndex(IN_FLIGHT)
    for number in range(10_000):
        index.update(ReplicaLoad(id=number % 3, num_batches=0, running_since_s=float(number)))
    assert len(index._idle._entries) < 100
