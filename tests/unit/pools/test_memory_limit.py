from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.device.memory import FIRST_PATIENCE_BATCHES, MAX_PATIENCE_BATCHES
from cluster.config.schema import BatchLimits
from cluster.pools.memory_limit import MemoryLimit


def exhausted(limits: BatchLimits, *costs: float) -> BatchLimits:
    limit = MemoryLimit(limits)
    for cost in costs:
        limit.note_exhausted(cost)
    return limit.limits


def num_batches_until_as_configured(limit: MemoryLimit, configured: BatchLimits) -> int:
    num_batches = 0
    while limit.limits != configured:
        limit.note_well()
        num_batches += 1
    return num_batches


def test_what_was_too_much_is_halved_and_never_raised_by_more_of_it() -> None:
    assert exhausted(BatchLimits(max_items=8), 40.0) == BatchLimits(max_items=8, max_cost=20.0)
    assert exhausted(BatchLimits(max_items=8), 40.0, 100.0).max_cost == 20.0
    assert exhausted(BatchLimits(max_items=8), 40.0, 20.0).max_cost == 10.0


def test_without_a_cost_the_number_is_halved() -> None:
    assert exhausted(BatchLimits(max_items=8), 0.0) == BatchLimits(max_items=4)
    assert exhausted(BatchLimits(max_items=1), 0.0) == BatchLimits(max_items=1)


def test_it_grows_back_twofold_and_ever_later() -> None:
    configured = BatchLimits(max_items=8)
    limit = MemoryLimit(configured)
    for cost in (32.0, 16.0, 8.0):
        limit.note_exhausted(cost)
    seen = set()
    for _ in range(3 * 4 * FIRST_PATIENCE_BATCHES):
        seen.add(limit.limits.max_cost)
        limit.note_well()
    assert seen == {4.0, 8.0, 16.0}
    assert limit.limits == configured
    assert limit.max_cost is None
    waits = []
    for _ in range(9):
        limit.note_exhausted(32.0)
        waits.append(num_batches_until_as_configured(limit, configured))
    assert waits[:3] == [8 * FIRST_PATIENCE_BATCHES, 16 * FIRST_PATIENCE_BATCHES, 32 * FIRST_PATIENCE_BATCHES]
    assert waits[-1] == MAX_PATIENCE_BATCHES


@given(
    st.integers(1, 64),
    st.none() | st.floats(1, 1e6),
    st.lists(st.none() | st.floats(0, 1e6), max_size=30),
)
def test_it_is_never_above_what_was_configured(
    max_items: int, max_cost: float | None, notes: list[float | None]
) -> None:
    configured = BatchLimits(max_items=max_items, max_cost=max_cost)
    limit = MemoryLimit(configured)
    for cost in notes:
        limit.note_well() if cost is None else limit.note_exhausted(cost)
        assert 1 <= limit.limits.max_items <= max_items
        assert max_cost is None or (limit.limits.max_cost is not None and limit.limits.max_cost <= max_cost)
