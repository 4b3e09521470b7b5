"""Logging of one process: set up once; every record carries its job, stage and replica."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from types import MappingProxyType

FIELDS = ("job", "stage", "replica")
_context: ContextVar[Mapping[str, str]] = ContextVar("log_context", default=MappingProxyType({}))

CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
"""Characters that break a line, and what is shown instead."""
FORMAT = "%(asctime)s %(levelname)s %(name)s job=%(job)s stage=%(stage)s replica=%(replica)s %(message)s"


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


def set_up(level: int) -> None:
    """Log to standard error at ``level``; libraries log from WARNING up."""
    handler = logging.StreamHandler()
    handler.addFilter(_AddContext())
    handler.setFormatter(_OneLineFormatter(FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for package in ("actors", "cluster", "serve"):
        logging.getLogger(package).setLevel(level)


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
