"""What translators and speakers that are counted share: a file in which each piece of work leaves a line."""

import os
import time
from pathlib import Path
from typing import Any, ClassVar

from actors import engine
from actors.types import Task
from cluster.keys import Keyring


class CountedConfig(engine.EngineConfig):
    log: str
    """A file; every request that is computed adds a line to it: which process, under which key the result is
    filed, whether it was there already, and what was asked for."""
    store: str | None = None
    """A folder; None to look into none."""
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
