"""The two trees that are compared, and the processes that measure in them."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

ROOT = Path(__file__).parents[2]
GUARD = Path("bench/guard")
VARIABLES = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "RAYDUB_STORE": "none", "RAY_AUTH_MODE": "disabled"}


class MeasureError(Exception):
    """A measure did not run."""


class OldTreeError(MeasureError):
    """A measure of the new tree does not run in the old one."""


@dataclass(frozen=True, kw_only=True)
class Trees:
    """Copies of the baseline and of the working tree, measured by the same code: that of the working tree."""

    old: Path
    new: Path


def git(*arguments: str) -> bytes:
    """Raises OSError, CalledProcessError."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout


def has_commit(revision: str) -> bool:
    """True if the history here goes back to it: a shallow clone may not."""
    try:
        git("cat-file", "-e", f"{revision}^{{commit}}")
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@contextmanager
def two_trees(baseline: str) -> Iterator[Trees]:
    """The baseline as it was committed, and the working tree as it is now: later edits have no part."""
    with tempfile.TemporaryDirectory(prefix="raydub-guard-") as folder:
        trees = Trees(old=Path(folder) / "old", new=Path(folder) / "new")
        with tarfile.open(fileobj=io.BytesIO(git("archive", baseline))) as archive:
            archive.extractall(trees.old, filter="data")
        for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard").decode().split("\0"):
            if name and (ROOT / name).is_file():
                (trees.new / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, trees.new / name)
        shutil.rmtree(trees.old / GUARD, ignore_errors=True)
        shutil.copytree(trees.new / GUARD, trees.old / GUARD)
        yield trees


class Worker:
    """A process that measures one thing in one tree, whenever it is asked to."""

    def __init__(self, tree: Path, measure: str) -> None:
        self._tree, self._measure = tree.name, measure
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.guard.measures", measure],
            cwd=tree,
            env=environment | VARIABLES | {"PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ready(self) -> None:
        """Wait until it is warm. Raises MeasureError."""
        self._line()

    def move_to(self, cpu: int) -> None:
        """Run all its threads on this processor."""
        for thread in psutil.Process(self._process.pid).threads():
            os.sched_setaffinity(thread.id, {cpu})

    def run(self) -> Mapping[str, float]:
        """Measure once. Raises MeasureError."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        values: dict[str, float] = json.loads(self._line())
        return values

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate()
            kind = OldTreeError if self._tree == "old" else MeasureError
            raise kind(f"{self._measure} must run in the {self._tree} tree; it ended: {errors[-2000:]}")
        return line


@contextmanager
def workers(trees: Trees, measure: str) -> Iterator[tuple[Worker, Worker]]:
    """Warm processes in the old tree and in the new one."""
    with ExitStack() as stack:
        old, new = (stack.enter_context(Worker(tree, measure)) for tree in (trees.old, trees.new))
        old.ready()
        new.ready()
        yield old, new
