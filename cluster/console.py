"""What a person sees while videos are dubbed: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from cluster.progress import Progress, Stage
from cluster.runner import Outcome

PLAIN_INTERVAL_S = 5.0


class Display(ABC):
    """Use as ``with display:``."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @abstractmethod
    def show(self, progress: Progress) -> None: ...

    def finish(self, outcome: Outcome) -> None:
        """One line for a video that is done or failed."""
        name = outcome.job.source.name
        if outcome.manifest is None:
            self._console.print(
                f"{name}: failed: {outcome.error}", style="red", markup=False, highlight=False, soft_wrap=True
            )
            return
        manifest = outcome.manifest
        utterances = [utterance for dub in manifest.dubs for utterance in dub.utterances]
        num_flagged = sum(bool(utterance.flags) for utterance in utterances)
        first_s = manifest.timings.first_utterance_s
        parts = [
            f"{name}: {manifest.status}",
            *(flag.value for flag in manifest.flags),
            f"{len(utterances)} utterances",
            f"{num_flagged} flagged",
            f"{manifest.timings.wall_s:.1f} s",
            f"{manifest.timings.realtime_factor:.1f}× realtime",
        ]
        if first_s is not None:
            parts.append(f"first utterance after {first_s:.1f} s")
        self._console.print(", ".join(parts), markup=False, highlight=False, soft_wrap=True)
        self._console.print(f"  {outcome.job.out_place}", markup=False, highlight=False, soft_wrap=True)


class PlainDisplay(Display):
    """A line every few seconds per video."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._last_s: dict[str, float] = {}

    def show(self, progress: Progress) -> None:
        now_s = time.monotonic()
        if now_s - self._last_s.get(progress.job, 0.0) < PLAIN_INTERVAL_S or not progress.duration_s:
            return
        self._last_s[progress.job] = now_s
        stages = ", ".join(
            f"{_label(stage, target)} {reached_s:.0f}/{progress.duration_s:.0f} s"
            for (stage, target), reached_s in progress.reached_s.items()
        )
        self._console.print(f"{progress.job}: {stages or 'starting'}", markup=False, highlight=False, soft_wrap=True)


class BarDisplay(Display):
    """A bar per video and stage, over media time."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} s {task.fields[note]}", markup=False),
            console=console,
            transient=True,
        )
        self._tasks: dict[tuple[str, Stage, str], TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, progress: Progress) -> None:
        for (stage, target), reached_s in progress.reached_s.items():
            key = (progress.job, stage, target)
            if key not in self._tasks:
                self._tasks[key] = self._bars.add_task(
                    f"{progress.job} {_label(stage, target)}", total=progress.duration_s, note=""
                )
            speed = reached_s / max(progress.elapsed_s, 1e-3)
            note = f"{speed:.1f}× · {progress.num_done[(stage, target)]} done"
            if stage is Stage.SPEAK and progress.first_utterance_s is not None:
                note += f" · first after {progress.first_utterance_s:.1f} s"
            self._bars.update(self._tasks[key], completed=reached_s, note=note)

    def finish(self, outcome: Outcome) -> None:
        for key in [key for key in self._tasks if key[0] == outcome.job.source.name]:
            self._bars.remove_task(self._tasks.pop(key))
        super().finish(outcome)


def _label(stage: Stage, target: str) -> str:
    return f"{stage.value} {target}".strip()


def make_display(console: Console) -> Display:
    return BarDisplay(console) if console.is_terminal else PlainDisplay(console)
