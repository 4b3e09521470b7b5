from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import host as host_module
from actors.device import driver
from actors.engine import Engine, EngineConfig
from actors.errors import ConfigError, DeviceLostError, DubbingError, EngineLoadError, EngineMemoryError, ItemError
from actors.host import ActorHost, EngineHost
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


def hosted(engine: Engine[Any, Any], num_gpus: float = 0.0) -> EngineHost:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_module, "make_engine", lambda task, name, options: engine)
        return EngineHost("translation", "doubling", {}, num_gpus)


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


@pytest.mark.parametrize("text", ["CUDA error: device-side assert triggered", "CUDA failed with error unknown error"])
def test_a_device_that_every_later_call_fails_on_is_told_at_once(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a kernel has failed, no item is at fault that only comes after it."""
    monkeypatch.setattr(driver, "is_context_broken", lambda: "unknown" in text)
    engine = Doubling(rejecting(2, error=RuntimeError(text)))
    with pytest.raises(DeviceLostError, match="its device must work; RuntimeError: CUDA"):
        hosted(engine).run([1, 2, 3])
    assert engine.calls == [[1, 2, 3]]


def test_an_error_left_by_full_memory_is_not_taken_for_one_of_an_item() -> None:
    """16 items that fit 8 at a time: CTranslate2 raises the error of a failed allocation once more."""
    stale = RuntimeError("parallel_for failed: cudaErrorInvalidDevice: invalid device ordinal")
    engine = Doubling()

    def run(batch: Sequence[int]) -> list[Any]:
        if len(batch) > 8:
            raise RuntimeError("CUDA failed with error out of memory")
        if len(engine.calls) == 2:
            raise stale
        return [2 * item for item in batch]

    engine._run = run
    report = hosted(engine).run(range(16))
    assert report.results == [2 * item for item in range(16)]
    assert [len(call) for call in engine.calls] == [16, 8, 8, 8]
    assert report.exhausted_cost == 16.0


def test_an_engine_without_use_for_a_gpu_is_given_none() -> None:
    class OnCpus(Doubling):
        runs_on_gpu: ClassVar[bool] = False

    hosted(OnCpus()).load()
    with pytest.raises(EngineLoadError, match=r"runs on CPUs only, but its pool reserves 0\.5 of a GPU"):
        hosted(OnCpus(), num_gpus=0.5).load()


def test_a_share_too_small_for_the_model_is_told() -> None:
    full = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with pytest.raises(EngineLoadError, match=r"reserves 0.05 of a GPU: raise num_gpus"):
        hosted(Doubling(load=full), num_gpus=0.05).load()


def test_a_device_lost_while_loading_costs_the_process() -> None:
    with pytest.raises(DeviceLostError, match="unspecified launch failure"):
        hosted(Doubling(load=RuntimeError("CUDA failed with error unspecified launch failure"))).load()


@pytest.mark.parametrize(("num_gpus", "visible"), [(0.0, ""), (0.4, "3")])
def test_a_process_without_a_share_sees_no_gpu(num_gpus: float, visible: str) -> None:
    """In a process of its own, whose variables it sets."""
    code = (
        "import os, sys; from actors.host import ActorHost\n"
        f"ActorHost('speech', 'kokoro', {{}}, num_gpus={num_gpus})\n"
        "print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ.get('PYTORCH_ALLOC_CONF'), 'torch' in sys.modules)"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "3"}
    environment.pop("PYTORCH_ALLOC_CONF", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    config = "expandable_segments:True" if num_gpus else "None"
    assert done.stdout.rstrip("\n") == f"{visible} {config} False"


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


# --- preparation


class Prepared(Doubling):
    """Halves what it is asked for before it doubles; odd numbers cannot be prepared."""

    def __init__(self, run: Callable[[Sequence[int]], list[Any]] | None = None) -> None:
        super().__init__(run)
        self.prepared: list[list[int]] = []

    def prepare(self, batch: Sequence[int]) -> Sequence[int]:
        self.prepared.append(list(batch))
        if any(item % 2 for item in batch):
            raise ItemError("odd")
        return [item // 2 for item in batch]


def test_the_engine_runs_what_it_has_prepared() -> None:
    engine = Prepared()
    assert hosted(engine).run([2, 6, 4]).results == [2, 6, 4]
    assert engine.calls == [[1, 3, 2]]


def test_what_cannot_be_prepared_fails_alone_and_does_not_run() -> None:
    engine = Prepared()
    results = hosted(engine).run([2, 3, 4]).results
    assert (results[0], results[2]) == (2, 4)
    assert isinstance(results[1], ItemFailure)
    assert "odd" in results[1].error.message
    assert engine.calls == [[1, 2]]
    assert isinstance(hosted(engine).run([1]).results[0], ItemFailure)


def test_a_batch_that_is_halved_is_not_prepared_again() -> None:
    def run(batch: Sequence[int]) -> list[int]:
        if len(batch) > 1:
            raise MemoryError("40 GB")
        return [2 * item for item in batch]

    engine = Prepared(run)
    report = hosted(engine).run([2, 6, 4, 8])
    assert report.results == [2, 6, 4, 8]
    assert report.exhausted_cost == 2.0
    assert len(engine.prepared) == 1


def test_a_batch_is_prepared_while_the_one_before_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    running, prepared, order = threading.Event(), threading.Event(), list[int]()

    def run(batch: Sequence[int]) -> list[int]:
        order.extend(batch)
        running.set()
        assert prepared.wait(60)
        return [2 * item for item in batch]

    class Overlapping(Prepared):
        def prepare(self, batch: Sequence[int]) -> Sequence[int]:
            if batch == [6]:
                assert running.wait(60)
                prepared.set()
            return super().prepare(batch)

    monkeypatch.setattr(host_module, "make_engine", lambda task, name, options: Overlapping(run))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the host sets it
    host = ActorHost("translation", "doubling", {})
    with ThreadPoolExecutor(2) as calls:
        first = calls.submit(host.run, [2])
        assert running.wait(60)
        second = calls.submit(host.run, [6])
        assert (first.result(60).results, second.result(60).results) == ([2], [6])
    assert order == [1, 3]
    host.close()
