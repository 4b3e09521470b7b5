"""How far a video is, told to whoever watches."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Stage(StrEnum):
    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"
    SPEAK = "speak"
    MIX = "mix"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """For whom a pool works."""

    job: str = ""
    """Jobs take turns."""
    priority: int = 0
    """The higher, the sooner."""
    media_s: float = 0.0
    """Its length; 0 if that is not known."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """Of one video. ``on_change`` is called on the event loop after every step."""

    job: str
    priority: int = 0
    """Of its work in the pools: the higher, the sooner."""
    number: int = field(default_factory=itertools.count().__next__)
    """Tells jobs of one name apart, in this process."""
    on_change: Callable[[Progress], None] = lambda _: None
    duration_s: float = 0.0
    """Of the media; 0 until it is known."""
    reached_s: dict[tuple[Stage, str], float] = field(default_factory=dict)
    """(stage, target language or "") → media time up to which the stage is done."""
    num_done: dict[tuple[Stage, str], int] = field(default_factory=dict)
    """(stage, target language or "") → windows, units or utterances done."""
    started_s: float = field(default_factory=time.monotonic)
    first_utterance_s: float | None = None
    """Wall seconds until the first dubbed utterance was ready; None if every line keeps its original sound."""

    @property
    def asker(self) -> Asker:
        # Inputs of one name, from many folders, are many jobs.
        return Asker(job=f"{self.job}#{self.number}", priority=self.priority, media_s=self.duration_s)

    def begin(self, duration_s: float) -> None:
        self.duration_s = duration_s
        self.on_change(self)

    def advance(self, stage: Stage, reached_s: float, target: str = "") -> None:
        key = (stage, target)
        self.reached_s[key] = max(self.reached_s.get(key, 0.0), reached_s)
        self.num_done[key] = self.num_done.get(key, 0) + 1
        self.on_change(self)

    def note_utterance(self) -> None:
        """A dubbed utterance is ready."""
        if self.first_utterance_s is None:
            self.first_utterance_s = self.elapsed_s

    def due_s(self, media_s: float) -> float:
        """When a viewer who pressed play at the start would hear this: orders its work."""
        return self.started_s + media_s

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started_s
