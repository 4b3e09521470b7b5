"""A cast file: speakers that are known from earlier files, by their voices, and the voices that speak for them.

A file is written after each dub, so that a series keeps its voices. Names and voices in it may be edited.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.errors import ConfigError
from cluster.speakers.prints import Print, matched
from cluster.storage.files import replace_bytes

MAX_BYTES = 16_000_000


class KnownSpeaker(BaseModel):
    """A speaker of earlier files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    voices: tuple[str, ...]
    """Voices that speak for them, of any languages; the first that a dub's engine has is taken."""
    print: Print
    num_files: int = Field(ge=1)


class CastFile(BaseModel):
    """The speakers of a series. Prints of different models cannot be compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    model: str
    """The engine that describes voices, and its weights."""
    speakers: tuple[KnownSpeaker, ...] = ()

    @property
    def prints(self) -> dict[str, Print]:
        return {speaker.name: speaker.print for speaker in self.speakers}

    @property
    def voices(self) -> dict[str, tuple[str, ...]]:
        return {speaker.name: speaker.voices for speaker in self.speakers}


def read_cast(path: Path, model: str | None = None) -> CastFile:
    """The file's speakers; none if there is no file yet. Raises ConfigError, also if another model made it."""
    try:
        if not path.exists():
            return CastFile(model=model or "")
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} must have at most {MAX_BYTES} bytes; it has more")
        found = CastFile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise ConfigError(f"{path} must be a cast that --cast wrote; {problem}") from error
    if model is not None and found.model != model:
        raise ConfigError(f"{path} must be of the voice model {model}; found {found.model}; use another file")
    return found


def remember(
    path: Path, model: str, heard: Mapping[str, Print], voices: Mapping[str, Sequence[str]], min_likeness: float
) -> CastFile:
    """Add one file's speakers to the cast, and voices for further languages to known ones. Raises ConfigError.

    Known speakers keep their voices and their first print, so that a cast does not drift.
    """
    with locked(path):
        cast = _with(read_cast(path, model), heard, voices, min_likeness)
        replace_bytes(path, json.dumps(cast.model_dump(), ensure_ascii=False).encode())
    return cast


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """No other dub writes the file meanwhile. Raises ConfigError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            yield
    except OSError as error:
        raise ConfigError(f"--cast must be a file that can be written; {path}: {error.strerror or error}") from error


def _with(
    cast: CastFile, heard: Mapping[str, Print], voices: Mapping[str, Sequence[str]], min_likeness: float
) -> CastFile:
    names = {speaker: speaker for speaker in heard if speaker in cast.prints}
    others = {speaker: own for speaker, own in heard.items() if speaker not in names}
    free = {name: own for name, own in cast.prints.items() if name not in names}
    names |= matched(others, free, min_likeness)
    known = {speaker.name: speaker for speaker in cast.speakers}
    for speaker, own in heard.items():
        spoken = tuple(voices.get(speaker, ()))
        if speaker in names:
            before = known[names[speaker]]
            added = (*before.voices, *(voice for voice in spoken if voice not in before.voices))
            known[before.name] = before.model_copy(update={"voices": added, "num_files": before.num_files + 1})
        else:
            name = _free_name(known)
            known[name] = KnownSpeaker(name=name, voices=spoken, print=own, num_files=1)
    return cast.model_copy(update={"speakers": tuple(known.values())})


def _free_name(known: Mapping[str, object]) -> str:
    """A name like C1: the names S1, S2 … belong to one file."""
    return next(name for number in range(1, len(known) + 2) if (name := f"C{number}") not in known)
