"""Keys of stored results: whatever a result depends on changes them, and nothing else does."""

from __future__ import annotations

import copy
import dataclasses
import importlib.metadata
import itertools
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import hub
from actors.engine import make_engine
from actors.types import (
    ASR_HZ,
    EmbedRequest,
    Plan,
    PlanChunk,
    PlanRequest,
    Reference,
    SynthesiseRequest,
    Task,
    TranscribeRequest,
    TranslateRequest,
)
from cluster.storage.keys import Key, Keyring

IDENTITY = {"engine": "e", "revision": 1, "packages": {"p": "1"}, "weights": "w", "options": {"a": 1, "b": [1, 2]}}
REQUEST = TranslateRequest(text="hello", source_language="en", target_language="pt")

PLAN = Plan(
    engine="kokoro",
    voice="jm_kumo",
    language="pt",
    text="olá",
    chunks=(PlanChunk(tokens=np.arange(3), frames=np.ones(3, np.float32)),),
    frame_samples=600,
    sample_hz=24_000,
    natural_s=1.0,
    shortest_s=0.8,
    longest_s=1.5,
    exact=True,
    reference=Reference(samples=np.zeros(10, np.float32), sample_hz=16_000, key="r"),
)
REQUESTS = (
    TranscribeRequest(samples=np.zeros(ASR_HZ, np.float32), language=None),
    REQUEST,
    EmbedRequest(text="hello"),
    PlanRequest(text="olá", language="pt", reference=PLAN.reference),
    SynthesiseRequest(plan=PLAN, duration_s=1.0),
)


def key(request: object = REQUEST, task: Task = "translation", **changes: Any) -> Key:
    return Keyring(task, {**IDENTITY, **changes}).key(request)


def test_equal_requests_have_one_key() -> None:
    for request in REQUESTS:
        assert key(copy.deepcopy(request)) == key(request)


def test_keys_are_those_of_the_release_before() -> None:
    """The first eight digits of the keys of ``REQUESTS``, as release 0.1 made them."""
    assert [key(request).digest[:8] for request in REQUESTS] == [
        "fa0cf81f",
        "0bf1bb0b",
        "6c9fa7a5",
        "b8e21bc2",
        "54d1161e",
    ]


def test_requests_of_different_kinds_differ() -> None:
    assert len({key(request) for request in REQUESTS}) == len(REQUESTS)


@pytest.mark.parametrize(
    "change",
    [
        {"engine": "f"},
        {"revision": 2},
        {"packages": {"p": "2"}},
        {"weights": "v"},
        {"options": {"a": 2, "b": [1, 2]}},
        {"options": {"a": 1, "b": [2, 1]}},
        {"options": {"a": 1}},
        {"task": "speech"},
    ],
    ids=str,
)
def test_an_engine_that_differs_has_other_keys(change: dict[str, Any]) -> None:
    assert key(**change) != key()


def test_the_order_of_options_does_not_matter() -> None:
    assert key(options={"b": [1, 2], "a": 1}) == key()


def changed(value: Any) -> Any:
    """Another of the same type."""
    if isinstance(value, np.ndarray):
        other = value.copy()
        other[-1] += 1
        return other
    if isinstance(value, Reference):
        return dataclasses.replace(value, key=f"{value.key}2")
    if isinstance(value, tuple):
        return (*value[:-1], changed(value[-1])) if value else (1,)
    if dataclasses.is_dataclass(value):
        last = dataclasses.fields(value)[-1].name
        return dataclasses.replace(value, **{last: changed(getattr(value, last))})  # type: ignore[type-var]
    if value is None:
        return "x"
    return not value if isinstance(value, bool) else value + type(value)("x" if isinstance(value, str) else 1)


FIELDS = [(request, field.name) for request in (*REQUESTS, PLAN) for field in dataclasses.fields(request)]


@pytest.mark.parametrize(("request_", "field"), FIELDS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_field_of_a_request_matters(request_: Any, field: str) -> None:
    other = dataclasses.replace(request_, **{field: changed(getattr(request_, field))})
    if isinstance(request_, Plan):
        request_, other = (SynthesiseRequest(plan=plan, duration_s=1.0) for plan in (request_, other))
    assert key(other) != key(request_)


@given(st.text(), st.text())
def test_texts_differ_as_their_keys_do(left: str, right: str) -> None:
    keys = []
    for text in (left, right):
        try:
            keys.append(key(EmbedRequest(text=text)))
        except ValueError:  # a lone surrogate is no text
            return
    assert (keys[0] == keys[1]) == (left == right)


@given(st.integers(0, 2**31), st.sampled_from(["<f4", ">f4"]))
def test_the_same_samples_have_one_key(seed: int, dtype: str) -> None:
    """However they lie in memory."""
    samples = np.random.default_rng(seed).standard_normal(64, np.float32)
    strided = np.repeat(samples, 2).astype(dtype)[::2]
    keys = {key(TranscribeRequest(samples=each, language="en")) for each in (samples, strided)}
    assert len(keys) == 1


# --- identities of engines


ENGINES: list[tuple[Task, str]] = [
    ("transcription", "faster_whisper"),
    ("translation", "bergamot"),
    ("translation", "nllb_ct2"),
    ("translation", "nllb"),
    ("embedding", "use_multilingual"),
    ("embedding", "sbert"),
    ("speech", "kokoro"),
    ("speech", "hibari"),
    ("speech", "piper"),
    ("speech", "coqui"),
]


def identity(task: Task, name: str, **options: Any) -> Any:
    return make_engine(task, name, options).identity()


@pytest.mark.parametrize(("task", "name"), ENGINES)
def test_an_engine_is_known_without_being_loaded(task: Task, name: str) -> None:
    found = identity(task, name)
    assert found["engine"] == f"actors.{task}.{name}"
    assert found["weights"]
    assert any(found["packages"].values())
    assert found == identity(task, name)


@pytest.mark.parametrize(("task", "name"), ENGINES)
def test_threads_and_device_do_not_matter(task: Task, name: str) -> None:
    assert identity(task, name, threads=7, device="cpu") == identity(task, name)


@pytest.mark.parametrize(
    ("task", "name", "option", "value"),
    [
        ("transcription", "faster_whisper", "batched", "always"),
        ("transcription", "faster_whisper", "max_batch", 3),
        ("translation", "nllb_ct2", "max_batch_tokens", 64),
        ("embedding", "sbert", "max_batch_tokens", 64),
    ],
)
def test_the_size_of_batches_does_not_matter(task: Task, name: str, option: str, value: Any) -> None:
    assert identity(task, name, **{option: value}) == identity(task, name)


@pytest.mark.parametrize(
    ("task", "name", "option", "value"),
    [
        ("transcription", "faster_whisper", "beam_size", 1),
        ("transcription", "faster_whisper", "compute_type", "float32"),
        ("transcription", "faster_whisper", "initial_prompt", "Dr. Who"),
        ("transcription", "faster_whisper", "model", "Systran/faster-whisper-large-v3"),
        ("translation", "nllb_ct2", "beam_size", 2),
        ("translation", "nllb_ct2", "glossary", {"pt": {"harbour": "cais"}}),
        ("translation", "nllb_ct2", "model", "facebook/nllb-200-3.3B"),
        ("embedding", "sbert", "dtype", "float16"),
        ("speech", "kokoro", "voice", "jf_nezumi"),
        ("speech", "piper", "noise_scale", 0.1),
        ("speech", "coqui", "natural_scale", 1.2),
    ],
)
def test_options_that_change_results_matter(task: Task, name: str, option: str, value: Any) -> None:
    assert identity(task, name, **{option: value}) != identity(task, name)


def test_a_newer_model_library_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity("translation", "bergamot")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99")
    assert identity("translation", "bergamot") != before


def test_a_revision_of_the_engine_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine("translation", "bergamot", {})
    before = engine.identity()
    monkeypatch.setattr(type(engine), "revision", type(engine).revision + 1)
    assert engine.identity() != before


def test_an_engine_that_does_not_know_its_weights_has_no_identity() -> None:
    assert make_engine("translation", "tests.standins.echo", {}).identity() is None


def test_a_model_folder_counts_by_its_content(tmp_path: Path) -> None:
    number = itertools.count()

    def folder(content: str) -> str:
        path = tmp_path / f"model{next(number)}"
        path.mkdir()
        (path / "model.bin").write_text(content)
        return str(path)

    same, again, other = (hub.identity(folder(content)) for content in ("a", "a", "b"))
    assert same == again != other
    assert hub.identity(str(tmp_path / "missing")) is None


@pytest.mark.parametrize("kind", ["pinned", "commit"])
def test_a_hub_model_counts_by_its_commit(kind: Literal["pinned", "commit"]) -> None:
    pinned = next(model.ref for model in hub.known_models())
    repo = pinned.partition("@")[0]
    assert hub.identity(repo if kind == "pinned" else pinned) == pinned


def test_a_branch_that_is_not_here_is_not_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert hub.identity("someone/something@main") is None


def test_a_salt_changes_every_key_and_none_changes_none() -> None:
    ring, request = Keyring("embedding", {}), EmbedRequest(text="a")
    assert ring.with_salt("").key(request) == ring.key(request)
    assert ring.with_salt("one").key(request) == ring.with_salt("one").key(request)
    assert len({each.key(request) for each in (ring, ring.with_salt("one"), ring.with_salt("two"))}) == 3
