"""The time in which drivers get through a batch's videos, each taking the longest one left: a pure computation."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

MAX_DEALT = 5_000
"""Videos that are dealt out one by one; of more, drivers have equal shares."""


def dealt_s(videos_s: Sequence[float], num_drivers: int, max_videos: int, alone: float, realtime: float) -> float:
    """Seconds until all videos are done, if a driver takes the longest one left whenever it has room.

    Its videos share its pace evenly, and none is faster than one alone.
    """
    if len(videos_s) > MAX_DEALT:
        last_s = videos_s[-1]
        tail_s = (last_s / alone - last_s / realtime) / 2  # the last videos of a driver end one after another
        share_s = (sum(videos_s) / num_drivers + last_s / 2) / realtime
        return max(share_s + tail_s, videos_s[0] / alone)
    waiting = iter(videos_s)
    # Per driver, the media that each of its videos has got through so far, and where they end.
    reached_s = [0.0] * num_drivers
    ends_s: list[list[float]] = [[] for _ in range(num_drivers)]
    for driver in [*range(num_drivers)] * max_videos:
        if (video_s := next(waiting, None)) is not None:
            heapq.heappush(ends_s[driver], video_s)

    def next_end(driver: int, now_s: float) -> tuple[float, int]:
        pace = min(alone, realtime / len(ends_s[driver]))
        return now_s + (ends_s[driver][0] - reached_s[driver]) / pace, driver

    events = [next_end(driver, 0.0) for driver in range(num_drivers) if ends_s[driver]]
    heapq.heapify(events)
    now_s = 0.0
    while events:
        now_s, driver = heapq.heappop(events)
        reached_s[driver] = heapq.heappop(ends_s[driver])
        if (video_s := next(waiting, None)) is not None:
            heapq.heappush(ends_s[driver], reached_s[driver] + video_s)
        if ends_s[driver]:
            heapq.heappush(events, next_end(driver, now_s))
    return now_s
