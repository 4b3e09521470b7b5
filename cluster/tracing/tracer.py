"""The traces of one process: a file, an OpenTelemetry receiver, or both."""

from __future__ import annotations

import asyncio
import functools
import os
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cluster.tracing.chrome import PoolSetting, TraceFile
from cluster.tracing.config import TraceConfig
from cluster.tracing.spans import SpanSink, TraceSpan


class Tracer:
    """Hands spans to what ``config`` names. Where it names nothing, nothing is recorded."""

    def __init__(self, config: TraceConfig) -> None:
        """Raises ConfigError if the file's folder does not exist, or if a package is missing."""
        self._file: TraceFile | None = None
        self._export: Any = None
        if config.path is not None:
            path = config.path.replace("{driver}", f"{platform.node()}-{os.getpid()}")
            self._file = TraceFile(Path(path), config.max_events)
        if config.otlp_url is not None:
            from cluster.tracing.otlp import OtlpExport  # needs an extra

            self._export = OtlpExport(config.otlp_url)
        self.is_on = config.is_on

    @property
    def sink(self) -> SpanSink | None:
        """This, where anything is to be recorded."""
        return self if self.is_on else None

    def add(self, span: TraceSpan) -> None:
        self.add_later(lambda: (span,), 1)

    def add_later(self, spans: Callable[[], Iterable[TraceSpan]], number: int) -> None:
        if self._export is not None:
            made = tuple(spans())
            for span in made:
                self._export.add(span)
            spans = functools.partial(iter, made)
        if self._file is not None:
            self._file.add_later(spans, number)

    def note_pool(self, name: str, setting: str, config: BaseModel) -> None:
        """Note the settings of a pool for the file."""
        if self._file is not None:
            self._file.note_pool(name, PoolSetting(setting=setting, config=config.model_dump(mode="json")))

    async def close(self) -> None:
        """Write what is left. Errors are logged."""
        for sink in (self._file, self._export):
            if sink is not None:
                await asyncio.to_thread(sink.write)
