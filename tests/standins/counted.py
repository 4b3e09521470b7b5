"""What translators and speakers that are counted share: a file in which each piece of work leaves a line."""

import os
import time
from pathlib import Path

from actors import engine


class CountedConfig(engine.EngineConfig):
    log: str
    """A file; every request that is computed adds a line to it."""
    service_s: float = 0.0


class Counted:
    config: CountedConfig
    neutral_options = frozenset({"log", "service_s"})

    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "all"

    def load(self) -> None:
        pass

    def weights_id(self) -> str:
        return "none"

    def note(self, text: str) -> None:
        time.sleep(self.config.service_s)
        with Path(self.config.log).open("ab") as file:  # one write, which POSIX appends whole
            file.write(f"{os.getpid()} {text}\n".encode())
