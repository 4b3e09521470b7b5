"""An engine that returns its items, or sleeps, fails, hangs or kills its process, as an item says."""

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import ray

from actors import engine
from actors.errors import EngineLoadError, ItemError
from actors.types import ItemFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    value: int
    cost: float = 1.0
    sleep_s: float = 0.0
    fail: bool = False
    die: bool = False
    break_device: bool = False
    """Every later request to this process fails."""
    hang: bool = False
    hang_once: str | None = None
    """A file that the item creates before it hangs; it runs normally if the file exists."""
    hang_until: str | None = None
    """A file whose creation ends the wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    value: int
    pid: int
    node_id: str | None = None
    """Ray's id of the node; None outside Ray."""


class EchoConfig(engine.EngineConfig):
    load_error: bool = False
    die_loading_until: str | None = None
    """A file that counts loads; the first two kill the process."""
    exhaust_above: int | None = None
    """Items in a batch beyond which it reports exhausted memory."""


class Engine(engine.Engine[Item, Echo]):
    Config: ClassVar[type[engine.EngineConfig]] = EchoConfig
    config: EchoConfig
    _device_is_broken = False

    def supports(self, *languages: str) -> bool:
        return True

    def describe_languages(self) -> str:
        return "all"

    def cost(self, request: Item) -> float:
        return request.cost

    def load(self) -> None:
        if self.config.load_error:
            raise EngineLoadError("echo must find its weights; there are none")
        if self.config.die_loading_until is not None:
            counter = Path(self.config.die_loading_until)
            num_loads = len(counter.read_text()) if counter.exists() else 0
            counter.write_text("x" * (num_loads + 1))
            if num_loads < 2:
                os._exit(1)

    def run(self, batch: Sequence[Item]) -> list[Echo | ItemFailure]:
        if self.config.exhaust_above is not None and len(batch) > self.config.exhaust_above:
            raise MemoryError(f"{len(batch)} items")
        self._device_is_broken |= any(item.break_device for item in batch)
        if self._device_is_broken:
            raise RuntimeError("CUDA failed with error an illegal memory access was encountered")
        return [self._run(item) for item in batch]

    def _run(self, item: Item) -> Echo | ItemFailure:
        if item.die:
            os._exit(1)
        if item.hang or (item.hang_once is not None and not Path(item.hang_once).exists()):
            if item.hang_once is not None:
                Path(item.hang_once).touch()
            threading.Event().wait()
        while item.hang_until is not None and not Path(item.hang_until).exists():
            time.sleep(0.01)
        if item.fail:
            return ItemFailure(error=ItemError(f"item {item.value} is bad"))
        time.sleep(item.sleep_s)
        return Echo(value=item.value, pid=os.getpid(), node_id=_node_id())


def _node_id() -> str | None:
    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else None
