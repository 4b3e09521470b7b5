"""How large batches may be where memory ran out: halved when it does, and let grow again."""

from __future__ import annotations

import math

from cluster.scheduling import BatchLimits

FIRST_PATIENCE_BATCHES = 64
MAX_PATIENCE_BATCHES = 4096


class MemoryLimit:
    """The limits of batches as configured, or smaller.

    After so many batches that went well they are doubled, for what filled the memory may have been something else;
    each time it is filled again, they are left alone for twice as long.
    """

    def __init__(self, configured: BatchLimits) -> None:
        self.limits = configured
        self._configured = configured
        self._too_large = 0.0
        """Cost of the largest batch that did not go well since the limits were last as configured."""
        self._num_well = 0
        self._patience_batches = FIRST_PATIENCE_BATCHES // 2

    @property
    def max_cost(self) -> float | None:
        """That was learnt; None if there is none."""
        return None if self.limits.max_cost == self._configured.max_cost else self.limits.max_cost

    def note_exhausted(self, cost: float) -> None:
        """A batch of several items, of this cost, was too large for memory."""
        self._num_well = 0
        self._patience_batches = min(MAX_PATIENCE_BATCHES, 2 * self._patience_batches)
        self._too_large = max(self._too_large, cost)
        if cost > 0:
            known = math.inf if self.limits.max_cost is None else self.limits.max_cost
            update: dict[str, object] = {"max_cost": min(known, cost / 2)}
        else:  # an engine that counts no cost leaves nothing to limit but the number
            update = {"max_items": max(1, self.limits.max_items // 2)}
        self.limits = self.limits.model_copy(update=update)

    def note_well(self) -> None:
        """A batch went well."""
        if self.limits == self._configured:
            return
        self._num_well += 1
        if self._num_well >= self._patience_batches:
            self._num_well = 0
            self._grow()

    def _grow(self) -> None:
        max_cost, max_items = self.limits.max_cost, min(2 * self.limits.max_items, self._configured.max_items)
        if max_cost is not None:
            max_cost = 2 * max_cost
            if max_cost >= min(self._too_large, self._configured.max_cost or math.inf):
                max_cost, self._too_large = self._configured.max_cost, 0.0
        self.limits = self.limits.model_copy(update={"max_cost": max_cost, "max_items": max_items})
