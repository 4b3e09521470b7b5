"""A log for counted translators and speakers: a file to which each piece of work adds a line."""

import os
import time
from pathlib import Path
from typing import Any, ClassVar

from actors import engine
from actors.types import Task
from cluster.storage.keys import Keyring


class CountedConfig(engine.EngineConfig):
    log: str
    """Log file with a line for each computed request: process, key of the result, "stored" if the store had it, and
    the request."""
    store: str | None = None
    """Folder of the store; None for no lookups."""
    service_s: float = 0.0


class Counted:
    task: ClassVar[Task]
    config: CountedConfig
    neutral_options = frozenset({"log", "store", "service_s"})

    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "all"

    def load(self) -> None:
        pass

    def weights_id(self) -> str:
        return "none"

    def note(self, request: Any, text: str) -> None:
        digest = Keyring(self.task, self.identity()).key(request).digest  # type: ignore[attr-defined]
        stored = None if self.config.store is None else Path(self.config.store) / self.task / digest[:2] / digest
        known = "stored" if stored is not None and stored.exists() else "new"
        with Path(self.config.log).open("ab") as file:  # one write, which POSIX appends whole
            file.write(f"{os.getpid()} {digest} {known} {text}\n".encode())
        time.sleep(self.config.service_s)
