"""Fits a line to the time it has: the candidate, its rate, its end; and the reason.

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

from actors.types import Span
from cluster.timing.config import FitConfig


class Rung(StrEnum):
    """The step of the fitting ladder by which a line was made to fit."""

    NATURAL = "natural"
    OVERFLOW = "overflow"
    FASTER = "faster"
    STRETCHED = "stretched"
    CUT = "cut"
    NO_ROOM = "no_room"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLength:
    """Length of one candidate, as the speech engine planned it."""

    natural_s: float
    shortest_s: float
    """The voice's floor: no plan is faster."""
    exact: bool
    """False: the engine speaks at its natural length only, and is stretched afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The time and rate at which a line is spoken."""

    rung: Rung
    spoken_s: float
    """Length to ask the engine for."""
    duration_s: float
    """Length of the sound, after stretching. Shorter than ``spoken_s`` if the line is stretched."""
    rate: float
    """Natural length over final length: 1.0 is the voice's calibrated rate."""
    lead_s: float = 0.0
    """Seconds before its slot at which it starts."""

    @property
    def stretch(self) -> float:
        """Tempo factor applied to the finished audio; 1.0 leaves it alone."""
        return self.spoken_s / self.duration_s if self.duration_s else 1.0


def room_s(slot: Span, room_end_s: float, config: FitConfig) -> float:
    """Seconds a line may sound: until the gap before the next speech."""
    return max(0.0, room_end_s - config.gap_s - slot.start_s)


def choose(candidates: Sequence[Sequence[PlannedLength]], rooms_s: Sequence[float], config: FitConfig) -> int:
    """Index of the candidate to say. Candidates come best first, each with a length for each of a unit's lines.

    The first that fits at its natural length everywhere, else the first that needs only be hurried, else the shortest.
    """
    rates = [rate_needed(lines, rooms_s, config) for lines in candidates]
    for limit in (1.0, config.ordinary_rate):
        for index, rate in enumerate(rates):
            if rate <= limit:
                return index
    return min(range(len(rates)), key=rates.__getitem__)


def rate_needed(lines: Sequence[PlannedLength], rooms_s: Sequence[float], config: FitConfig) -> float:
    """Rate that the tightest of a unit's lines needs; up to 1.0 all of them fit at their natural length."""
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
    The result never ends after ``room_end_s − gap_s``, nor starts before ``free_from_s + gap_s``. After CUT the
    caller must find fewer words: the line does not fit at ``max_rate``.
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
    """Lead at which a line would not be faster than the ordinary rate; at most ``max_lead_s``."""
    available_s = room_s(slot, room_end_s, config)
    if available_s < config.min_room_s:
        return 0.0
    return min(config.max_lead_s, max(0.0, planned.natural_s / config.ordinary_rate - available_s))


def _most_lead_s(slot: Span, config: FitConfig, free_from_s: float | None) -> float:
    if free_from_s is None:
        return 0.0
    return min(config.max_lead_s, max(0.0, slot.start_s - free_from_s - config.gap_s))
