"""Times of an engine's calls, learnt from recorded batches, for batches of another make-up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from cluster.analysis.replay_engine import RecordedRequest

MIN_S = 1e-6


class CallModel:
    """A call takes a constant time for each kind of request in it, one for each request, and one for each unit of cost.

    A request keeps what is peculiar to it beside these: the same batch takes the same time again.
    """

    def __init__(self, batches: Sequence[Sequence[RecordedRequest]]) -> None:
        self._kinds = sorted({request.kind for batch in batches for request in batch})
        times_s = np.array([max(MIN_S, batch[0].ended_s - batch[0].began_s) for batch in batches])
        rows = np.array([self._features(batch) for batch in batches])
        self._weights, _ = nnls(rows / times_s[:, None], np.ones(len(batches)))  # relative errors count alike
        self._scale = {
            request.id: time_s / max(MIN_S, self._typical_s(batch))
            for batch, time_s in zip(batches, times_s, strict=True)
            for request in batch
        }

    def time_s(self, batch: Sequence[RecordedRequest]) -> float:
        """The time of a call with these requests."""
        shares = [max(MIN_S, self._typical_s([request])) for request in batch]
        scales = [self._scale[request.id] for request in batch]
        return self._typical_s(batch) * float(np.average(scales, weights=shares))

    def _typical_s(self, batch: Sequence[RecordedRequest]) -> float:
        return float(self._features(batch) @ self._weights)

    def _features(self, batch: Sequence[RecordedRequest]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        found = []
        for kind in self._kinds:
            costs = [request.cost for request in batch if request.kind == kind]
            found += [float(bool(costs)), float(len(costs)), sum(costs)]
        return np.array(found)
