"""Which of several translations of a line to say: by meaning first, then by how well it fills its time.

A pure function over what is known before anything is synthesised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

MIN_SLOT_S = 0.05
"""A slot of no length has no ratio to anything."""


class RankConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    cosine_tolerance: float = Field(default=0.05, ge=0, le=2)
    """A candidate this much further from the source than the nearest one still means the same."""
    nearest_rate: float = Field(default=1.1, ge=1, le=2)
    """The nearest in meaning is said if it fits at this rate. Taking others only for lines that would be faster still
    costs no line its time, and on average no meaning: docs/benchmarks.md."""
    late_weight: float = Field(default=8.0, ge=0)
    """Of the squared logarithm by which a line is longer than its slot."""
    early_weight: float = Field(default=2.0, ge=0)
    """Of the squared logarithm by which it is shorter than the slot by more than ``early_ratio``."""
    early_ratio: float = Field(default=1.25, ge=1)


class Standing(StrEnum):
    """Why a candidate is said, or is not."""

    CHOSEN = "chosen"
    LESS_NEAR = "less_near"
    """Means the same, but the one nearest in meaning fits well enough."""
    WORSE_FIT = "worse_fit"
    """Means the same, but another fits the time better."""
    FAR = "far"
    """Means less than the best by more than the tolerance."""
    FAILED = "failed"
    """Was said and failed its check; another did better."""
    UNPLANNED = "unplanned"
    """The speech engine could not say it, or never was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What is known of a candidate."""

    cosine: float | None
    """With the source; None where no embedding reads both languages."""
    natural_s: float | None
    """Predicted duration; None if it could not be planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    order: tuple[int, ...]
    """Candidates that may be said, best first; empty only if none could be planned."""
    far: tuple[int, ...]
    """Those that may not, for their meaning; nearest first."""
    nearest: int | None
    """Of those that may be said; None if there is none, or no cosine to tell by."""
    penalties: tuple[float | None, ...]
    """Of every candidate, in the order given; None without a duration."""

    def standing(self, index: int, chosen: int | None) -> Standing:
        if index == chosen:
            return Standing.CHOSEN
        if self.penalties[index] is None:
            return Standing.UNPLANNED
        if index in self.far:
            return Standing.FAR
        return Standing.LESS_NEAR if chosen == self.nearest else Standing.WORSE_FIT


def penalty(natural_s: float, slot_s: float, config: RankConfig) -> float:
    """Nothing for a line that fills four fifths of its slot to all of it, more the longer or the shorter it is."""
    ratio = math.log(max(natural_s, MIN_SLOT_S) / max(slot_s, MIN_SLOT_S))
    late, early = max(0.0, ratio), max(0.0, -ratio - math.log(config.early_ratio))
    return config.late_weight * late**2 + config.early_weight * early**2


def rank(candidates: Sequence[Scored], slot_s: float, config: RankConfig) -> Ranking:
    """Least penalty first among those within the tolerance of the best meaning; ties by meaning, then as given.

    Without a cosine of every planned candidate, nothing protects the meaning but the translator's own
    order, which is kept.
    """
    penalties = tuple(
        None if scored.natural_s is None else penalty(scored.natural_s, slot_s, config) for scored in candidates
    )
    planned = [index for index, value in enumerate(penalties) if value is not None]
    cosines = {index: cosine for index in planned if (cosine := candidates[index].cosine) is not None}
    if len(cosines) < len(planned) or not planned:
        return Ranking(order=tuple(planned), far=(), nearest=None, penalties=penalties)
    nearest = max(cosines, key=lambda index: (cosines[index], -index))
    lowest = cosines[nearest] - config.cosine_tolerance
    order = sorted(
        (index for index in planned if cosines[index] >= lowest),
        key=lambda index: (penalties[index] or 0.0, -cosines[index], index),
    )
    far = sorted((index for index in planned if cosines[index] < lowest), key=lambda index: (-cosines[index], index))
    return Ranking(order=tuple(order), far=tuple(far), nearest=nearest, penalties=penalties)
