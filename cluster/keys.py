"""What a result is filed under: a hash of all that it depends on, and of nothing else.

Of an engine's that is its identity (its name and revision, its packages' versions, its weights and those of
its options that matter) and the request's content. When, where and beside what it was computed is not in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from actors.types import Task
from cluster import codec

LAYOUT = 1
"""To be raised when values are filed or written in another way."""


Made = Task | Literal["sound"]
"""What engines make, and what the driver makes of it."""


@dataclass(frozen=True, slots=True)
class Key:
    task: Made
    digest: str
    """sha256, hexadecimal."""

    def __str__(self) -> str:
        return f"{self.task}/{self.digest}"


class Keyring:
    """The keys of one engine's results."""

    def __init__(self, task: Made, identity: Mapping[str, Any]) -> None:
        self._task = task
        described = json.dumps([LAYOUT, task, identity], sort_keys=True, ensure_ascii=True)
        self._start = hashlib.sha256(described.encode())

    def key(self, request: object) -> Key:
        """Raises CodecError if the request holds what has no content."""
        digest = self._start.copy()
        digest.update(codec.content(request))
        return Key(self._task, digest.hexdigest())
