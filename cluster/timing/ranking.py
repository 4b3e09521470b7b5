"""Ranks the translations of a line: by similarity to the source first, then by the time they take.

A pure function over what is known before anything is synthesised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from cluster.timing.config import RankConfig

MIN_SLOT_S = 0.05
"""A slot of no length has no ratio to anything."""


class Standing(StrEnum):
    """The reason why a candidate is said, or is not."""

    CHOSEN = "chosen"
    LESS_NEAR = "less_near"
    """Similar enough to the source, but the most similar candidate fits well enough."""
    WORSE_FIT = "worse_fit"
    """Similar enough to the source, but another candidate fits the time better."""
    FAR = "far"
    """Less similar to the source than the best candidate, by more than the tolerance."""
    FAILED = "failed"
    """Was spoken and failed its check; another candidate did better."""
    UNPLANNED = "unplanned"
    """The speech engine could not say it, or never was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A candidate's similarity and duration."""

    cosine: float | None
    """Similarity to the source; None where no embedder reads both languages."""
    natural_s: float | None
    """Predicted duration; None if it could not be planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Candidates in the order in which they may be said."""

    order: tuple[int, ...]
    """Candidates that may be said, best first; empty only if none could be planned."""
    far: tuple[int, ...]
    """Candidates too far from the source to be said; nearest first."""
    nearest: int | None
    """The most similar of those that may be said; None if there is none, or if cosines are missing."""
    penalties: tuple[float | None, ...]
    """Per candidate, in the order given; None without a duration."""

    def standing(self, index: int, chosen: int | None) -> Standing:
        if index == chosen:
            return Standing.CHOSEN
        if self.penalties[index] is None:
            return Standing.UNPLANNED
        if index in self.far:
            return Standing.FAR
        return Standing.LESS_NEAR if chosen == self.nearest else Standing.WORSE_FIT


def penalty(natural_s: float, slot_s: float, config: RankConfig) -> float:
    """Zero for a line that fills between four fifths and all of its slot; the longer or shorter, the more."""
    ratio = math.log(max(natural_s, MIN_SLOT_S) / max(slot_s, MIN_SLOT_S))
    late, early = max(0.0, ratio), max(0.0, -ratio - math.log(config.early_ratio))
    return config.late_weight * late**2 + config.early_weight * early**2


def rank(candidates: Sequence[Scored], slot_s: float, config: RankConfig) -> Ranking:
    """Rank by penalty those within the tolerance of the highest similarity; ties by similarity, then as given.

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
