"""Builds the job that dubs again from a manifest, after edits or for single utterances.

Unchanged lines come from the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from actors.errors import ConfigError
from cluster.config.load import recorded_config
from cluster.config.schema import Config
from cluster.pipeline import Job
from cluster.steps.from_manifest import ManifestSource, read_manifest_source


def redub_job(
    manifest: Path, *, source: Path | None, out: Path | None, only: Sequence[str], assignments: Sequence[str]
) -> tuple[Job, Config]:
    """The job and its configuration, as the manifest records them.

    ``source`` is the input if it has moved; ``out`` is a folder for the results, by default the manifest's own.
    Raises ConfigError.
    """
    manifest_source = read_manifest_source(manifest, only)
    config = recorded_config(manifest_source.manifest.config, assignments)
    manifest_source.check(config)
    job = Job(
        source=_source(manifest_source, source, manifest),
        targets=manifest_source.targets,
        source_language=manifest_source.language,
        audio_track=manifest_source.manifest.input.audio_track.number,
        out=manifest.absolute().parent if out is None else out,
        manifest=manifest_source,
    )
    return job, config


def _source(manifest_source: ManifestSource, source: Path | None, manifest: Path) -> Path:
    recorded = manifest_source.manifest.input
    path = recorded.file if source is None else source
    if not path.is_file():
        raise ConfigError(
            f"the input of {manifest} must be where the manifest says, or be named; there is no file {path}; "
            f"run: raydub dub {recorded.name} --from-manifest {manifest}"
        )
    num_bytes = path.stat().st_size
    if num_bytes != recorded.num_bytes:
        raise ConfigError(
            f"the input must be the file that {manifest} was made from, with {recorded.num_bytes} bytes; "
            f"{path} has {num_bytes}; dub a changed input without --from-manifest"
        )
    return path
