"""Quarantine: requests that replicas died of are refused for a while when they come again."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

MAX_ENTRIES = 1024


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...


class Quarantine:
    """The latest ``MAX_ENTRIES`` fingerprints, each until it expires. A lookup costs nothing while there are none."""

    def __init__(self, expiry_s: float) -> None:
        self._expiry_s = expiry_s
        self._until: OrderedDict[tuple[float, str], float] = OrderedDict()
        self._costs: dict[float, int] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, request: Any, cost: float, now_s: float) -> None:
        if self._expiry_s <= 0:
            return
        key = cost, fingerprint(request)
        if self._until.pop(key, None) is None:
            self._costs[cost] = self._costs.get(cost, 0) + 1
        self._until[key] = now_s + self._expiry_s
        self._drop_old(now_s)

    def has(self, request: Any, cost: float, now_s: float) -> bool:
        self._drop_old(now_s)
        # Hashing half a minute of audio takes a millisecond; nearly all requests differ in cost.
        return cost in self._costs and (cost, fingerprint(request)) in self._until

    def _drop_old(self, now_s: float) -> None:
        # Entries stand in the order of their expiry.
        while self._until and (len(self._until) > MAX_ENTRIES or next(iter(self._until.values())) <= now_s):
            (cost, _), _ = self._until.popitem(last=False)
            self._costs[cost] -= 1
            if not self._costs[cost]:
                del self._costs[cost]


def fingerprint(request: Any) -> str:
    """Stable content hash of a request. (Pickles of equal objects may differ, by the references they share.)"""
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest, request)
    return digest.hexdigest()


def _feed(digest: _Hash, value: Any) -> None:
    """Hash type and length before content, so that no two values give the same bytes."""
    digest.update(type(value).__name__.encode())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for each in dataclasses.fields(value):
            _feed(digest, each.name)
            _feed(digest, getattr(value, each.name))
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).view(np.uint8).data if value.size else b"")
    elif isinstance(value, Mapping):
        digest.update(f"{len(value)}".encode())
        for key in sorted(value, key=repr):
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        digest.update(f"{len(value)}".encode())
        for item in value:
            _feed(digest, item)
    else:
        text = repr(value).encode()
        digest.update(f"{len(text)}:".encode())
        digest.update(text)
