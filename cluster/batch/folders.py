"""Checks that the results of a batch's items are in folders apart from each other and from the inputs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from actors.errors import ConfigError
from cluster.pipeline import Job
from cluster.storage import locations


class JobFolder(NamedTuple):
    """The places of a job's input and results: paths or URLs."""

    source: str
    out: str
    is_local: bool
    """True if both are paths of this machine."""


def check_outputs(jobs: Sequence[Job]) -> None:
    """Raise ConfigError if two jobs write to one folder, or a job writes to the folder of its input."""
    check_folders(JobFolder(job.source_location, job.out_location, job.remote is None) for job in jobs)


def check_folders(folders: Iterable[JobFolder]) -> None:
    """Raise ConfigError as ``check_outputs``."""
    by_out: dict[str, str] = {}
    links = _Links()
    for number, (source, out, is_local) in enumerate(folders, 1):
        other = by_out.setdefault(out, source)
        if len(by_out) < number:
            one, two = locations.for_people(other), locations.for_people(source)
            raise ConfigError(
                f"inputs must differ in name, because each gets its own folder; {one} and {two} would both write "
                f"{out}; give one a `name` in a manifest, or dub them with different --out"
            )
        if is_local and links.folder_of(source) == links.real(out):
            raise ConfigError(
                f"an input must not be in the folder of its results, which may replace it; {source} is in "
                f"{out}; choose another --out"
            )


@dataclass(slots=True)
class _Links:
    """Real paths of files in few folders: each folder is resolved once, and its files only if they are links."""

    folders: dict[str, str] = field(default_factory=dict)

    def folder_of(self, path: str) -> str:
        """The real folder of a file."""
        folder, name = os.path.split(path)
        return os.path.dirname(os.path.realpath(path)) if _may_lead_away(path, name) else self._resolved(folder)

    def real(self, path: str) -> str:
        folder, name = os.path.split(path)
        return os.path.realpath(path) if _may_lead_away(path, name) else os.path.join(self._resolved(folder), name)

    def _resolved(self, folder: str) -> str:
        real = self.folders.get(folder)
        if real is None:
            real = self.folders[folder] = os.path.realpath(folder)
        return real


def _may_lead_away(path: str, name: str) -> bool:
    return name in ("", ".", "..") or os.path.islink(path)
