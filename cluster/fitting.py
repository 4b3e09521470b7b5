"""Fitting a line to the time it has: which candidate, how fast, until when; and why.

A pure function over planned lengths, so that everything is decided before anything is synthesised.
The ladder, first rung that holds: natural length in its slot; overflow into the following pause;
another candidate; a faster plan down to the voice's intelligibility floor; time-stretch beyond it; a start
a little early, where nobody else sounds, for a line that would be hurried too much; cut at a word's end.
Short lines are not slowed to fill a slot, and the video is never slowed.
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
    max_lead_s: float = Field(default=0.25, ge=0, le=1)
    """A line starts at most this long before its source, and only if it would be faster than ordinary otherwise."""
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
    spoken_s: float
    """Length to ask the engine for."""
    duration_s: float
    """Length after stretching: what sounds. Shorter than ``spoken_s`` if the line is stretched."""
    rate: float
    """Natural length over final length: 1.0 is the voice's calibrated rate."""
    lead_s: float = 0.0
    """How long before its slot it starts."""

    @property
    def stretch(self) -> float:
        """Tempo factor applied to the finished audio; 1.0 leaves it alone."""
        return self.spoken_s / self.duration_s if self.duration_s else 1.0


def room_s(slot: Span, room_end_s: float, config: FitConfig) -> float:
    """Seconds a line may sound: until the gap before the next speech."""
    return max(0.0, room_end_s - config.gap_s - slot.start_s)


def choose(candidates: Sequence[Sequence[PlannedLength]], rooms_s: Sequence[float], config: FitConfig) -> int:
    """Index of the candidate to say, of some that are given best first: each has a length for each of a unit's lines.

    The first that fits at its natural length everywhere, else the first that needs only be hurried, else the shortest.
    """
    rates = [rate_needed(lines, rooms_s, config) for lines in candidates]
    for limit in (1.0, config.ordinary_rate):
        for index, rate in enumerate(rates):
            if rate <= limit:
                return index
    return min(range(len(rates)), key=rates.__getitem__)


def rate_needed(lines: Sequence[PlannedLength], rooms_s: Sequence[float], config: FitConfig) -> float:
    """Of the tightest of a unit's lines; up to 1.0 all of them fit at their natural length."""
    return max(line.natural_s / max(room, config.min_room_s) for line, room in zip(lines, rooms_s, strict=True))


def fit(
    planned: PlannedLength,
    slot: Span,
    room_end_s: float,
    config: FitConfig,
    *,
    free_from_s: float | None = None,
    wanted_s: float = 0.0,
) -> Fit:
    """Fit a line that starts at ``slot.start_s``, or a little before.

    ``free_from_s`` is where the line before ends; None if that is not known, and this one may not start early.
    ``wanted_s`` is how much earlier than it may the line should end for the next one's sake; it does so as far
    as the ordinary rate allows.
    The result never ends after ``room_end_s − gap_s``, nor starts before ``free_from_s + gap_s``. A CUT
    is the caller's to make: the line does not fit at ``max_rate``, and fewer words must be found that do.
    """
    available_s = room_s(slot, room_end_s, config)
    natural_s = planned.natural_s
    if available_s < config.min_room_s:
        return Fit(rung=Rung.NO_ROOM, spoken_s=0.0, duration_s=0.0, rate=1.0)
    available_s -= min(wanted_s, max(0.0, available_s - natural_s / config.ordinary_rate))
    if natural_s <= available_s:
        rung = Rung.NATURAL if natural_s <= slot.duration_s else Rung.OVERFLOW
        return Fit(rung=rung, spoken_s=natural_s, duration_s=natural_s, rate=1.0)
    lead_s = min(_most_lead_s(slot, config, free_from_s), lead_wanted_s(planned, slot, room_end_s, config))
    duration_s = available_s + lead_s
    rate = natural_s / duration_s
    spoken_s = max(planned.shortest_s if planned.exact else natural_s, duration_s)
    if rate > config.max_rate:
        rung = Rung.CUT
    elif spoken_s > duration_s:
        rung = Rung.STRETCHED
    else:
        rung = Rung.FASTER
    return Fit(rung=rung, spoken_s=spoken_s, duration_s=duration_s, rate=rate, lead_s=lead_s)


def lead_wanted_s(planned: PlannedLength, slot: Span, room_end_s: float, config: FitConfig) -> float:
    """How long before its slot a line would have to start not to be faster than ordinary; at most what is allowed."""
    available_s = room_s(slot, room_end_s, config)
    if available_s < config.min_room_s:
        return 0.0
    return min(config.max_lead_s, max(0.0, planned.natural_s / config.ordinary_rate - available_s))


def _most_lead_s(slot: Span, config: FitConfig, free_from_s: float | None) -> float:
    if free_from_s is None:
        return 0.0
    return min(config.max_lead_s, max(0.0, slot.start_s - free_from_s - config.gap_s))
