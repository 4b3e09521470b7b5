"""What replicas and a driver need together, and whether nodes hold it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config.schema import PoolConfig
from cluster.pools.needs import DRIVER, Need, Node, describe, explain, fits, largest_first, worst_of


def cpu_needs(*amounts: float) -> list[Need]:
    return [Need(name=f"speech/voice{index}", cpus=amount) for index, amount in enumerate(amounts)]


def gpu_needs(*shares: float) -> list[Need]:
    return [Need(name=f"speech/voice{index}", gpus=share) for index, share in enumerate(shares)]


@pytest.mark.parametrize(
    ("needed", "nodes", "expected"),
    [
        ((1, 1, 0.5, 0.5, 1), (2, 2), True),  # small ones first would leave no whole CPU
        ((0.5, 0.5, 1, 1, 1), (2, 2), True),
        ((1, 1, 0.5, 0.5, 1.5), (2, 2), False),
        ((1.5, 1.5, 1.5), (2.25, 2.25), False),  # the sum would do
        ((0.7, 0.7, 0.6), (1, 1), False),
        ((3,), (2, 2, 2), False),
        ((), (), True),
        ((0.1,) * 10, (1,), True),
    ],
)
def test_cpus_are_not_split_between_nodes(needed: tuple[float, ...], nodes: tuple[float, ...], expected: bool) -> None:
    assert fits(cpu_needs(*needed), [Node(cpus=cpus) for cpus in nodes]) is expected


@pytest.mark.parametrize(
    ("shares", "cards", "expected"),
    [
        ((0.5, 0.5, 0.75), (1.0, 1.0), True),
        ((0.4, 0.4, 0.6, 0.6), (1.0, 1.0), True),
        ((0.75, 0.75, 0.5), (1.0, 1.0), False),  # the sum would do
        ((1, 0.5), (1.0, 0.5), True),
        ((2,), (1.0, 0.9), False),
        ((2,), (1.0, 1.0), True),
    ],
)
def test_shares_are_not_split_between_cards(
    shares: tuple[float, ...], cards: tuple[float, ...], expected: bool
) -> None:
    assert fits(gpu_needs(*shares), [Node(cards=cards)]) is expected


@pytest.mark.parametrize(
    ("wanted", "value", "expected"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("!a", "b", True),
        ("!a", "a", False),
        ("in(a, b)", "b", True),
        ("in(a,b)", "c", False),
        ("!in(a,b)", "c", True),
        ("!in(a,b)", "a", False),
    ],
)
def test_labels_are_matched_as_ray_matches_them(wanted: str, value: str, expected: bool) -> None:
    need = Need.of("speech/x", PoolConfig(node_labels={"kind": wanted}))
    assert fits([need], [Node(cpus=2, labels=(("kind", value), ("zone", "x")))]) is expected


def test_a_need_is_described_in_words() -> None:
    pool = PoolConfig(num_gpus=0.5, accelerator_type="A100", resources={"disk": 2}, node_labels={"zone": "a"})
    assert describe(Need.of("speech/x", pool)) == "1 CPU, 0.5 GPU of type A100, 2 disk, label zone=a"


def test_custom_resources_and_types_of_gpus_count() -> None:
    need = Need.of("speech/x", PoolConfig(num_gpus=0.5, accelerator_type="H100", resources={"moon": 2}))
    node = Node(cpus=4, cards=(1.0,), resources=(("accelerator_type:H100", 1.0), ("moon", 2.0)))
    assert fits([need], [node])
    assert not fits([need, need], [node])
    assert not fits([need], [Node(cpus=4, cards=(1.0,), resources=(("accelerator_type:T4", 1.0), ("moon", 2.0)))])


@given(st.lists(st.sampled_from([0.25, 0.5, 0.75, 1.0]), max_size=6), st.lists(st.sampled_from([1.0, 2.0]), max_size=3))
def test_what_fits_needs_no_more_than_there_is(needed: list[float], nodes: list[float]) -> None:
    is_fitting = fits(cpu_needs(*needed), [Node(cpus=cpus) for cpus in nodes])
    assert not is_fitting or sum(needed) <= sum(nodes)
    # Quarters of whole CPUs, largest first, leave no splinter.
    assert is_fitting or sum(needed) > sum(nodes) or (1.0 in needed or 0.75 in needed)


def test_many_like_nodes_are_tried_once() -> None:
    assert not fits(cpu_needs(*(1.5,) * 12, 3), [Node(cpus=2, resources=((f"node:{n}", 1.0),)) for n in range(60)])


def test_the_largest_come_first() -> None:
    needs = [Need(name="a", cpus=9), Need(name="b", gpus=0.4), Need(name="c", gpus=0.6, cpus=1), Need(name="d", cpus=1)]
    assert [need.name for need in largest_first(needs)] == ["c", "b", "a", "d"]


def test_the_worst_of_several_holds_each() -> None:
    one = [Need(name="translation/a", cpus=1), Need(name="speech/x", cpus=2), Need(name="speech/y", gpus=0.5)]
    other = [Need(name="speech/z", cpus=3, gpus=0.25)]
    worst = worst_of([one, other])
    assert [need.task for need in worst] == ["translation", "speech", "speech"]
    for needs in (one, other):
        left = list(worst)
        for need in largest_first(needs):
            place = next(each for each in left if each.task == need.task and each.holds(need))
            left.remove(place)


def test_the_arithmetic_names_parts_nodes_and_settings() -> None:
    needs = [Need(name=DRIVER, cpus=1), *[Need(name=f"speech/{name}", cpus=1.5) for name in ("x", "y")]]
    text = explain(needs, [Node(cpus=2), Node(cpus=1.5)])
    assert "need 4 CPU (driver 1, speech/x 1.5, speech/y 1.5)" in text
    assert "the nodes have 3.5 CPU (2, 1.5)" in text
    assert "num_cpus or num_gpus of drivers, speech.pool" in text
    alone = explain([*needs, Need(name="transcription/z", cpus=1, gpus=1)], [Node(cpus=2), Node(cpus=1.5)])
    assert "transcription/z needs 1 CPU, 1 GPU on one node" in alone
    assert "0 GPU" in alone
