"""Which driver takes which video: longest first, evenly, every one accounted for."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.batch.runner import ItemOutcome
from cluster.batch.sharding import Sharding
from cluster.config.load import load_config
from cluster.pipeline import Job


def sharding_of(durations_s: list[float], num_drivers: int = 2, max_videos: int = 2, max_losses: int = 3) -> Sharding:
    return Sharding(durations_s, num_drivers, max_videos, max_losses)


def test_the_longest_comes_first() -> None:
    sharding = sharding_of([1.0, 3.0, 2.0], num_drivers=1, max_videos=3)
    assert [sharding.take(0) for _ in range(4)] == [1, 2, 0, None]


def test_two_videos_are_for_two_drivers() -> None:
    sharding = sharding_of([1.0, 1.0])
    assert [sharding.take(0), sharding.take(0), sharding.take(1)] == [0, None, 1]


def test_no_driver_holds_more_than_its_bound() -> None:
    sharding = sharding_of([1.0] * 9)
    assert [sharding.take(0) for _ in range(3)] == [0, 1, None]
    sharding.finish(0, 0)
    assert sharding.take(0) == 2


def test_what_a_dead_driver_had_goes_to_others() -> None:
    sharding = sharding_of([3.0, 2.0, 1.0])
    assert [sharding.take(0), sharding.take(1)] == [0, 1]
    assert sharding.lose(0) == []
    assert sharding.take(1) == 0


def test_a_video_lost_twice_has_a_driver_to_itself_and_the_others_go_first() -> None:
    sharding = sharding_of([9.0, 1.0, 1.0, 1.0], num_drivers=1)
    for _ in range(2):
        assert sharding.take(0) == 0
        assert sharding.lose(0) == []
    assert [sharding.take(0), sharding.take(0)] == [1, 2]
    sharding.finish(0, 1)
    assert sharding.take(0) == 3
    sharding.finish(0, 2)
    assert sharding.take(0) is None
    sharding.finish(0, 3)
    assert sharding.take(0) == 0
    assert sharding.lose(0) == [0]
    assert sharding.is_done


def test_without_drivers_what_waits_is_abandoned() -> None:
    sharding = sharding_of([1.0, 2.0])
    assert sharding.retire(0) == []
    assert sorted(sharding.retire(1)) == [0, 1]
    assert sharding.is_done


@given(
    durations_s=st.lists(st.floats(min_value=0.0, max_value=1e5), max_size=12),
    num_drivers=st.integers(min_value=1, max_value=4),
    max_videos=st.integers(min_value=1, max_value=3),
    max_losses=st.integers(min_value=2, max_value=4),
    data=st.data(),
)
def test_every_video_ends_once_whatever_dies(
    durations_s: list[float], num_drivers: int, max_videos: int, max_losses: int, data: st.DataObject
) -> None:
    sharding = sharding_of(durations_s, num_drivers, max_videos, max_losses)
    ended: Counter[int] = Counter()
    lost: Counter[int] = Counter()
    running: dict[int, set[int]] = {driver: set() for driver in range(num_drivers)}
    while not sharding.is_done:
        took = False
        for driver in data.draw(st.permutations(range(num_drivers))):
            while (index := sharding.take(driver)) is not None:
                took = True
                running[driver].add(index)
                assert sum(index in videos for videos in running.values()) == 1
        assert took or any(running.values())  # else it would wait for ever
        driver = data.draw(st.sampled_from([driver for driver in running if running[driver]]))
        if data.draw(st.booleans()):
            lost.update(running[driver])
            ended.update(sharding.lose(driver))
            running[driver].clear()
        else:
            index = data.draw(st.sampled_from(sorted(running[driver])))
            sharding.finish(driver, index)
            running[driver].remove(index)
            ended[index] += 1
    assert ended == Counter(range(len(durations_s)))
    assert all(number <= max_losses + 1 for number in lost.values())


def test_what_travels_to_drivers_and_back_survives_pickling() -> None:
    config = load_config("offline")
    job = Job(source=Path("a.mp4"), targets=("pt",), source_language=None, audio_track=None, out=Path("out"))
    outcome = ItemOutcome(job=job, manifest=None, error="why")
    assert pickle.loads(pickle.dumps((config, job, outcome))) == (config, job, outcome)


def test_a_higher_priority_is_taken_before_longer_videos() -> None:
    sharding = Sharding([10.0, 60.0, 5.0], 1, 3, 3, priorities=[0, 0, 1])
    assert [sharding.take(0) for _ in range(3)] == [2, 1, 0]


def test_videos_of_a_driver_without_room_blame_nobody_and_run_alone() -> None:
    sharding = sharding_of([3.0, 2.0, 1.0], 2, 2, 2)
    assert [sharding.take(0), sharding.take(1), sharding.take(0)] == [0, 1, 2]
    for _ in range(5):
        assert sharding.has_others(1)
        sharding.requeue(0)
        assert not sharding.has_others(1)
        assert sharding.take(0) == 0
        assert sharding.take(0) is None
        sharding.requeue(0)
        assert sharding.take(0) == 0
    sharding.finish(0, 0)
    assert sharding.take(0) == 2


class CountedLength(float):
    """A length that counts how often it is compared."""

    num_compared = 0

    def __lt__(self, other: object) -> bool:
        CountedLength.num_compared += 1
        return float(self) < float(other)  # type: ignore[arg-type]

    def __neg__(self) -> CountedLength:
        return CountedLength(-float(self))


@pytest.mark.parametrize("num_drivers", [1, 300])
def test_a_video_costs_as_many_steps_among_ten_thousand_as_among_a_hundred(num_drivers: int) -> None:
    """But for the logarithm of a heap: a list would be moved, or searched, for each."""

    def steps(num_videos: int) -> float:
        CountedLength.num_compared = 0
        lengths = [CountedLength(number * 7919 % num_videos) for number in range(num_videos)]
        sharding = Sharding(lengths, num_drivers, 1, 3)
        for number in range(num_videos - num_drivers):
            taken = sharding.take(number % num_drivers)
            assert taken is not None
            sharding.finish(number % num_drivers, taken)
        return CountedLength.num_compared / num_videos

    few, many = 400, 12_800
    assert steps(many) <= steps(few) + 4 * math.log2(many / few)


def test_videos_are_added_while_others_are_dubbed() -> None:
    sharding = sharding_of([2.0], num_drivers=1)
    assert sharding.take(0) == 0
    assert not sharding.has_waiting
    sharding.add(1, 1.0)
    sharding.add(2, 3.0)
    assert [sharding.take(0), sharding.take(0)] == [2, None]
