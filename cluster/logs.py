"""Logging of one process: set up once; every record carries its job, stage, replica and trace."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType

JOB_FIELDS = ("job", "trace")
"""Those that tell of a job."""
FIELDS = ("job", "stage", "replica", "trace")
NO_FIELDS: Mapping[str, str] = MappingProxyType({})
_context: ContextVar[Mapping[str, str]] = ContextVar("log_context", default=NO_FIELDS)

FORMAT_VARIABLE = "RAYDUB_LOG_FORMAT"
CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
"""Characters that break a line, and what is shown instead."""
FORMAT = (
    "%(asctime)s %(levelname)s %(name)s job=%(job)s stage=%(stage)s replica=%(replica)s trace=%(trace)s %(message)s"
)
MAX_VALUES = 4
"""Values of one field in the records of a batch that serves several jobs."""


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Settings by which another process can log like this one."""

    level: int
    format: LogFormat


_settings: LogSettings | None = None


class _AddContext(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        context = _context.get()
        for field in FIELDS:
            setattr(record, field, context.get(field, "-"))
        return True


class _OneLineFormatter(logging.Formatter):
    """Formats a record as one line, whatever the names in it hold; a traceback follows as it is."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        return super().formatMessage(record).translate(CONTROL_CHARACTERS)


class _JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object in one line. Fields without a value are null."""

    def format(self, record: logging.LogRecord) -> str:
        context = {field: getattr(record, field, "-") for field in FIELDS}
        return json.dumps(
            {
                "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
                "level": record.levelname,
                "logger": record.name,
                **{field: None if value == "-" else value for field, value in context.items()},
                "message": record.getMessage(),
                "exception": self.formatException(record.exc_info) if record.exc_info else None,
            }
        )


def set_up(level: int, form: LogFormat | None = None) -> None:
    """Log to standard error at ``level``; libraries log from WARNING up.

    Without ``form``, RAYDUB_LOG_FORMAT decides: text or json.
    """
    global _settings
    form = form or (LogFormat.JSON if os.environ.get(FORMAT_VARIABLE) == LogFormat.JSON else LogFormat.TEXT)
    handler = logging.StreamHandler()
    handler.addFilter(_AddContext())
    handler.setFormatter(_JsonFormatter() if form is LogFormat.JSON else _OneLineFormatter(FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for package in ("actors", "cluster", "serve"):
        logging.getLogger(package).setLevel(level)
    _settings = LogSettings(level=level, format=form)


def settings() -> LogSettings | None:
    """The settings of ``set_up``; None if logging was left to the program."""
    return _settings


@contextmanager
def log_context(**fields: str) -> Iterator[None]:
    """Add these of ``FIELDS`` to records logged inside, in this task and those it starts."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def new_context(**fields: str) -> Context:
    """A context for a task that belongs to no job; its log records carry these of ``FIELDS``."""
    context = Context()
    context.run(_context.set, fields)
    return context


def fields() -> Mapping[str, str]:
    """The fields of records that are logged here."""
    return _context.get()


def fields_of_jobs(jobs: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Job and trace of a batch's records: those of each request in it, as far as they are few."""
    jobs = list(jobs)
    found = {name: dict.fromkeys(each[name] for each in jobs if name in each) for name in JOB_FIELDS}
    return {
        name: ",".join([*list(values)[:MAX_VALUES], *(["…"] if len(values) > MAX_VALUES else [])])
        for name, values in found.items()
        if values
    }
