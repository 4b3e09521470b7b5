"""Errors that only the service has. ``api/problems.py`` maps them to HTTP statuses."""

from __future__ import annotations

from actors.errors import CapacityError, DubbingError
from cluster.storage.files import is_full

FULL = "the service's storage must have room; it is full; try again later"


class NotFoundError(DubbingError):
    """The thing does not exist, or belongs to another caller."""


class ConflictError(DubbingError):
    """The thing is not in a state that allows this."""


class ServiceFullError(CapacityError):
    """The whole service is full, and not only one caller's share of it."""


class UnauthorizedError(DubbingError):
    """The request has no key, or one that is not known."""


class ForbiddenError(DubbingError):
    """The request must not be made in this way, whoever makes it."""


def unexpected(error: BaseException) -> str:
    """The words for the owner of a dub that ended with an error that is none of ours. Details are only logged."""
    return FULL if is_full(error) else f"unexpected {type(error).__name__}; its traceback is in the service's log"
