"""The verdict of the soak: what grows is told from what only swings."""

from __future__ import annotations

import random

import pytest

from bench.bench_soak import Samples, verdicts

MINUTES = 15


def samples(name: str, per_minute: float, warm_up: float = 0.0) -> Samples:
    """Twice a second: a level of 500 million that swings by a tenth, and grows; first it rises fast."""
    chance = random.Random(1)
    at_s = [number / 2 for number in range(MINUTES * 120)]
    level = [5e8 * (1 - warm_up * max(0.0, 1 - time_s / 120)) for time_s in at_s]
    values = [
        base * chance.uniform(0.95, 1.05) + per_minute * time_s / 60 for base, time_s in zip(level, at_s, strict=True)
    ]
    return Samples(at_s=at_s, values={name: values})


@pytest.mark.parametrize(("per_minute", "is_flat"), [(0.0, True), (1e6, True), (1e7, False)])
def test_what_grows_is_found(per_minute: float, is_flat: bool) -> None:
    assert verdicts(samples("memory", per_minute), num_dubs=100)["memory"]["is_flat"] is is_flat


def test_a_warm_up_is_no_growth() -> None:
    assert verdicts(samples("memory", 0.0, warm_up=0.9), num_dubs=100)["memory"]["is_flat"]


def test_a_database_may_grow_by_a_row_a_dub() -> None:
    assert verdicts(samples("database", 1e4), num_dubs=100)["database"]["is_flat"]
    assert not verdicts(samples("database", 1e6), num_dubs=100)["database"]["is_flat"]


def test_a_small_piece_of_the_work_is_warm_up() -> None:
    level = [4e8] * 60 + [9e8] * 60
    found = Samples(at_s=[float(at) for at in range(120)], values={"memory": level})
    assert not verdicts(found, num_dubs=2)["memory"]["is_flat"]
    found.num_small = 60
    assert verdicts(found, num_dubs=2)["memory"]["is_flat"]
