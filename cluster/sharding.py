"""Which driver dubs which video next: pure decisions, no clock, no Ray. `drivers.py` applies them.

No driver is given its share beforehand: each takes the next video when it has room for one, the
longest of the highest priority first, so that what is left at the end is short and all drivers end together.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.scheduling import AfterLoss, after_loss


@dataclass(slots=True, kw_only=True, eq=False)
class _Video:
    index: int
    duration_s: float
    priority: int
    num_losses: int = 0
    alone: bool = False

    @property
    def rank(self) -> tuple[bool, int, float, int]:
        """Those under suspicion last: they need a driver that has nothing else."""
        return self.alone, -self.priority, -self.duration_s, self.index


class Sharding:
    """Videos are named by their index in ``durations_s``, drivers by 0 to ``num_drivers - 1``."""

    def __init__(
        self,
        durations_s: Sequence[float],
        num_drivers: int,
        max_videos: int,
        max_losses: int,
        priorities: Sequence[int] | None = None,
    ) -> None:
        self._max_videos = max_videos
        self._max_losses = max_losses
        ranks = [0] * len(durations_s) if priorities is None else priorities
        videos = (
            _Video(index=index, duration_s=duration_s, priority=priority)
            for index, (duration_s, priority) in enumerate(zip(durations_s, ranks, strict=True))
        )
        self._waiting = sorted(videos, key=lambda video: video.rank)
        self._running: dict[int, list[_Video]] = {driver: [] for driver in range(num_drivers)}

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting)

    @property
    def is_done(self) -> bool:
        """Nothing waits, nothing runs."""
        return not self._waiting and not any(self._running.values())

    def num_running(self, driver: int) -> int:
        return len(self._running[driver])

    def take(self, driver: int) -> int | None:
        """The video this driver is to begin now; None for none, until something changes."""
        running = self._running[driver]
        if not self._waiting or len(running) >= self._max_videos or any(video.alone for video in running):
            return None
        if self._waiting[0].alone and running:
            return None
        # Those with less to do, or still starting, come first: two videos are for two drivers.
        num_before = sum(len(others) < len(running) for others in self._running.values())
        if num_before >= len(self._waiting):
            return None
        video = self._waiting.pop(0)
        running.append(video)
        return video.index

    def finish(self, driver: int, index: int) -> None:
        running = self._running[driver]
        running.remove(next(video for video in running if video.index == index))

    def lose(self, driver: int) -> list[int]:
        """The driver is dead, and may come back: its videos wait again, except those returned, which are given up."""
        given_up = []
        for video in self._running[driver]:
            video.num_losses += 1
            decision = after_loss(video.num_losses, video.alone, self._max_losses)
            if decision is AfterLoss.GIVE_UP:
                given_up.append(video.index)
            else:
                video.alone = decision is AfterLoss.RETRY_ALONE
                bisect.insort(self._waiting, video, key=lambda waiting: waiting.rank)
        self._running[driver] = []
        return given_up

    def retire(self, driver: int) -> list[int]:
        """The driver, which runs nothing, will not come back. Returns what nobody is left to dub."""
        del self._running[driver]
        if self._running:
            return []
        abandoned = [video.index for video in self._waiting]
        self._waiting = []
        return abandoned
