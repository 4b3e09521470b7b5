"""A cast file: speakers that are known from earlier files, by their voices, and the voices that speak for them.

A file is written after each dub, so that a series keeps its voices. Names and voices in it may be edited.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, Self

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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
    print: tuple[Annotated[float, Field(ge=-1, le=1)], ...] = Field(min_length=1)
    num_files: int = Field(ge=1)


class CastFile(BaseModel):
    """The speakers of a series. Prints of different models cannot be compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    model: str
    """The engine that describes voices, and its weights."""
    speakers: tuple[KnownSpeaker, ...] = ()

    @model_validator(mode="after")
    def _can_be_compared(self) -> Self:
        names = {speaker.name for speaker in self.speakers}
        if len(names) < len(self.speakers):
            raise ValueError(f"speakers must have names of their own; found {len(names)} for {len(self.speakers)}")
        if len(lengths := {len(speaker.print) for speaker in self.speakers}) > 1:
            raise ValueError(f"prints must have one length; found {sorted(lengths)}")
        return self

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
    if model is not None:
        check_model(found, model, f"{path}")
    return found


def check_model(cast: CastFile, model: str, name: str) -> None:
    """Raise ConfigError if another voice model made the cast; ``name`` is what the message calls it."""
    if cast.model != model:
        raise ConfigError(f"{name} must be of the voice model {model}; found {cast.model[:200]}; use another one")


def encoded(cast: CastFile) -> bytes:
    """The content of the cast's file. Raises ConfigError if it is larger than a file that is read may be."""
    data = json.dumps(cast.model_dump(), ensure_ascii=False).encode()
    if len(data) > MAX_BYTES:
        raise ConfigError(f"a cast must have at most {MAX_BYTES} bytes; it has {len(data)}; remove some speakers")
    return data


def remember(
    path: Path, model: str, heard: Mapping[str, Print], voices: Mapping[str, Sequence[str]], min_likeness: float
) -> CastFile:
    """Add one file's speakers to the cast, and voices for further languages to known ones. Raises ConfigError.

    Known speakers keep their voices and their first print, so that a cast does not drift.
    """
    with locked(path):
        before = read_cast(path, model)
        cast = _with(before, heard, voices, heard.keys() & before.prints.keys(), min_likeness)
        replace_bytes(path, encoded(cast))
    return cast


def merged(cast: CastFile, before: CastFile, after: CastFile, min_likeness: float) -> CastFile:
    """The cast with what a dub changed in its copy, from ``before`` to ``after``. Other dubs may have changed the cast.

    A speaker with the same name and print is the same one, others are known again by likeness: two dubs at a time give
    their new speakers the same names.
    """
    known = {speaker.name: speaker for speaker in before.speakers}
    changed = [speaker for speaker in after.speakers if known.get(speaker.name) != speaker]
    prints = cast.prints
    same = {speaker.name for speaker in changed if prints.get(speaker.name) == speaker.print}
    heard = {speaker.name: speaker.print for speaker in changed}
    return _with(cast, heard, {speaker.name: speaker.voices for speaker in changed}, same, min_likeness)


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
    cast: CastFile,
    heard: Mapping[str, Print],
    voices: Mapping[str, Sequence[str]],
    same: Collection[str],
    min_likeness: float,
) -> CastFile:
    """The cast with these speakers; those in ``same`` are the ones of that name in the cast."""
    names = {speaker: speaker for speaker in same}
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
