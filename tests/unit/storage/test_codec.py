"""Stored records: every type round-trips to the bit; what is no record is told so, whatever it is."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from actors import types
from actors.errors import ItemError
from actors.types import Candidate, Clip, Embedding, ItemFailure, Plan, Reference, Transcript, Translation
from cluster.storage import codec
from cluster.storage.codec import CodecError

RECORDS = [
    kind
    for kind in vars(types).values()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind is not ItemFailure
]


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@settings(max_examples=20)  # arrays are slow to draw
@given(data=st.data())
def test_every_record_round_trips(kind: type, data: st.DataObject) -> None:
    record = data.draw(st.from_type(kind))
    try:
        encoded = codec.encode(record)
    except CodecError:  # a lone surrogate, a number over 64 bits: nothing an engine gives
        reject()
    decoded = codec.decode(encoded)
    assert same(record, decoded)
    assert codec.encode(decoded) == encoded


def same(left: Any, right: Any) -> bool:
    """Types included; NaN is itself."""
    if isinstance(left, np.ndarray):
        return left.dtype.newbyteorder("=") == right.dtype.newbyteorder("=") and np.array_equal(left, right, True)
    if type(left) is not type(right):
        return False
    if dataclasses.is_dataclass(left):
        return all(same(getattr(left, f.name), getattr(right, f.name)) for f in dataclasses.fields(left))
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right or (left != left and right != right))


def test_results_are_among_the_records() -> None:
    assert {Transcript, Translation, Embedding, Plan, Clip} <= set(RECORDS)


def test_a_number_of_numpy_is_a_number() -> None:
    translation = Translation(candidates=(Candidate(text="olá", score=np.float32(-0.5)),))  # type: ignore[arg-type]
    [candidate] = codec.decode(codec.encode(translation)).candidates
    assert candidate.score == -0.5
    assert type(candidate.score) is float


def test_a_strided_array_is_stored_as_it_reads() -> None:
    clip = Clip(samples=np.arange(10, dtype=np.float32)[::3], sample_hz=8000)
    assert np.array_equal(codec.decode(codec.encode(clip)).samples, clip.samples)


def test_a_decoded_array_cannot_be_written_to() -> None:
    """It may be shared by several who asked."""
    clip = codec.decode(codec.encode(Clip(samples=np.zeros(3, np.float32), sample_hz=8000)))
    with pytest.raises(ValueError, match="read-only"):
        clip.samples[0] = 1.0


@pytest.mark.parametrize(
    "value", [ItemFailure(error=ItemError("bad")), "text", {"a": 1}, object()], ids=lambda value: type(value).__name__
)
def test_what_is_no_record_is_refused(value: object) -> None:
    with pytest.raises(CodecError):
        codec.encode(value)


class Dangerous:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("code was run",)


CLIP = {"samples": msgpack.ExtType(1, msgpack.packb(["<f4", [1], b"1234"])), "sample_hz": 8000}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 40,
        pickle.dumps(Dangerous()),
        msgpack.packb(["ItemFailure", {"error": "bad"}]),
        msgpack.packb(["Unknown", {}]),
        msgpack.packb(["Clip"]),
        msgpack.packb(["Clip", {**CLIP, "more": 1}]),
        msgpack.packb(["Clip", {"sample_hz": 8000}]),
        msgpack.packb(["Clip", {**CLIP, "sample_hz": "8000"}]),
        msgpack.packb(["Clip", {**CLIP, "samples": [0.0]}]),
        msgpack.packb(["Clip", {**CLIP, "samples": msgpack.ExtType(1, msgpack.packb(["<f8", [1], b"12345678"]))}]),
        msgpack.packb(["Clip", {**CLIP, "samples": msgpack.ExtType(1, msgpack.packb(["<f4", [2], b"1234"]))}]),
        msgpack.packb(["Clip", {**CLIP, "samples": msgpack.ExtType(1, msgpack.packb(["O", [1], b"12345678"]))}]),
        msgpack.packb(["Clip", {**CLIP, "samples": msgpack.ExtType(7, b"")}]),
    ],
)
def test_what_is_unreadable_says_so(data: bytes) -> None:
    with pytest.raises(CodecError):
        codec.decode(data)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(CodecError):
        codec.decode(data)


def test_a_truncated_record_is_unreadable() -> None:
    encoded = codec.encode(Clip(samples=np.zeros(10, np.float32), sample_hz=8000))
    for length in range(len(encoded)):
        with pytest.raises(CodecError):
            codec.decode(encoded[:length])


def test_a_reference_counts_by_its_key() -> None:
    def content(samples: int, key: str) -> bytes:
        reference = Reference(samples=np.zeros(samples, np.float32), sample_hz=16_000, key=key)
        return codec.content(types.PlanRequest(text="olá", language="pt", reference=reference))

    assert content(1, "a") == content(2, "a") != content(1, "b")
