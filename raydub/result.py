"""The result of a dub: its files, its manifest, its status and flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from actors.errors import ConfigError
from cluster.flags import Flag
from cluster.manifest import DubRecord, Manifest, UtteranceRecord
from cluster.storage import locations
from cluster.storage.outputs import MANIFEST_NAME
from cluster.verdicts import VideoVerdict

REPORT_NAME = "report.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class DubResult:
    """A finished dub. Paths are of files that exist; with results in a bucket, use ``locate``."""

    source: str
    """Path or URL."""
    out: str
    """Folder of the results: path or URL."""
    manifest: Manifest
    """Everything that was heard, said, chosen and flagged."""

    @property
    def status(self) -> str:
        """``done``; ``degraded`` if some line is cut or keeps its original sound; ``unchanged`` without speech."""
        return self.manifest.status

    @property
    def flags(self) -> tuple[Flag, ...]:
        """Remarks about the input as a whole. Those of each line are in ``utterances``."""
        return self.manifest.flags

    @property
    def verdict(self) -> VideoVerdict | None:
        """The number of lines to look at, by flag too, and whether they are too many; None in old manifests."""
        return self.manifest.verdict

    def to_look_at(self, language: str | None = None) -> tuple[UtteranceRecord, ...]:
        """The lines of one target language that a person should look at; as ``utterances``."""
        return tuple(line for line in self.utterances(language) if line.needs_look)

    @property
    def media(self) -> Path:
        """The dubbed video or audio."""
        return self._path(self.manifest.media_file)

    @property
    def media_by_language(self) -> Mapping[str, Path]:
        """Target language to its file. All are one file, unless ``output.per_language`` is set."""
        return {dub.language: self._path(dub.media_file or self.manifest.media_file) for dub in self.manifest.dubs}

    @property
    def subtitles(self) -> Mapping[str, tuple[Path, ...]]:
        """Target language to its subtitle files, SRT and WebVTT."""
        return {dub.language: tuple(map(self._path, dub.subtitles)) for dub in self.manifest.dubs}

    @property
    def report(self) -> Path:
        """A web page with players, a timeline and all lines."""
        return self._path(REPORT_NAME)

    @property
    def manifest_path(self) -> Path:
        """``manifest.json``, which may be edited and given to ``redub``."""
        return self._path(MANIFEST_NAME)

    def utterances(self, language: str | None = None) -> tuple[UtteranceRecord, ...]:
        """The lines of one target language; of the only one if none is named. Raises ConfigError."""
        return self._dub(language).utterances

    def locate(self, name: str) -> str:
        """Path or URL of a file of the results, such as ``report.html``."""
        return locations.join(self.out, name)

    def _dub(self, language: str | None) -> DubRecord:
        found = [dub for dub in self.manifest.dubs if language in (None, dub.language)]
        if len(found) != 1:
            known = ", ".join(dub.language for dub in self.manifest.dubs)
            raise ConfigError(f"a language must be named that was dubbed, one of {known}; found {language}")
        return found[0]

    def _path(self, name: str) -> Path:
        if locations.is_url(self.out):
            raise ConfigError(
                f"results must lie on this machine to have a path; they are in {self.out}; "
                f"use locate({name!r}) and fsspec"
            )
        return Path(self.out) / name
