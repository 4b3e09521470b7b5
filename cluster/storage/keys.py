"""Content addresses of results: hashes of everything that a result depends on, and of nothing else.

An engine's result depends on the engine's identity (its name and revision, its packages' versions, its
weights, and those of its options that matter) and on the request's content. It does not depend on the
time, the machine or the batch in which it was computed.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

from actors.types import Task
from cluster.storage import codec

LAYOUT = 1
"""Version of keys and values; raise it when either is made in another way."""

SALT: ContextVar[str] = ContextVar("salt", default="")
"""Results are found only with the salt under which they were stored; empty where all share them."""

StoredTask = Task | Literal["sound"]
"""The task that made a value: an engine's, or ``sound`` for mixes, which the driver makes."""


@contextlib.contextmanager
def salted(salt: str) -> Iterator[None]:
    """Inside, store and find results with this salt alone."""
    token = SALT.set(salt)
    try:
        yield
    finally:
        SALT.reset(token)


@dataclass(frozen=True, slots=True)
class Key:
    task: StoredTask
    digest: str
    """sha256, hexadecimal."""

    def __str__(self) -> str:
        return f"{self.task}/{self.digest}"


class Keyring:
    """Makes the keys of one engine's results."""

    def __init__(self, task: StoredTask, identity: Mapping[str, Any]) -> None:
        self._task = task
        described = json.dumps([LAYOUT, task, identity], sort_keys=True, ensure_ascii=True)
        self._start = hashlib.sha256(described.encode())

    def with_salt(self, salt: str) -> Keyring:
        """A keyring with other keys for each salt; itself for an empty one."""
        if not salt:
            return self
        other = copy.copy(self)
        other._start = self._start.copy()
        other._start.update(json.dumps(salt).encode())
        return other

    def key(self, request: object) -> Key:
        """The key of the request's result. Raises CodecError if the request holds a value of no known type."""
        digest = self._start.copy()
        digest.update(codec.content(request))
        return Key(self._task, digest.hexdigest())
