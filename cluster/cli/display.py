"""Progress of a run for a person: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from cluster.batch.runner import ItemOutcome
from cluster.logs import CONTROL_CHARACTERS
from cluster.manifest import Manifest
from cluster.report.remarks import lines_to_look_at, remarks
from cluster.steps.progress import Progress, Stage
from cluster.storage import locations
from cluster.storage.outputs import REPORT_NAME

PLAIN_INTERVAL_S = 5.0


class SteadyConsole(Console):
    """A console whose reader may go away, as with ``raydub dub … | head``: the work goes on unheard."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with open(os.devnull, "w") as nowhere:  # what is still buffered has somewhere to go
            os.dup2(nowhere.fileno(), self.file.fileno())


def one_line(name: str) -> str:
    """A file name as one line: a line feed in it must not break the progress."""
    return name.translate(CONTROL_CHARACTERS)


class Display(ABC):
    """Shows progress and outcomes; a context manager."""

    def __init__(self, console: Console, num_jobs: int = 1) -> None:
        self._console = console
        self._num_jobs = num_jobs
        self._started_s = time.monotonic()
        self._planned: set[int] = set()
        self._outcomes: list[ItemOutcome] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, progress: Progress) -> None:
        """Show the progress of a video; before its first, the plan for it."""
        if progress.plan and progress.number not in self._planned:
            self._planned.add(progress.number)
            self._print(f"{one_line(progress.job)}: {progress.plan}")
        self._show(progress)

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    @abstractmethod
    def _show(self, progress: Progress) -> None: ...

    def finish(self, outcome: ItemOutcome) -> None:
        """Print a line for a video that is done or failed, and which of how many it is."""
        self._outcomes.append(outcome)
        name = self._numbered(one_line(outcome.job.source.name))
        if outcome.manifest is None:
            self._print(f"{name}: failed: {outcome.error}", style="red")
            return
        self._print(f"{name}: {', '.join(_parts(outcome.manifest))}")
        for remark in remarks(outcome.manifest):
            self._print(f"  {remark}", style="yellow")
        for file in outcome.manifest.given_subtitles:
            for number, line in enumerate(file.lines()):
                self._print(f"{'    ' if number else '  '}{one_line(line)}")
        self._print(f"  {one_line(outcome.job.out_location)}")
        if (to_look_at := lines_to_look_at(outcome.manifest)) is not None:
            self._print(f"{to_look_at}: {one_line(locations.join(outcome.job.out_location, REPORT_NAME))}", "yellow")

    def _numbered(self, name: str) -> str:
        if self._num_jobs == 1:
            return name
        num_ended = len(self._outcomes)
        elapsed_s = time.monotonic() - self._started_s
        left_s = elapsed_s / num_ended * (self._num_jobs - num_ended)
        left = f", about {_duration(left_s)} left" if left_s > 0 else ""
        return f"[{num_ended}/{self._num_jobs}{left}] {name}"

    def summarise(self) -> None:
        """Print one line for a run of several inputs: done, to look at, failed, and where."""
        folders = sorted({outcome.job.out_location.rpartition("/")[0] or "." for outcome in self._outcomes})
        manifests = [outcome.manifest for outcome in self._outcomes if outcome.manifest is not None]
        num_flagged = sum(lines_to_look_at(manifest) is not None for manifest in manifests)
        num_failed = len(self._outcomes) - len(manifests)
        self._print(
            f"{self._num_jobs} inputs: {len(manifests)} done, {num_flagged} of them with flagged lines, "
            f"{num_failed} failed; results in {one_line(', '.join(folders[:3]))}"
        )


def _parts(manifest: Manifest) -> list[str]:
    first_s = manifest.timings.first_utterance_s
    return [
        manifest.status,
        *(flag.value for flag in manifest.flags),
        f"{sum(len(dub.utterances) for dub in manifest.dubs)} utterances",
        f"{manifest.timings.wall_s:.1f} s",
        f"{manifest.timings.realtime_factor:.1f}× realtime",
        *([f"first utterance after {first_s:.1f} s"] if first_s is not None else []),
    ]


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


class PlainDisplay(Display):
    """Prints a line per video every few seconds."""

    def __init__(self, console: Console, num_jobs: int = 1) -> None:
        super().__init__(console, num_jobs)
        self._last_s: dict[str, float] = {}

    def _show(self, progress: Progress) -> None:
        now_s = time.monotonic()
        if now_s - self._last_s.get(progress.job, 0.0) < PLAIN_INTERVAL_S or not progress.duration_s:
            return
        self._last_s[progress.job] = now_s
        stages = ", ".join(
            f"{_label(stage, target)} {reached_s:.0f}/{progress.duration_s:.0f} s"
            for (stage, target), reached_s in progress.reached_s.items()
        )
        self._print(f"{one_line(progress.job)}: {stages or 'starting'}")


class BarDisplay(Display):
    """Shows a bar per video and stage, over media time."""

    def __init__(self, console: Console, num_jobs: int = 1) -> None:
        super().__init__(console, num_jobs)
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

    def _show(self, progress: Progress) -> None:
        for (stage, target), reached_s in progress.reached_s.items():
            key = (progress.job, stage, target)
            if key not in self._tasks:
                self._tasks[key] = self._bars.add_task(
                    f"{one_line(progress.job)} {_label(stage, target)}", total=progress.duration_s, note=""
                )
            speed = reached_s / max(progress.elapsed_s, 1e-3)
            note = f"{speed:.1f}× · {progress.num_done[(stage, target)]} done"
            if stage is Stage.SPEAK and progress.first_utterance_s is not None:
                note += f" · first after {progress.first_utterance_s:.1f} s"
            self._bars.update(self._tasks[key], completed=reached_s, note=note)

    def finish(self, outcome: ItemOutcome) -> None:
        for key in [key for key in self._tasks if key[0] == outcome.job.source.name]:
            self._bars.remove_task(self._tasks.pop(key))
        super().finish(outcome)


def _label(stage: Stage, target: str) -> str:
    return f"{stage.value} {target}".strip()


def make_display(console: Console, num_jobs: int = 1) -> Display:
    return BarDisplay(console, num_jobs) if console.is_terminal else PlainDisplay(console, num_jobs)
