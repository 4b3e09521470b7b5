import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.pools.call_times import CallTimes, TimeEstimate

times = st.floats(0.001, 100)


@given(st.lists(times, min_size=1, max_size=30))
def test_an_estimate_is_a_range_of_what_was_seen(seen_s: list[float]) -> None:
    estimate = TimeEstimate(seen_s[0])
    for time_s in seen_s[1:]:
        estimate.note(time_s)
    assert 0 <= estimate.low_s <= max(seen_s)
    assert estimate.high_s >= min(seen_s)


def test_an_estimate_narrows_where_times_are_alike_and_follows_a_change() -> None:
    estimate = TimeEstimate(2.0)
    assert estimate.low_s == 1.0
    for _ in range(20):
        estimate.note(2.0)
    assert estimate.low_s == pytest.approx(2.0, rel=0.01)
    assert estimate.high_s == pytest.approx(2.0, rel=0.01)
    for _ in range(20):
        estimate.note(4.0)
    assert estimate.low_s == pytest.approx(4.0, rel=0.02)


def test_most_calls_are_longer_than_the_shortest() -> None:
    randomly, known, longer = random.Random(5), CallTimes(), 0
    for _ in range(1000):
        shortest_s, time_s = known.shortest_s(8.0), randomly.uniform(0.8, 1.2)
        longer += shortest_s is None or time_s >= shortest_s
        known.note_call(8.0, time_s)
    assert longer > 700


def test_a_call_takes_at_least_as_long_as_a_smaller_one() -> None:
    known = CallTimes()
    assert known.shortest_s(8.0) is None
    known.note_call(8.0, 1.0)
    known.note_call(100.0, 7.0)
    assert known.shortest_s(8.5) == known.shortest_s(8.0) == known.shortest_s(60.0) == 0.5
    assert known.shortest_s(1000.0) == 3.5
    assert known.shortest_s(1.0) is None
    known.note_call(0.0, 0.2)  # some engines count no cost
    assert known.shortest_s(1.0) == 0.1


def test_delivery_is_nothing_until_it_is_known_and_then_rather_too_long() -> None:
    known = CallTimes()
    assert known.delivery_s == 0.0
    for time_s in (0.1, 0.12, 0.09, 0.11):
        known.note_delivery(time_s)
    assert 0.12 < known.delivery_s < 0.2
