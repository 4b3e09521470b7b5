"""A dub once more, from its manifest: what a person edited, or one utterance afresh; the rest comes from the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from actors.errors import ConfigError
from cluster.config import Config, recorded_config
from cluster.given import Given, read_given
from cluster.pipeline import Job


def job_again(
    manifest: Path, *, source: Path | None, out: Path | None, only: Sequence[str], assignments: Sequence[str]
) -> tuple[Job, Config]:
    """The job and its configuration, as the manifest has them.

    ``source`` is for one that has moved, ``out`` for results elsewhere than beside the manifest. Raises ConfigError.
    """
    given = read_given(manifest, only)
    config = recorded_config(given.manifest.config, assignments)
    given.check(config)
    job = Job(
        source=_source(given, source, manifest),
        targets=given.targets,
        source_language=given.language,
        audio_track=given.manifest.input.audio_track.number,
        out=manifest.absolute().parent if out is None else out,
        given=given,
    )
    return job, config


def _source(given: Given, source: Path | None, manifest: Path) -> Path:
    recorded = given.manifest.input
    path = Path(recorded.path) if source is None else source
    if not path.is_file():
        raise ConfigError(
            f"the input of {manifest} must be where it was, or be named; there is no file {path}; "
            f"run: raydub dub {recorded.name} --from-manifest {manifest}"
        )
    num_bytes = path.stat().st_size
    if num_bytes != recorded.num_bytes:
        raise ConfigError(
            f"the input must be the one that {manifest} is of, of {recorded.num_bytes} bytes; "
            f"{path} has {num_bytes}; dub a changed input anew"
        )
    return path
