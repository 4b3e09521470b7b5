"""What every engine of every task keeps, through the host that runs it.

Engines are found as the program finds them. One whose packages or weights are not here is skipped
with the reason, except those of the base install.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from actors.engine import Engine, engine_names, make_engine
from actors.errors import ConfigError, EngineLoadError, ItemError
from actors.host import EngineHost
from actors.types import TASKS, ItemFailure, Task
from tests.engines.engine_samples import UNSPOKEN, EngineSamples, assert_same, check_result, make_samples
from tests.tiny import options_for

ROOT = Path(__file__).parents[2]
ENGINES: list[tuple[Task, str]] = [(task, name) for task in TASKS for name in engine_names(task)]
BASE_INSTALL = {
    ("transcription", "faster_whisper"),
    ("translation", "bergamot"),
    ("embedding", "use_multilingual"),
    ("speech", "hibari"),
    ("speech", "kokoro"),
    ("speech", "piper"),
    ("transcription", "openai_audio"),
    ("translation", "openai_chat"),
    ("speech", "openai_speech"),
}
"""Their weights come with the package, or a stand-in is their server: not loading is a fault, not a lack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    engine: Engine[Any, Any]
    """Never loaded."""
    host: EngineHost
    """Loaded."""
    samples: EngineSamples
    expected: list[Any]
    """Results of the good samples, run as one batch."""

    def run(self, *requests: Any) -> list[Any]:
        results = self.host.run(requests).results
        assert len(results) == len(requests)
        return results


@pytest.fixture(scope="module", params=ENGINES, ids="/".join)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    task, name = request.param
    options = options_for(task, name, tmp_path_factory.getbasetemp() / "tiny")
    try:
        engine = make_engine(task, name, options)
        if task == "speech":  # as a driver settles before replicas start which voices the machine has
            options = {**options, **engine.settle("pt")}
        engine, host = make_engine(task, name, options), EngineHost(task, name, options)
        host.load()
    except (ConfigError, EngineLoadError) as error:
        if request.param in BASE_INSTALL:
            raise
        pytest.skip(error.message)
    samples = make_samples(task, engine, host)
    yield Subject(engine=engine, host=host, samples=samples, expected=host.run(samples.good).results)
    host.close()


def test_good_requests_have_sound_results(subject: Subject) -> None:
    for request, result in zip(subject.samples.good, subject.expected, strict=True):
        check_result(request, result)


def test_results_are_in_the_order_of_the_requests(subject: Subject) -> None:
    for result, expected in zip(subject.run(*subject.samples.good[::-1]), subject.expected[::-1], strict=True):
        assert_same(result, expected)


def test_a_batch_gives_what_its_items_give_alone(subject: Subject) -> None:
    for request, expected in zip(subject.samples.good, subject.expected, strict=True):
        (result,) = subject.run(request)
        assert_same(result, expected)


def test_an_empty_batch_is_no_work(subject: Subject) -> None:
    assert subject.run() == []


def test_a_bad_item_fails_alone(subject: Subject) -> None:
    first, second = subject.samples.good[:2]
    before, *failures, after = subject.run(first, *subject.samples.bad.values(), second)
    for name, failure in zip(subject.samples.bad, failures, strict=True):
        assert isinstance(failure, ItemFailure), f"{name}: {failure!r}"
        assert type(failure.error) is ItemError
    assert_same(before, subject.expected[0])
    assert_same(after, subject.expected[1])


def test_what_is_no_request_at_all_fails_alone(subject: Subject) -> None:
    failure, good = subject.run(object(), subject.samples.good[0])
    assert isinstance(failure, ItemFailure)
    assert_same(good, subject.expected[0])


def test_odd_items_succeed_or_fail_alone(subject: Subject) -> None:
    good = subject.samples.good[0]
    *results, last = subject.run(*subject.samples.odd.values(), good)
    for (name, request), result in zip(subject.samples.odd.items(), results, strict=True):
        if isinstance(result, ItemFailure):
            assert result.error.message, name
        else:
            check_result(request, result)
    assert_same(last, subject.expected[0])


def test_supported_languages_are_said_before_loading(subject: Subject) -> None:
    assert all(subject.engine.supports(*languages) for languages in subject.samples.languages)
    assert subject.engine.describe_languages()


def test_an_unsupported_language_is_refused_and_fails_its_item(subject: Subject) -> None:
    num_languages = len(subject.samples.languages[0])
    if not num_languages:
        pytest.skip("a voice has no language")
    assert not subject.engine.supports(*[UNSPOKEN] * num_languages)
    for request in subject.samples.unsupported:
        failure, good = subject.run(request, subject.samples.good[0])
        assert isinstance(failure, ItemFailure)
        assert UNSPOKEN in failure.error.message
        assert_same(good, subject.expected[0])


def test_requests_are_left_as_they_were(subject: Subject) -> None:
    before = pickle.dumps(subject.samples.good)
    subject.run(*subject.samples.good)
    assert pickle.dumps(subject.samples.good) == before


def test_results_and_failures_travel(subject: Subject) -> None:
    good, bad = subject.samples.good[0], next(iter(subject.samples.bad.values()))
    result, failure = pickle.loads(pickle.dumps(subject.run(good, bad)))
    assert_same(result, subject.expected[0])
    assert isinstance(failure.error, ItemError)


def test_cost_is_a_positive_number_before_loading(subject: Subject) -> None:
    for request in subject.samples.good:
        cost = subject.engine.cost(request)
        assert math.isfinite(cost)
        assert cost > 0.0


def test_closing_twice_or_before_loading_is_harmless(subject: Subject) -> None:
    subject.engine.close()
    subject.engine.close()


def test_a_closed_engine_may_be_loaded_again(subject: Subject) -> None:
    subject.host.close()
    subject.host.load()
    (result,) = subject.run(subject.samples.good[0])
    assert_same(result, subject.expected[0])


MODEL_LIBRARIES = {
    "TTS", "ctranslate2", "demucs", "faster_whisper", "onnx", "onnxruntime", "pyannote", "resemblyzer",
    "sentence_transformers", "tensorflow", "tokenizers", "torch", "torchaudio", "transformers",
}  # fmt: skip

ASK = """
import json, sys
from actors.engine import make_engine
from actors.errors import ConfigError
task, name = sys.argv[1:]
try:
    engine = make_engine(task, name, {})
    engine.supports(*["en", "pt"][: 2 if task == "translation" else 1])
    engine.describe_languages()
    needs = list(engine.packages)
except ConfigError:
    needs = []  # an engine that cannot be made without options was still imported
print(json.dumps([needs, sorted({module.partition(".")[0] for module in sys.modules})]))
"""


@pytest.mark.parametrize(("task", "name"), ENGINES, ids=lambda part: part)
def test_asking_an_engine_imports_no_model_library(task: Task, name: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    asked = subprocess.run(
        [sys.executable, "-c", ASK, task, name], env=env, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    needs, imported = json.loads(asked.stdout)
    assert not (MODEL_LIBRARIES | set(needs)) & set(imported)
