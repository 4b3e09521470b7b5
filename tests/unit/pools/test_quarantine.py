from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.types import TranscribeRequest
from cluster.pools.quarantine import MAX_ENTRIES, Quarantine, fingerprint

plain = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
values = st.recursive(
    plain, lambda inner: st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner), max_leaves=12
)


@given(values, values)
def test_fingerprints_tell_values_apart(one: Any, other: Any) -> None:
    assert fingerprint(one) == fingerprint(copy.deepcopy(one))
    if one != other:
        assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (1, True),
        (1, 1.0),
        ("1", 1),
        ((), ((),)),
        (np.zeros(4, np.float32), np.zeros(2, np.float64)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
    ],
)
def test_what_looks_alike_is_told_apart(one: Any, other: Any) -> None:
    assert fingerprint(one) != fingerprint(other)


def test_equal_requests_have_the_same_whatever_they_share() -> None:
    samples = np.arange(32, dtype=np.float32)
    one = TranscribeRequest(samples=samples[::2], language="en")
    other = TranscribeRequest(samples=samples[::2].copy(), language="".join(["e", "n"]))
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(dataclasses.replace(one, language="pt")) != fingerprint(one)


def test_a_request_is_refused_until_its_time_is_over() -> None:
    quarantine = Quarantine(10.0)
    quarantine.add("poison", 1.0, now_s=0.0)
    assert quarantine.has("poison", 1.0, now_s=9.9)
    assert not quarantine.has("other", 1.0, now_s=9.9)
    assert not quarantine.has("poison", 1.0, now_s=10.0)
    assert len(quarantine) == 0


def test_it_is_bounded_and_keeps_the_latest() -> None:
    quarantine = Quarantine(1e9)
    for number in range(MAX_ENTRIES + 10):
        quarantine.add(number, float(number), now_s=float(number))
    assert len(quarantine) == MAX_ENTRIES
    assert not quarantine.has(9, 9.0, now_s=2000.0)
    assert quarantine.has(10, 10.0, now_s=2000.0)
    quarantine.add(10, 10.0, now_s=3000.0)
    quarantine.add("new", 1.0, now_s=3000.0)
    assert quarantine.has(10, 10.0, now_s=3000.0)


def test_none_is_kept_where_that_is_wanted() -> None:
    quarantine = Quarantine(0.0)
    quarantine.add("poison", 1.0, now_s=0.0)
    assert not quarantine.has("poison", 1.0, now_s=0.0)
