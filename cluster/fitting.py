"""Fitting a line to the time it has: which candidate, how fast, until when; and why.

A pure function over planned lengths, so that everything is decided before anything is synthesised.
The ladder, first rung that holds: natural length in its slot; overflow into the following pause;
another candidate; a faster plan down to the voice's intelligibility floor; time-stretch beyond it;
cut at a word's end. Short lines are not slowed to fill a slot, and the video is never slowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, model_validator

from actors.types import Span


class FitConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    gap_s: float = Field(default=0.05, ge=0, le=1)
    """Silence left before the next speech."""
    ordinary_rate: float = Field(default=1.2, ge=1, le=2)
    """Up to here a line is only hurried; beyond it is flagged. 1.0 is the voice's calibrated rate."""
    max_rate: float = Field(default=1.4, ge=1, le=2)
    """No line is spoken faster, whatever its slot: it is cut instead."""
    min_room_s: float = Field(default=0.15, ge=0.02, le=2)
    """With less room than this nothing is said, and the original is kept."""

    @model_validator(mode="after")
    def _rates_in_order(self) -> FitConfig:
        if self.ordinary_rate > self.max_rate:
            raise ValueError(f"ordinary_rate must not exceed max_rate; found {self.ordinary_rate} > {self.max_rate}")
        return self


class Rung(StrEnum):
    """How a line was made to fit."""

    NATURAL = "natural"
    OVERFLOW = "overflow"
    FASTER = "faster"
    STRETCHED = "stretched"
    CUT = "cut"
    NO_ROOM = "no_room"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLength:
    """One candidate, as the speech engine planned it."""

    natural_s: float
    shortest_s: float
    """The voice's floor: no plan is faster."""
    exact: bool
    """False: the engine speaks at its natural length only, and is stretched afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    rung: Rung
    candidate: int
    """Index of the chosen candidate."""
    spoken_s: float
    """Length to ask the engine for."""
    duration_s: float
    """Length after stretching: what sounds. Shorter than ``spoken_s`` if the line is stretched."""
    rate: float
    """Natural length over final length: 1.0 is the voice's calibrated rate."""

    @property
    def stretch(self) -> float:
        """Tempo factor applied to the finished audio; 1.0 leaves it alone."""
        return self.spoken_s / self.duration_s if self.duration_s else 1.0


def room_s(slot: Span, room_end_s: float, config: FitConfig) -> float:
    """Seconds a line may sound: until the gap before the next speech."""
    return max(0.0, room_end_s - config.gap_s - slot.start_s)


def fit(candidates: Sequence[PlannedLength], slot: Span, room_end_s: float, config: FitConfig) -> Fit:
    """Choose among ``candidates`` (best meaning first) for a line that starts at ``slot.start_s``.

    The result never ends after ``room_end_s − gap_s``. A CUT is the caller's to make: no candidate
    fits at ``max_rate``, and fewer words must be found that do.
    """
    available_s = room_s(slot, room_end_s, config)
    if available_s < config.min_room_s:
        return Fit(rung=Rung.NO_ROOM, candidate=0, spoken_s=0.0, duration_s=0.0, rate=1.0)
    index = _first_within(candidates, available_s)
    if index is not None:
        natural_s = candidates[index].natural_s
        rung = Rung.NATURAL if natural_s <= slot.duration_s else Rung.OVERFLOW
        return Fit(rung=rung, candidate=index, spoken_s=natural_s, duration_s=natural_s, rate=1.0)
    index = _first_within(candidates, available_s * config.ordinary_rate)
    if index is None:
        index = min(range(len(candidates)), key=lambda i: candidates[i].natural_s)
    chosen = candidates[index]
    rate = chosen.natural_s / available_s
    fastest_s = chosen.shortest_s if chosen.exact else chosen.natural_s
    spoken_s = max(fastest_s, available_s)
    if rate > config.max_rate:
        rung = Rung.CUT
    elif spoken_s > available_s:
        rung = Rung.STRETCHED
    else:
        rung = Rung.FASTER
    return Fit(rung=rung, candidate=index, spoken_s=spoken_s, duration_s=available_s, rate=rate)


def _first_within(candidates: Sequence[PlannedLength], limit_s: float) -> int | None:
    return next((index for index, candidate in enumerate(candidates) if candidate.natural_s <= limit_s), None)
