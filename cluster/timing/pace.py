"""Learns the pace of voices from their speech, for engines that cannot plan a length, only guess it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from actors.types import Plan
from cluster.timing.fit import PlannedLength

WEIGHT = 0.2
"""Weight of the latest line in the moving average, which thus spans about five lines."""
MAX_FACTOR = 2.0
"""Largest correction of a guess, either way: anything further off is a failure of the engine, not its pace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceKey:
    engine: str
    voice: str
    language: str


@dataclass(slots=True)
class Pace:
    """A moving average, per voice and language, of the logarithm of spoken over guessed length."""

    _log_factors: dict[PaceKey, float] = field(default_factory=dict)

    def natural_s(self, key: PaceKey, guessed_s: float) -> float:
        """Predicted length of a line guessed at ``guessed_s``; the guess itself until the voice has spoken."""
        return guessed_s * math.exp(self._log_factors.get(key, 0.0))

    def observe(self, key: PaceKey, guessed_s: float, spoken_s: float) -> None:
        """Learn from a line of ``spoken_s`` that was guessed at ``guessed_s``. Lengths must be positive to count."""
        if not (0 < guessed_s < math.inf and 0 < spoken_s < math.inf):
            return
        bound = math.log(MAX_FACTOR)
        found = min(bound, max(-bound, math.log(spoken_s) - math.log(guessed_s)))
        known = self._log_factors.get(key)
        self._log_factors[key] = found if known is None else known + WEIGHT * (found - known)


def pace_key(plan: Plan) -> PaceKey:
    return PaceKey(engine=plan.engine, voice=plan.voice, language=plan.language)


def planned_length(plan: Plan, pace: Pace) -> PlannedLength:
    if plan.exact:
        return PlannedLength(natural_s=plan.natural_s, shortest_s=plan.shortest_s, exact=True)
    natural_s = pace.natural_s(pace_key(plan), plan.natural_s)
    return PlannedLength(natural_s=natural_s, shortest_s=natural_s, exact=False)
