"""Speaks lines that fail their check again, as long as that helps and the budget lasts."""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from cluster.flags import Flag
from cluster.quality import Measure, Metric, QualityConfig, Verdict
from cluster.steps.check import Checker
from cluster.steps.records import PlannedLine, Spoken
from cluster.steps.speak import QueuedLine, Speaker
from cluster.verdicts import flags_of_measures

READINGS = ((0.9, 1), (1.0, 2), (0.95, 3), (1.05, 4), (0.85, 5))
"""Pace, as a factor of the first, and take of each reading of an unclear line. Each has other sounds."""

Way: TypeAlias = Callable[[Spoken], Awaitable[Spoken | None]]
"""Says a line otherwise than it was said; None if that cannot be done."""


class Retry:
    """Speaks a line that fails its check again, in other readings and by its other candidates, and keeps the best."""

    def __init__(self, config: QualityConfig, speaker: Speaker, checker: Checker) -> None:
        self._config = config
        self._speaker = speaker
        self._checker = checker

    async def speak(self, queued: QueuedLine) -> Spoken:
        """Speak the line and check it; while it fails, speak it otherwise, ``max_retries`` times at most."""
        best = await self._speaker.speak(queued)
        if best.clip is None:
            return best
        measures = await self._checker.check(best)
        num_left = self._config.max_retries
        for say in self._ways(queued.line, best, measures):
            if num_left == 0 or num_failed(measures) == 0:
                break
            if (other := await say(best)) is None:
                continue
            num_left -= 1
            again = await self._checker.check(other)
            if _badness(again) < _badness(measures):
                best, measures = other, again
        self._checker.note(best, measures)
        return best

    def _ways(self, line: PlannedLine, first: Spoken, measures: Sequence[Measure]) -> list[Way]:
        """The other ways to say the line, given how it was said first."""
        candidates: list[Way] = [functools.partial(self._speaker.speak_other, line, other) for other in line.others]
        if first.fit is None or Flag.HEARD_WRONG not in flags_of_measures(measures, self._config):
            return candidates  # another reading means the same
        readings: list[Way] = [
            functools.partial(self._speaker.speak_again, line, first.fit.rate * pace, take) for pace, take in READINGS
        ]
        return [*readings, *candidates]


def num_failed(measures: Sequence[Measure]) -> int:
    return sum(measure.verdict is Verdict.FAIL for measure in measures)


def _badness(measures: Sequence[Measure]) -> tuple[int, float]:
    """Failed measures first, then the words that are heard wrongly."""
    rates = [measure.value for measure in measures if measure.metric is Metric.WER and measure.value is not None]
    return num_failed(measures), rates[0] if rates else math.inf
