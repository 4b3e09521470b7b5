"""The tree of all errors that raydub raises on purpose.

A message states the requirement, the value found and the remedy. Callers branch on the type, never
on the text. Every class survives pickling, because errors cross process borders in Ray.
"""

from __future__ import annotations


class DubbingError(Exception):
    """Root of the tree."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigError(DubbingError):
    """A wrong option or configuration, found before any model is loaded."""


class MediaError(DubbingError):
    """An input that cannot be dubbed: not media, no audio, unreadable, over a limit."""


class CapacityError(DubbingError):
    """A queue or quota is full; the caller may try again after ``retry_after_s``."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type[CapacityError], tuple[str, float]]:
        return type(self), (self.message, self.retry_after_s)


class EngineError(DubbingError):
    """A model library failed."""


class EngineLoadError(EngineError):
    """An engine could not be made ready: package, weights or device missing."""


class EngineMemoryError(EngineError):
    """A batch needs more memory than its device has; smaller ones may do."""


class DeviceLostError(EngineError):
    """The device cannot be used by this process any more, though perhaps by another."""


class ItemError(EngineError):
    """One item of a batch failed; its neighbours are unaffected."""


class ReplicaLostError(EngineError):
    """A replica died or hung with this item on it, and the retries are spent."""


def first_of(error: Exception) -> Exception:
    """The first error of a task group's exception group, or the error itself."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
