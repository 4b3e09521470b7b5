"""Assigns videos to drivers: pure decisions, without a clock or Ray. `drivers.py` applies them.

No driver gets a share in advance: each takes the next video when it has room. The longest of the highest
priority goes first, so that the last videos are short and all drivers end at about the same time.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.pools.scheduling import AfterLoss, after_loss


@dataclass(slots=True, kw_only=True, eq=False)
class _Video:
    index: int
    duration_s: float
    priority: int
    num_losses: int = 0
    alone: bool = False

    @property
    def rank(self) -> tuple[bool, int, float, int]:
        """Sort key. A video that may have killed drivers comes last: it needs a driver without other videos."""
        return self.alone, -self.priority, -self.duration_s, self.index


class Sharding:
    """The queue of videos. A video is its index in ``durations_s``, a driver a number below ``num_drivers``."""

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
        """No video waits, and none runs."""
        return not self._waiting and not any(self._running.values())

    def num_running(self, driver: int) -> int:
        return len(self._running[driver])

    def take(self, driver: int) -> int | None:
        """The video that this driver starts now; None if there is none for it until something changes."""
        running = self._running[driver]
        if not self._waiting or len(running) >= self._max_videos or any(video.alone for video in running):
            return None
        if self._waiting[0].alone and running:
            return None
        # Drivers with fewer videos, or still starting, come first: two videos go to two drivers.
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
        """Requeue the videos of a driver that died and may be replaced. Returns the videos that are given up."""
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

    def requeue(self, driver: int) -> None:
        """Requeue the videos of a driver that has no room for them. They are not to blame, and run alone next time."""
        for video in self._running[driver]:
            video.alone = True
            bisect.insort(self._waiting, video, key=lambda waiting: waiting.rank)
        self._running[driver] = []

    def has_others(self, driver: int) -> bool:
        """True if another driver dubs a video."""
        return any(videos for other, videos in self._running.items() if other != driver)

    def retire(self, driver: int) -> list[int]:
        """Remove a driver that runs nothing. Returns the videos that no driver is left to dub."""
        del self._running[driver]
        if self._running:
            return []
        abandoned = [video.index for video in self._waiting]
        self._waiting = []
        return abandoned
