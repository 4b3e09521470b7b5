"""How long a voice takes, learnt from what it has spoken: for engines that cannot plan a length, only guess it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

WEIGHT = 0.2
"""Of what was spoken last: about five lines are remembered."""
MAX_FACTOR = 2.0
"""A guess is corrected by no more, either way: what is further off is a failure of the engine, not its pace."""


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
        """What a line guessed at ``guessed_s`` will take; the guess itself until the voice has spoken."""
        return guessed_s * math.exp(self._log_factors.get(key, 0.0))

    def observe(self, key: PaceKey, guessed_s: float, spoken_s: float) -> None:
        """It took ``spoken_s`` to say a line guessed at ``guessed_s``. Lengths that are not positive teach nothing."""
        if not (0 < guessed_s < math.inf and 0 < spoken_s < math.inf):
            return
        bound = math.log(MAX_FACTOR)
        found = min(bound, max(-bound, math.log(spoken_s) - math.log(guessed_s)))
        known = self._log_factors.get(key)
        self._log_factors[key] = found if known is None else known + WEIGHT * (found - known)
