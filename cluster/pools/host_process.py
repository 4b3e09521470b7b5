"""The process of a replica: an engine's host whose log records say what they are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.host import ActorHost, BatchReport
from cluster import logs
from cluster.logs import LogSettings, log_context


class ActorHostProcess(ActorHost):
    """An ``ActorHost`` that logs like its driver: each record has the replica's fields and those of its batch."""

    def __init__(self, settings: LogSettings | None, fields: Mapping[str, str], *args: Any) -> None:
        if settings is not None:
            logs.set_up(settings.level, settings.format)
        self._fields = dict(fields)
        super().__init__(*args)

    def load(self) -> float:
        """Load the engine."""
        with log_context(**self._fields):
            return super().load()

    def run(self, batch: Sequence[Any], fields: Mapping[str, str] = logs.NO_FIELDS) -> BatchReport:
        """Run a batch, with these fields in its records."""
        with log_context(**self._fields, **fields):
            return super().run(batch)
