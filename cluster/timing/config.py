"""Settings of grouping, candidate ranking and fitting."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class GroupConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    phrase_pause_s: float = Field(default=0.35, ge=0.05, le=5)
    """A silence this long inside a sentence starts a new segment, which is dubbed at its own time."""
    min_phrase_s: float = Field(default=1.0, ge=0, le=10)
    """No segment shorter than this is cut out of a sentence: fragments sound chopped."""
    unit_pause_s: float = Field(default=1.5, ge=0.1, le=30)
    """A silence this long ends a unit even without a full stop."""
    max_unit_s: float = Field(default=20.0, ge=1, le=60)
    """A unit is closed at the next pause once it is this long."""
    max_wait_s: float = Field(default=40.0, ge=0, le=600)
    """Longest that a unit's first segment, once heard, waits for the sentence's end, in media time. If the window
    after may end later than that, the unit is closed without. 0: no sentence is continued in another window."""


class RankConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    cosine_tolerance: float = Field(default=0.05, ge=0, le=2)
    """A candidate this much further from the source than the nearest one still means the same."""
    nearest_rate: float = Field(default=1.1, ge=1, le=2)
    """The nearest in meaning is said if it fits at this rate. Taking others only for lines that would be faster still
    costs no line its time, and on average no meaning: docs/benchmarks.md."""
    late_weight: float = Field(default=8.0, ge=0)
    """Weight of the squared logarithm of a line's length over its slot, if it is longer."""
    early_weight: float = Field(default=2.0, ge=0)
    """The same for a line that is shorter than its slot by more than ``early_ratio``."""
    early_ratio: float = Field(default=1.25, ge=1)


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
