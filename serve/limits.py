"""How often: a bucket of requests for each caller, filled as time passes."""

from __future__ import annotations

import time
from collections import OrderedDict

from actors.errors import CapacityError

MAX_BUCKETS = 10_000


class Rates:
    """Of one dispatcher. The callers longest unseen are forgotten, which only ever refills a bucket."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Caller → (requests left, when that was so)."""

    def spend(self, caller: str, per_min: int, now_s: float | None = None) -> None:
        """Count one request. Raises CapacityError, which says when there is room again."""
        now_s = time.monotonic() if now_s is None else now_s
        left, then_s = self._buckets.pop(caller, (float(per_min), now_s))
        left = min(float(per_min), left + (now_s - then_s) * per_min / 60)
        allowed = left >= 1
        self._buckets[caller] = (left - 1 if allowed else left, now_s)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise CapacityError(
                f"at most {per_min} requests a minute are answered here; wait", retry_after_s=(1 - left) * 60 / per_min
            )
