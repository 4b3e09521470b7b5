"""Assigns videos to drivers: pure decisions, without a clock or Ray. `drivers.py` applies them.

No driver gets a share in advance: each takes the next video when it has room. The longest of the highest
priority goes first, among those that are known, so that the last videos are short and all drivers end at about the same
time.
"""

from __future__ import annotations

import heapq
from collections import Counter
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
    """The queue of videos. A video is its index in ``durations_s``, a driver a number below ``num_drivers``.

    More videos may be added while others are dubbed. A step takes the time of a heap, O(log n), however many videos
    wait and however many drivers there are.
    """

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
        self._waiting: list[tuple[tuple[bool, int, float, int], _Video]] = []
        self._running: dict[int, dict[int, _Video]] = {driver: {} for driver in range(num_drivers)}
        self._num_drivers = Counter({0: num_drivers})
        """Number of drivers by their number of videos."""
        self._num_running = 0
        ranks = [0] * len(durations_s) if priorities is None else priorities
        for index, (duration_s, priority) in enumerate(zip(durations_s, ranks, strict=True)):
            self.add(index, duration_s, priority)

    def add(self, index: int, duration_s: float, priority: int = 0) -> None:
        """Queue one more video."""
        self._push(_Video(index=index, duration_s=duration_s, priority=priority))

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def has_drivers(self) -> bool:
        return bool(self._running)

    @property
    def is_done(self) -> bool:
        """No video waits, and none runs."""
        return not self._waiting and not self._num_running

    def num_running(self, driver: int) -> int:
        return len(self._running[driver])

    def is_full(self, driver: int) -> bool:
        return len(self._running[driver]) >= self._max_videos

    def take(self, driver: int) -> int | None:
        """The video that this driver starts now; None if there is none for it until something changes."""
        running = self._running[driver]
        if not self._waiting or self.is_full(driver) or any(video.alone for video in running.values()):
            return None
        video = self._waiting[0][1]
        if video.alone and running:
            return None
        # Drivers with fewer videos, or still starting, come first: two videos go to two drivers.
        if sum(self._num_drivers[num_videos] for num_videos in range(len(running))) >= len(self._waiting):
            return None
        heapq.heappop(self._waiting)
        self._num_drivers[len(running)] -= 1
        running[video.index] = video
        self._num_drivers[len(running)] += 1
        self._num_running += 1
        return video.index

    def finish(self, driver: int, index: int) -> None:
        running = self._running[driver]
        self._num_drivers[len(running)] -= 1
        del running[index]
        self._num_drivers[len(running)] += 1
        self._num_running -= 1

    def lose(self, driver: int) -> list[int]:
        """Requeue the videos of a driver that died and may be replaced. Returns the videos that are given up."""
        given_up = []
        for video in self._emptied(driver):
            video.num_losses += 1
            decision = after_loss(video.num_losses, video.alone, self._max_losses)
            if decision is AfterLoss.GIVE_UP:
                given_up.append(video.index)
            else:
                video.alone = decision is AfterLoss.RETRY_ALONE
                self._push(video)
        return given_up

    def requeue(self, driver: int) -> None:
        """Requeue the videos of a driver that has no room for them. They are not to blame, and run alone next time."""
        for video in self._emptied(driver):
            video.alone = True
            self._push(video)

    def has_others(self, driver: int) -> bool:
        """True if another driver dubs a video."""
        return self._num_running > len(self._running[driver])

    def retire(self, driver: int) -> list[int]:
        """Remove a driver that runs nothing. Returns the videos that no driver is left to dub."""
        self._num_drivers[len(self._running.pop(driver))] -= 1
        if self._running:
            return []
        abandoned = [video.index for _, video in sorted(self._waiting, key=lambda waiting: waiting[0])]
        self._waiting = []
        return abandoned

    def _push(self, video: _Video) -> None:
        heapq.heappush(self._waiting, (video.rank, video))

    def _emptied(self, driver: int) -> list[_Video]:
        videos = list(self._running[driver].values())
        for video in videos:
            self.finish(driver, video.index)
        return videos
