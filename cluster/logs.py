"""Logging of one process: set up once; every record carries what it is about."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_job: ContextVar[str] = ContextVar("job", default="-")

FORMAT = "%(asctime)s %(levelname)s %(name)s job=%(job)s %(message)s"


class _AddContext(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.job = _job.get()
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
def job_context(job: str) -> Iterator[None]:
    """Records logged inside, in this task and those it starts, carry the job."""
    token = _job.set(job)
    try:
        yield
    finally:
        _job.reset(token)
