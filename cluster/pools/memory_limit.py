"""Limits of a batch's size that follow the device's memory: halved when it runs out, doubled after a while."""

from __future__ import annotations

import logging
import math

from actors.device import Patience
from cluster.config.schema import BatchLimits

log = logging.getLogger(__name__)


class MemoryLimit:
    """Limits of a batch: as configured, or smaller while memory is short.

    They are doubled again after as many batches that went well as ``Patience`` asks for.
    """

    def __init__(self, configured: BatchLimits) -> None:
        self.limits = configured
        self._configured = configured
        self._too_large = 0.0
        """Largest cost that exhausted memory since the limits were last as configured."""
        self._patience = Patience()

    @property
    def max_cost(self) -> float | None:
        """Learnt limit of a batch's cost; None if there is none."""
        return None if self.limits.max_cost == self._configured.max_cost else self.limits.max_cost

    def note_exhausted(self, cost: float) -> None:
        """Halve the limits: a batch of several items, of this total cost, exhausted memory."""
        self._patience.note_exhausted()
        self._too_large = max(self._too_large, cost)
        if cost > 0:
            known = math.inf if self.limits.max_cost is None else self.limits.max_cost
            update: dict[str, object] = {"max_cost": min(known, cost / 2)}
        else:  # an engine that counts no cost leaves nothing to limit but the number
            update = {"max_items": max(1, self.limits.max_items // 2)}
        self.limits = self.limits.model_copy(update=update)
        log.warning("out of memory cost=%g limits=%s", cost, self.limits)

    def note_well(self) -> None:
        """Count a batch that fitted into memory; double the limits after enough of them."""
        if self.limits != self._configured and self._patience.note_well():
            self._grow()

    def _grow(self) -> None:
        max_cost, max_items = self.limits.max_cost, min(2 * self.limits.max_items, self._configured.max_items)
        if max_cost is not None:
            max_cost = 2 * max_cost
            if max_cost >= min(self._too_large, self._configured.max_cost or math.inf):
                max_cost, self._too_large = self._configured.max_cost, 0.0
        self.limits = self.limits.model_copy(update={"max_cost": max_cost, "max_items": max_items})
