from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import device
from actors import host as host_module
from actors.engine import Engine, EngineConfig
from actors.errors import ConfigError, DeviceLostError, DubbingError, EngineLoadError, EngineMemoryError, ItemError
from actors.host import EngineHost
from actors.types import ItemFailure


class Doubling(Engine[int, int]):
    """Doubles; what it does with a batch may be replaced."""

    calls: list[list[int]]

    def __init__(self, run: Callable[[Sequence[int]], list[Any]] | None = None, load: Exception | None = None) -> None:
        super().__init__(EngineConfig())
        self.calls = []
        self._run = run
        self._load = load

    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "all"

    def load(self) -> None:
        if self._load is not None:
            raise self._load

    def run(self, batch: Sequence[int]) -> list[int | ItemFailure]:
        self.calls.append(list(batch))
        return self._run(batch) if self._run else [2 * item for item in batch]


def hosted(engine: Engine[Any, Any]) -> EngineHost:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_module, "make_engine", lambda task, name, options: engine)
        return EngineHost("translation", "doubling", {})


def rejecting(*bad: int, error: Exception | None = None) -> Callable[[Sequence[int]], list[int]]:
    """A library that refuses a whole call for one item."""

    def run(batch: Sequence[int]) -> list[int]:
        if any(item in bad for item in batch):
            raise error or ValueError("shape mismatch")
        return [2 * item for item in batch]

    return run


def test_results_come_in_order() -> None:
    report = hosted(Doubling()).run([3, 1, 2])
    assert report.results == [6, 2, 4]
    assert report.run_s >= 0.0


def test_an_empty_batch_has_no_results() -> None:
    assert hosted(Doubling()).run([]).results == []


def test_one_rejected_item_costs_only_itself() -> None:
    results = hosted(Doubling(rejecting(2))).run([1, 2, 3]).results
    assert results[0] == 2
    assert results[2] == 6
    assert isinstance(results[1], ItemFailure)
    assert "translation/doubling: ValueError: shape mismatch" in results[1].error.message


@given(st.lists(st.integers(0, 9), max_size=12), st.sets(st.integers(0, 9)))
def test_one_out_per_one_in_whatever_is_rejected(batch: list[int], bad: set[int]) -> None:
    results = hosted(Doubling(rejecting(*bad))).run(batch).results
    assert len(results) == len(batch)
    for item, result in zip(batch, results, strict=True):
        assert isinstance(result, ItemFailure) if item in bad else result == 2 * item


@pytest.mark.parametrize("wrong", [lambda batch: [1], lambda batch: [*batch, 0], lambda batch: []])
def test_a_batch_of_wrong_length_is_never_passed_on(wrong: Callable[[Sequence[int]], list[int]]) -> None:
    engine = Doubling(lambda batch: wrong(batch) if len(batch) > 1 else [2 * batch[0]])
    assert hosted(engine).run([1, 2, 3]).results == [2, 4, 6]
    assert engine.calls == [[1, 2, 3], [1], [2], [3]]


def test_an_engine_that_always_loses_results_fails_every_item() -> None:
    results = hosted(Doubling(lambda batch: [])).run([1, 2]).results
    assert [type(result) for result in results] == [ItemFailure, ItemFailure]
    assert "must return 1 results, returned 0" in results[0].error.message


@pytest.mark.parametrize("error", [MemoryError(), EngineMemoryError("the device is full")])
def test_what_is_too_large_for_memory_runs_in_halves_and_says_so(error: Exception) -> None:
    engine = Doubling()

    def run(batch: Sequence[int]) -> list[Any]:
        if len(batch) > 2:
            raise error
        return [2 * item for item in batch]

    engine._run = run
    report = hosted(engine).run([1, 2, 3, 4, 5, 6])
    assert report.results == [2, 4, 6, 8, 10, 12]
    assert report.exhausted_cost == 3.0
    assert [len(call) for call in engine.calls] == [6, 3, 1, 2, 3, 1, 2]
    assert hosted(engine).run([1, 2]).exhausted_cost is None


def test_an_item_too_large_for_memory_alone_fails_alone() -> None:
    report = hosted(Doubling(rejecting(2, error=MemoryError("40 GB")))).run([1, 2, 3, 4])
    assert [getattr(result, "error", result) for result in report.results[2:]] == [6, 8]
    assert "MemoryError: 40 GB" in report.results[1].error.message
    assert report.exhausted_cost is None


def test_what_is_too_large_beside_an_item_too_large_alone_is_told() -> None:
    def run(batch: Sequence[int]) -> list[Any]:
        if 2 in batch or len(batch) > 3:
            raise MemoryError
        return [2 * item for item in batch]

    assert hosted(Doubling(run)).run([2, 1, 1, 1, 1, 1, 1, 1]).exhausted_cost == 4.0


def test_a_device_that_every_later_call_fails_on_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch does once a kernel has failed: no item is at fault that only comes after it."""
    error = RuntimeError("CUDA error: device-side assert triggered")

    def synchronize() -> None:
        raise error

    cuda = SimpleNamespace(is_initialized=lambda: True, synchronize=synchronize)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, OutOfMemoryError=MemoryError))
    engine = Doubling(rejecting(2, error=error))
    with pytest.raises(DeviceLostError, match="its device must work; RuntimeError: CUDA error"):
        hosted(engine).run([1, 2, 3])
    assert engine.calls == [[1, 2, 3]]

    cuda.synchronize = lambda: None
    assert [type(result) for result in hosted(engine).run([1, 2, 3]).results] == [int, ItemFailure, int]


def test_ctranslate2s_errors_are_told_by_their_text() -> None:
    errors = [
        RuntimeError("CUDA failed with error an illegal memory access was encountered"),
        RuntimeError("CUDA failed with error out of memory"),
        RuntimeError("no such token"),
    ]
    assert [device.is_device_lost(error) for error in errors] == [True, False, False]


def test_an_item_error_is_kept_as_it_is() -> None:
    error = ItemError("text must not be empty")
    (result,) = hosted(Doubling(rejecting(1, error=error))).run([1]).results
    assert result.error is error


def test_failures_the_engine_reports_are_passed_through() -> None:
    failure = ItemFailure(error=ItemError("too long"))
    engine = Doubling(lambda batch: [failure if item == 2 else item for item in batch])
    assert hosted(engine).run([1, 2]).results == [1, failure]
    assert engine.calls == [[1, 2]]


def test_a_report_travels() -> None:
    report = hosted(Doubling(rejecting(1))).run([0, 1])
    back = pickle.loads(pickle.dumps(report))
    assert back.results[0] == 0
    assert back.results[1].error.message == report.results[1].error.message


def test_a_librarys_load_failure_becomes_an_engine_load_error_with_its_cause() -> None:
    cause = RuntimeError("CUDA driver too old")
    with pytest.raises(EngineLoadError, match="CUDA driver too old") as caught:
        hosted(Doubling(load=cause)).load()
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize("error", [EngineLoadError("no weights"), ConfigError("no such voice")])
def test_an_error_of_ours_keeps_its_words(error: DubbingError) -> None:
    with pytest.raises(EngineLoadError) as caught:
        hosted(Doubling(load=error)).load()
    assert caught.value.message == error.message


def test_packages_are_checked_before_anything_is_loaded() -> None:
    class Wanting(Doubling):
        packages: ClassVar[dict[str, str]] = {"no_such_module": "no-such-package"}

    with pytest.raises(EngineLoadError, match="pip install no-such-package"):
        hosted(Wanting(load=AssertionError("loaded all the same"))).load()


def test_load_returns_seconds() -> None:
    assert hosted(Doubling()).load() >= 0.0
