"""Logging of one process: set up once; every record carries what it is about."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from types import MappingProxyType

FIELDS = ("job", "stage", "replica")
_context: ContextVar[Mapping[str, str]] = ContextVar("log_context", default=MappingProxyType({}))

FORMAT = "%(asctime)s %(levelname)s %(name)s job=%(job)s stage=%(stage)s replica=%(replica)s %(message)s"


class _AddContext(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        context = _context.get()
        for field in FIELDS:
            setattr(record, field, context.get(field, "-"))
        return True


def set_up(level: int) -> None:
    """Log to standard error. Libraries are heard from WARNING up."""
    handler = logging.StreamHandler()
    handler.addFilter(_AddContext())
    handler.setFormatter(logging.Formatter(FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for package in ("actors", "cluster", "serve"):
        logging.getLogger(package).setLevel(level)


@contextmanager
def log_context(**fields: str) -> Iterator[None]:
    """Records logged inside, in this task and those it starts, carry these of ``FIELDS``."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def new_context(**fields: str) -> Context:
    """A context of no job, for a task that outlives them all; its records carry these of ``FIELDS``."""
    context = Context()
    context.run(_context.set, fields)
    return context
