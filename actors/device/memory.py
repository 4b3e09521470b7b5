"""Batches that are halved when memory runs out, and grow again after a while."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from actors.device.faults import DeviceFault, device_fault
from actors.errors import ItemError
from actors.types import ItemFailure

log = logging.getLogger(__name__)

FIRST_PATIENCE_BATCHES = 64
MAX_PATIENCE_BATCHES = 4096

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Patience:
    """Counts batches that went well until a halved limit may be doubled.

    ``FIRST_PATIENCE_BATCHES`` must go well at first, as memory may have been taken by something else; twice as many
    each time that memory runs out again.
    """

    def __init__(self) -> None:
        self._num_well = 0
        self._num_needed = FIRST_PATIENCE_BATCHES // 2

    def note_exhausted(self) -> None:
        self._num_well = 0
        self._num_needed = min(MAX_PATIENCE_BATCHES, 2 * self._num_needed)

    def note_well(self) -> bool:
        """Count a batch that fitted into memory; True if the limit may be doubled."""
        self._num_well += 1
        if self._num_well < self._num_needed:
            return False
        self._num_well = 0
        return True


class HalvingBatch:
    """Runs items in batches of like length, as large as memory allows.

    A batch costs as much as its longest item times their number, because of padding. One that does not fit is halved,
    and so is the limit, until enough batches have gone well: one spike of a neighbour on the same GPU must not
    shrink the batches of a replica for its whole life.
    """

    def __init__(self, max_cost: float) -> None:
        self.max_cost = max_cost
        """Most cost of a batch for now, padding included; one item alone may exceed it."""
        self._configured = max_cost
        self._too_large = max_cost
        """Largest cost that exhausted memory since the limit was last as configured."""
        self._patience = Patience()

    def run(
        self, items: Sequence[Item], costs: Sequence[float], call: Callable[[list[Item]], Sequence[Outcome]]
    ) -> list[Outcome | ItemFailure]:
        """The outcome of each item, in order; an ItemFailure for one that does not fit even alone."""
        # Longest first: if memory is short, the first batch shows it.
        order = sorted(range(len(items)), key=lambda index: -costs[index])
        outcomes: dict[int, Outcome | ItemFailure] = {}
        while len(outcomes) < len(items):
            rest = order[len(outcomes) :]
            batch = rest[: max(1, int(self.max_cost // max(costs[rest[0]], 1e-9)))]
            results = self._attempt([items[index] for index in batch], call)
            if results is not None:
                outcomes.update(zip(batch, results, strict=True))
                self._note_well()
            elif len(batch) > 1:
                self._note_exhausted(costs[batch[0]] * len(batch))
                log.warning("out of memory items=%d, for now max_cost=%g", len(batch), self.max_cost)
            else:
                outcomes[batch[0]] = _too_large(costs[batch[0]])
        return [outcomes[index] for index in range(len(items))]

    def _note_exhausted(self, cost: float) -> None:
        if self.max_cost == self._configured:
            self._too_large = cost
        self.max_cost = cost / 2
        self._patience.note_exhausted()

    def _note_well(self) -> None:
        if self.max_cost < self._configured and self._patience.note_well():
            doubled = 2 * self.max_cost
            self.max_cost = self._configured if doubled >= min(self._too_large, self._configured) else doubled

    def _attempt(self, items: list[Item], call: Callable[[list[Item]], Sequence[Outcome]]) -> Sequence[Outcome] | None:
        """The results, or None if memory ran out."""
        for is_last in (False, True):
            try:
                return call(items)
            except Exception as error:
                fault = device_fault(error)
                if fault not in (DeviceFault.MEMORY, DeviceFault.STALE):
                    raise
            # Only after the handler is the error gone, and with it the frames that hold the tensors.
            release_memory()
            if fault is DeviceFault.MEMORY or is_last:
                break
        return None


def release_memory() -> None:
    """Return unused memory to the device, so that the next allocation can be one piece."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _too_large(cost: float) -> ItemFailure:
    return ItemFailure(
        error=ItemError(
            f"one item must fit the device's memory; one of cost {cost:g} did not, alone: "
            "shorten it, or give the replica more memory"
        )
    )
