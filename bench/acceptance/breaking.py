"""An engine whose device breaks once: by an assertion on a GPU, by the error that one gives on a CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from actors import engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    value: int
    break_once: str | None = None
    """A file that the item creates before it breaks the device; it runs normally if the file exists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    value: int
    pid: int


class Config(engine.EngineConfig):
    on_gpu: bool = False


class Engine(engine.Engine[Item, Echo]):
    Config: ClassVar[type[engine.EngineConfig]] = Config
    config: Config

    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "all"

    def load(self) -> None:
        if self.config.on_gpu:
            import torch

            torch.zeros(1, device="cuda")

    def run(self, batch: Sequence[Item]) -> list[Echo]:
        for item in batch:
            if item.break_once is not None and not Path(item.break_once).exists():
                Path(item.break_once).touch()
                self._break()
        return [Echo(value=item.value, pid=os.getpid()) for item in batch]

    def _break(self) -> None:
        if not self.config.on_gpu:
            raise RuntimeError("CUDA error: device-side assert triggered")
        import torch

        torch.zeros(4, device="cuda")[torch.tensor([9], device="cuda")].cpu()
