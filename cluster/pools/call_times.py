"""TimeEstimates of the times of an engine's calls, and of the way to it, from those before."""

from __future__ import annotations

import math

WEIGHT = 0.25
"""EWMA weight of the latest time."""
SIZES_PER_OCTAVE = 2
"""Calls whose costs differ by less than a factor of about 1.4 count as alike."""


class TimeEstimate:
    """Mean and mean deviation of times, the latest counting most; as TCP estimates a round trip (RFC 6298)."""

    def __init__(self, first_s: float) -> None:
        self._mean_s = first_s
        self._deviation_s = first_s / 2

    def note(self, time_s: float) -> None:
        error_s = time_s - self._mean_s
        self._mean_s += WEIGHT * error_s
        self._deviation_s += WEIGHT * (abs(error_s) - self._deviation_s)

    @property
    def low_s(self) -> float:
        """Most times are longer."""
        return max(0.0, self._mean_s - self._deviation_s)

    @property
    def high_s(self) -> float:
        """Nearly all times are shorter."""
        return self._mean_s + 2 * self._deviation_s


class CallTimes:
    """Times of one pool's calls, by their cost, and of the way to the engine and back."""

    def __init__(self) -> None:
        self._by_size: dict[int, TimeEstimate] = {}
        self._delivery: TimeEstimate | None = None

    @property
    def delivery_s(self) -> float:
        """Time that a batch needs besides the engine's call: transfer, preparation, the answer's way back."""
        return 0.0 if self._delivery is None else self._delivery.high_s

    def shortest_s(self, cost: float) -> float | None:
        """Time that a call of this cost takes at least, mostly; None while none of its size or less is known."""
        known = [size for size in self._by_size if size <= _size(cost)]
        return self._by_size[max(known)].low_s if known else None

    def note_call(self, cost: float, time_s: float) -> None:
        size = _size(cost)
        if size in self._by_size:
            self._by_size[size].note(time_s)
        else:
            self._by_size[size] = TimeEstimate(time_s)

    def note_delivery(self, time_s: float) -> None:
        """Count the way of a batch for which an idle replica had to wait."""
        if self._delivery is None:
            self._delivery = TimeEstimate(time_s)
        else:
            self._delivery.note(time_s)


def _size(cost: float) -> int:
    return math.floor(SIZES_PER_OCTAVE * math.log2(max(cost, 1e-9)))
