"""A disk that loses what was not synced: every state that a power cut may leave of a folder.

Operations of ``os`` are recorded while they run on a real folder. A power cut keeps what was synced: the content of a
file by ``fsync`` of the file, names by ``fsync`` of their folder. Of the rest it keeps any part: each change of a name
may have happened or not, a rename as one, and content may be missing, of zeros, cut off or whole. POSIX promises no
more.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

RECORDED = ("fsync", "replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir")
MAX_PENDING = 7
"""Of more changes that are not synced, only the oldest and the newest are lost, one at a time and all after one."""

Name = tuple[int, str]
"""A folder's number, and the name of an entry in it."""
Change = Mapping[Name, int | None]
"""Entries that change together: the file's or folder's number, or None for an entry that goes."""


@dataclass(kw_only=True)
class _Inode:
    is_folder: bool
    data: bytes = b""
    synced: bytes = b""

    def after_a_cut(self) -> list[bytes]:
        """All contents that a power cut may leave."""
        if self.data == self.synced:
            return [self.data]
        return list(dict.fromkeys((self.synced, bytes(len(self.data)), self.data[: len(self.data) // 2], self.data)))


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What a power cut left: the content of each file by its path, and the notes made before it."""

    files: Mapping[str, bytes]
    folders: frozenset[str]
    notes: tuple[str, ...]

    def write(self, to: Path) -> Path:
        """Make the folder as the power cut left it."""
        shutil.rmtree(to, ignore_errors=True)
        for folder in ("", *sorted(self.folders)):
            (to / folder).mkdir(parents=True, exist_ok=True)
        for name, data in self.files.items():
            (to / name).write_bytes(data)
        return to


@dataclass(kw_only=True)
class Disk:
    """A folder whose changes are recorded."""

    root: Path
    cuts: dict[tuple[Any, ...], Cut] = field(default_factory=dict)
    """Each state that a power cut may leave, once."""
    _inodes: dict[int, _Inode] = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)
    """The file system's number of a file that exists → ours, which is never used again."""
    _names: dict[Name, int] = field(default_factory=dict)
    _kept: dict[Name, int] = field(default_factory=dict)
    """Entries that a power cut keeps for certain, before the pending changes."""
    _pending: list[Change] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)

    def note(self, what: str) -> None:
        """Somebody was told something: what is read after a later power cut must agree."""
        self.look()
        self._notes.append(what)
        self._cut()

    def sync_all(self) -> None:
        """As after a long time: all is on disk."""
        self.look()
        for inode in self._inodes.values():
            inode.synced = inode.data
        self._kept, self._pending = dict(self._names), []
        self.cuts.clear()
        self._cut()

    def look(self) -> None:
        """Record what changed since the last look."""
        names = self._scan()
        gone = dict.fromkeys(self._names.keys() - names.keys())
        came = {name: number for name, number in names.items() if self._names.get(name) != number}
        if gone and came:  # a rename
            self._pending.append({**gone, **came})
        else:
            self._pending.extend({name: number} for name, number in {**gone, **came}.items())
        self._names = names
        self._cut()

    def synced(self, descriptor: int) -> None:
        """``fsync`` of a file or of a folder ended."""
        number = self._numbers.get(os.fstat(descriptor).st_ino)
        if number is None:
            return
        inode = self._inodes[number]
        inode.synced = inode.data
        if inode.is_folder:
            self._keep_names(number)
        self._cut()

    def _keep_names(self, number: int) -> None:
        """A folder was synced: its changes are kept, and older changes of the same names never come back."""
        still: list[Change] = []
        for change in self._pending:
            if any(folder == number for folder, _ in change):
                _apply(self._kept, change)
                still = [{name: to for name, to in each.items() if name not in change} for each in still]
            else:
                still.append(change)
        self._pending = [change for change in still if change]

    def _scan(self) -> dict[Name, int]:
        numbers: dict[int, int] = {}
        names: dict[Name, int] = {}

        def visit(path: Path) -> int:
            found = path.lstat()
            number = self._numbers.get(found.st_ino, numbers.get(found.st_ino))
            if number is None:
                number = len(self._inodes)
                self._inodes[number] = _Inode(is_folder=stat.S_ISDIR(found.st_mode))
            numbers[found.st_ino] = number
            if self._inodes[number].is_folder:
                for child in sorted(path.iterdir()):
                    names[number, child.name] = visit(child)
            else:
                self._inodes[number].data = path.read_bytes()
            return number

        visit(self.root)
        self._numbers = numbers
        return names

    def _cut(self) -> None:
        """Add all states that a power cut at this moment may leave."""
        for kept in _subsets(self._pending):
            names = dict(self._kept)
            for change in kept:
                _apply(names, change)
            tree = dict(_tree(names, 0, ""))
            folders = frozenset(path for path, number in tree.items() if self._inodes[number].is_folder)
            files = {path: number for path, number in tree.items() if path not in folders}
            numbers = sorted(set(files.values()))
            for contents in itertools.product(*(self._inodes[number].after_a_cut() for number in numbers)):
                of = dict(zip(numbers, contents, strict=True))
                data = {path: of[number] for path, number in files.items()}
                cut = Cut(files=data, folders=folders, notes=tuple(self._notes))
                self.cuts[tuple(sorted(data.items())), folders, cut.notes] = cut


def _apply(names: dict[Name, int], change: Change) -> None:
    for name, number in change.items():
        if number is None:
            names.pop(name, None)
        else:
            names[name] = number


def _subsets(changes: list[Change]) -> Iterator[list[Change]]:
    if len(changes) <= MAX_PENDING:
        for chosen in itertools.product((False, True), repeat=len(changes)):
            yield list(itertools.compress(changes, chosen))
        return
    for at in range(len(changes) + 1):
        yield changes[:at]
        yield changes[:at] + changes[at + 1 :]


def _tree(names: Mapping[Name, int], folder: int, path: str) -> Iterator[tuple[str, int]]:
    """Every path below a folder, with its number."""
    for (parent, name), number in names.items():
        if parent == folder:
            below = f"{path}/{name}" if path else name
            yield below, number
            yield from _tree(names, number, below)


@contextmanager
def recorded(root: Path) -> Iterator[Disk]:
    """Record the operations of this process on a folder."""
    disk = Disk(root=root)
    disk.sync_all()
    with pytest.MonkeyPatch.context() as patch:
        for name in RECORDED:
            patch.setattr(os, name, _noticed(disk, name, getattr(os, name)))
        yield disk
        disk.look()


def _noticed(disk: Disk, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def noticed(*arguments: Any, **options: Any) -> Any:
        disk.look()  # what was written since, by calls that are not recorded
        result = call(*arguments, **options)
        if name == "fsync":
            disk.synced(arguments[0])
        else:
            disk.look()
        return result

    return noticed
