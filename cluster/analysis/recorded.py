"""Finished dubs as their files tell of them: manifests, and the statuses that a batch writes beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from actors.errors import ConfigError, MediaError
from cluster import manifest
from cluster.batch.ledger import STATUS_NAME, ItemStatus
from cluster.manifest import Manifest
from cluster.storage.outputs import MANIFEST_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDub:
    """One item: its results, its status in a batch, or both."""

    manifest: Manifest | None
    """None if it has no results."""
    status: ItemStatus | None
    """None outside of a batch."""

    @property
    def num_segments(self) -> int:
        """Segments of the results, once a target language."""
        return 0 if self.manifest is None else sum(len(dub.utterances) for dub in self.manifest.dubs)

    @property
    def span_s(self) -> tuple[float, float] | None:
        """When its dub began and ended, in seconds since 1970; None if its files do not tell."""
        if self.manifest is None or self.status is None or self.status.ended is None:
            return None
        end_s = datetime.fromisoformat(self.status.ended).timestamp()
        return end_s - self.manifest.timings.wall_s, end_s


def read_dubs(paths: Sequence[Path]) -> list[RecordedDub]:
    """The dubs at these paths: manifests, folders of dubs, and folders of batches.

    Raises ConfigError if a path holds none, MediaError if a file is not one of this version.
    """
    found: dict[Path, None] = {}
    for path in paths:
        folders = _folders(path)
        if not folders:
            raise ConfigError(
                f"each path must be a {MANIFEST_NAME}, or the folder of a dub or of a batch; found {path}; give what "
                "raydub dub or raydub submit wrote"
            )
        found |= dict.fromkeys(folder.resolve() for folder in folders)
    return [_read(folder) for folder in found]


def _folders(path: Path) -> list[Path]:
    """The folders of dubs that a path names."""
    if path.is_file():
        return [path.parent] if path.name == MANIFEST_NAME else []
    folders = [path, *sorted(status.parent for status in path.glob(f"*/{STATUS_NAME}"))]
    return [folder for folder in folders if (folder / MANIFEST_NAME).is_file() or (folder / STATUS_NAME).is_file()]


def _read(folder: Path) -> RecordedDub:
    path, status_path = folder / MANIFEST_NAME, folder / STATUS_NAME
    try:
        return RecordedDub(
            manifest=manifest.read(path) if path.is_file() else None,
            status=ItemStatus.model_validate_json(status_path.read_bytes()) if status_path.is_file() else None,
        )
    except (ValidationError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise MediaError(f"{folder} must have files of this version of raydub; {reason}; dub it again") from error


def describe(dubs: Sequence[RecordedDub]) -> str:
    """The dubs and the engines that made them, in words."""
    made = [dub.manifest for dub in dubs if dub.manifest is not None]
    pools = [pool for manifest in made for pool in manifest.timings.pools if pool.num_items or pool.num_hits]
    engines = sorted({pool.name for pool in pools})
    return f"{len(dubs)} dub{'s' if len(dubs) != 1 else ''} by {', '.join(engines) or 'no engine'}"
