"""Progress of one video through the pipeline."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from cluster.metrics import jobs
from cluster.pools.fairness import JobPriority

log = logging.getLogger(__name__)


class Stage(StrEnum):
    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"
    SPEAK = "speak"
    MIX = "mix"


@dataclass(slots=True, kw_only=True)
class Progress:
    """Progress of one video. ``on_change`` is called on the event loop after every step."""

    job: str
    priority: int = 0
    """Priority class of its work in the pools; a higher one is served sooner."""
    number: int = field(default_factory=itertools.count().__next__)
    """Distinguishes jobs of the same name in this process."""
    on_change: Callable[[Progress], None] = lambda _: None
    duration_s: float = 0.0
    """Duration of the media; 0 until known."""
    plan: str = ""
    """One line for people, before the work: the track, and what becomes of each stream; empty until known."""
    reached_s: dict[tuple[Stage, str], float] = field(default_factory=dict)
    """(stage, target language or "") → media time up to which the stage is done."""
    num_done: dict[tuple[Stage, str], int] = field(default_factory=dict)
    """(stage, target language or "") → windows, units or utterances done."""
    started_s: float = field(default_factory=time.monotonic)
    first_utterance_s: float | None = None
    """Wall seconds until the first dubbed utterance was ready; None if every line keeps its original sound."""

    @property
    def job_priority(self) -> JobPriority:
        # The number is there as inputs in several folders may have the same name.
        return JobPriority(name=f"{self.job}#{self.number}", priority=self.priority, media_s=self.duration_s)

    def begin(self, duration_s: float, plan: str = "") -> None:
        log.info("plan job=%s %s", self.job, plan)
        self.duration_s, self.plan = duration_s, plan
        self.on_change(self)

    def advance(self, stage: Stage, reached_s: float, target: str = "") -> None:
        key = (stage, target)
        before_s = self.reached_s.get(key, 0.0)
        self.reached_s[key] = max(before_s, reached_s)
        self.num_done[key] = self.num_done.get(key, 0) + 1
        jobs.advance(
            self.number,
            self.lag_s,
            num_segments=1 if stage is Stage.SPEAK else 0,
            mixed_s=self.reached_s[key] - before_s if stage is Stage.MIX else 0.0,
        )
        self.on_change(self)

    def note_utterance(self) -> None:
        """Record that a dubbed utterance is ready."""
        if self.first_utterance_s is None:
            self.first_utterance_s = self.elapsed_s

    def due_s(self, media_s: float) -> float:
        """Time at which a viewer who pressed play at the start would hear this; it orders the work."""
        return self.started_s + media_s

    @property
    def lag_s(self) -> float:
        """Seconds of media that were heard, but are not mixed yet in the language that is furthest behind."""
        heard_s = self.reached_s.get((Stage.TRANSCRIBE, ""), 0.0)
        mixed_s = [reached_s for (stage, _), reached_s in self.reached_s.items() if stage is Stage.MIX]
        return max(0.0, heard_s - min(mixed_s, default=0.0))

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started_s
