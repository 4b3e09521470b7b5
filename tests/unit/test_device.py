from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import device
from actors.device import HalvingBatch, compute_type, is_out_of_memory, resolve_device
from actors.errors import EngineLoadError, ItemError
from actors.types import ItemFailure

FULL = "CUDA failed with error out of memory"


def test_auto_takes_a_gpu_if_there_is_one() -> None:
    assert resolve_device("auto", 0) == "cpu"
    assert resolve_device("auto", 2) == "cuda"
    assert resolve_device("cpu", 2) == "cpu"
    with pytest.raises(EngineLoadError, match="found none"):
        resolve_device("cuda", 0)


@pytest.mark.parametrize(
    ("where", "supported", "chosen"),
    [
        ("cpu", {"int8", "int8_float32", "float32"}, "int8"),
        ("cpu", {"float32"}, "float32"),
        ("cuda", {"int8", "int8_float16", "float16", "bfloat16", "float32"}, "float16"),
        ("cuda", {"int8", "int8_float32", "float32"}, "int8"),  # compute capability 6.1
        ("cuda", {"float32"}, "float32"),
    ],
)
def test_the_type_follows_what_the_device_can(where: str, supported: set[str], chosen: str) -> None:
    assert compute_type("auto", where, supported) == chosen  # type: ignore[arg-type]


def test_a_type_the_device_cannot_is_refused() -> None:
    assert compute_type("int8_float16", "cuda", {"int8_float16"}) == "int8_float16"
    with pytest.raises(EngineLoadError, match="must be auto or one of float32, int8 on this cpu; found float16"):
        compute_type("float16", "cpu", {"int8", "float32"})


def test_out_of_memory_is_told_from_other_errors() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError(FULL))
    assert is_out_of_memory(RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"))
    assert not is_out_of_memory(RuntimeError("CUDA failed with error invalid argument"))
    assert not is_out_of_memory(ValueError(FULL))


@pytest.fixture(scope="module", autouse=True)
def no_collection() -> Iterator[None]:
    """Collecting garbage takes a tenth of a second each time, and nothing here is on a device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "release_memory", lambda: None)
        yield


class Memory:
    """A device that holds so many tokens, padding included."""

    def __init__(self, num_tokens: int) -> None:
        self.num_tokens = num_tokens
        self.batches: list[list[int]] = []

    def run(self, batch: Sequence[int]) -> list[str]:
        self.batches.append(list(batch))
        if len(batch) * max(batch) > self.num_tokens:
            raise RuntimeError(FULL)
        return [f"ran {item}" for item in batch]


lengths = st.lists(st.integers(1, 60), max_size=50)


@given(lengths, st.integers(1, 500), st.integers(1, 500))
def test_every_item_has_its_outcome_whatever_memory_holds(items: list[int], capacity: int, limit: int) -> None:
    outcomes = HalvingBatch(limit).run(items, items, Memory(capacity).run)
    assert len(outcomes) == len(items)
    for item, outcome in zip(items, outcomes, strict=True):
        if item <= capacity:
            assert outcome == f"ran {item}"
        else:
            assert isinstance(outcome, ItemFailure)
            assert type(outcome.error) is ItemError


@given(lengths, st.integers(1, 500))
def test_batches_stay_under_the_limit_with_their_padding(items: list[int], limit: int) -> None:
    memory = Memory(10**9)
    HalvingBatch(limit).run(items, items, memory.run)
    assert all(len(batch) == 1 or len(batch) * max(batch) <= limit for batch in memory.batches)
    assert sorted(item for batch in memory.batches for item in batch) == sorted(items)


def test_what_did_not_fit_is_never_tried_again() -> None:
    batching, memory = HalvingBatch(64), Memory(20)
    batching.run([4] * 16, [4] * 16, memory.run)
    assert [len(batch) for batch in memory.batches] == [16, 8, 4, 4, 4, 4]
    batching.run([4] * 8, [4] * 8, memory.run)
    assert [len(batch) for batch in memory.batches[6:]] == [4, 4]
    assert batching.max_cost == 16


def test_other_errors_pass() -> None:
    def fail(batch: list[int]) -> list[int]:
        raise RuntimeError("no kernel image is available")

    with pytest.raises(RuntimeError, match="no kernel"):
        HalvingBatch(8).run([1, 2], [1, 2], fail)
