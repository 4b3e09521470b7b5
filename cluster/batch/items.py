"""Items of a batch: read from the command line, or from a manifest in CSV, JSON lines or Parquet.

A manifest's row has ``source`` and may have any other field of ``Item``. In CSV and Parquet ``to`` is
``pt,es``, a mapping is JSON (``{"pt": "pf_dora"}``), and an empty cell is a field not given.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Any, overload

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
)

from actors import languages
from actors.errors import ConfigError
from cluster.batch.folders import JobFolder, check_folders
from cluster.config.load import brief, check_item_settings, dotted, merged, overlaid
from cluster.config.schema import Config
from cluster.pipeline import Job, RemoteLocations
from cluster.pools.routing import check_languages
from cluster.speakers.config import speaker_settings
from cluster.speakers.rttm import read_rttm
from cluster.storage import locations

MANIFEST_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")
MAX_ITEMS = 1_000_000


def _split_tags(value: object) -> object:
    return [tag for tag in (part.strip() for part in value.split(",")) if tag] if isinstance(value, str) else value


def _parse_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"must be a JSON mapping: {error}") from error


def _normalised(tag: str) -> str:
    try:
        return languages.normalise(tag)
    except ConfigError as error:
        raise ValueError(error.message) from error


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _check_location(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a path or a URL")
    try:
        locations.parse(value)
    except ConfigError as error:
        raise ValueError(error.message) from error
    return value


Location = Annotated[str, PlainValidator(_check_location)]
"""A path or URL. A file name may hold bytes that are not text; pydantic's strings refuse these (PEP 383)."""
Tag = Annotated[str, AfterValidator(_normalised)]
Tags = Annotated[tuple[Tag, ...], BeforeValidator(_split_tags), AfterValidator(lambda tags: tuple(dict.fromkeys(tags)))]
ByTag = Annotated[Mapping[Tag, str], BeforeValidator(_parse_json)]
Tree = Annotated[Mapping[str, Any], BeforeValidator(_parse_json)]


class Item(BaseModel):
    """One input, its targets and its own settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Location
    """A path, or a URL: s3://, gs://, https://."""
    to: Tags = ()
    """Target languages; if empty, those of the command."""
    source_language: Tag | None = Field(default=None, validation_alias=AliasChoices("from", "source_language"))
    name: str | None = Field(default=None, pattern=r"^[^/\x00]*[^./\x00][^/\x00]*$", max_length=200)
    """Name of the folder in the output; by default the source's name, with its suffix only where others share it."""
    audio_track: int | None = Field(default=None, ge=0)
    subtitles: Location | None = None
    """Path or URL; needs ``from``."""
    target_subtitles: Annotated[Mapping[Tag, Location], BeforeValidator(_parse_json)] = Field(default_factory=dict)
    speakers: Annotated[str | None, BeforeValidator(_as_text)] = None
    """Number of speakers, ``auto``, or the path of an RTTM file with the turns."""
    voices: ByTag = Field(default_factory=dict)
    """Language → voice."""
    glossary: Annotated[Mapping[Tag, Mapping[str, str]], BeforeValidator(_parse_json)] = Field(default_factory=dict)
    """Language → {term: translation}, where the translation engine has an option ``glossary``."""
    settings: Annotated[Tree, AfterValidator(check_item_settings)] = Field(default_factory=dict)
    """Other settings of the dub, as a tree: {"mixing": {"duck_db": -18}}. Those of ``ITEM_SETTINGS``."""
    priority: int = Field(default=0, ge=-100, le=100)
    """Higher ones begin first."""

    @property
    def kind(self) -> tuple[object, ...]:
        """Its target languages, subtitles and settings, to compare: items of one kind use the same engines."""
        has_own = bool(self.settings or self.speakers is not None or self.voices or self.glossary)
        own = repr(self.overlay()) if has_own else ""
        return self.to, self.subtitles is None, tuple(self.target_subtitles), own

    def overlay(self) -> dict[str, Any]:
        """Settings that replace those of the run's configuration."""
        tree = dict(self.settings)
        if self.speakers is not None:
            tree = merged(tree, {"speakers": speaker_settings(self.speakers)})
        if self.voices:
            tree = merged(tree, {"speech": {"voices": dict(self.voices)}})
        if self.glossary:
            tree = merged(tree, {"translation": {"options": {"glossary": dict(self.glossary)}}})
        return tree


def read_items(location: str) -> list[Item]:
    """Read and check every row. Raises ConfigError with the row's number, counted from 1 without the header."""
    data = locations.read_bytes(location)
    if data is None:
        raise ConfigError(f"the manifest must exist; {location} does not")
    items = []
    for number, row in enumerate(_rows(location, data), 1):
        if number > MAX_ITEMS:
            raise ConfigError(f"a manifest must have at most {MAX_ITEMS} rows; {location} has more; split it")
        try:
            items.append(Item.model_validate(row))
        except ValidationError as error:
            raise ConfigError(f"{location}, row {number}: {_explain(error)}") from error
        except UnicodeEncodeError as error:  # pydantic's own, for half of a surrogate pair
            raise ConfigError(
                f"{location}, row {number}: texts must be Unicode; found {brief(error.object)}"
            ) from error
    if not items:
        raise ConfigError(f"a manifest must have rows; {location} has none")
    return items


def is_manifest(location: str) -> bool:
    return location.lower().endswith(MANIFEST_SUFFIXES)


def jobs_of(items: Sequence[Item], out: str, config: Config) -> list[Job]:
    """Jobs with an output folder each in ``out``, a path or a URL. Raises ConfigError."""
    return list(check_items(items, out, config))


def check_items(items: Sequence[Item], out: str, config: Config) -> ItemJobs:
    """The jobs of items that agree with the configuration and with each other. Raises ConfigError."""
    checks = _ItemChecks(config)
    for item in items:
        try:
            checks.check(item)
        except ConfigError as error:
            raise ConfigError(
                error.message if len(items) == 1 else f"{locations.for_people(item.source)}: {error.message}"
            ) from error
    jobs = ItemJobs(items, out)
    check_folders(jobs.folders())
    return jobs


class ItemJobs(Sequence[Job]):
    """The jobs of checked items, each with an output folder in ``out``; made whenever one is asked for."""

    def __init__(self, items: Sequence[Item], out: str) -> None:
        self._items = items
        self._url = locations.parse(out) if locations.is_url(out) else None
        self._path = Path(out)
        self._names = _folder_names(items)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, at: int) -> Job: ...

    @overload
    def __getitem__(self, at: slice) -> list[Job]: ...

    def __getitem__(self, at: int | slice) -> Job | list[Job]:
        if isinstance(at, slice):
            return [self[index] for index in range(*at.indices(len(self)))]
        item, name = self._items[at], self._names[at]
        if self._url is None:
            return _job(item, self._path / name, None)
        url = self._url.join(name)
        return _job(item, Path(url), url)

    def one_of_each_kind(self) -> list[Job]:
        """A job for each choice of languages, settings and subtitles: together they use all that the others use."""
        kinds: dict[tuple[object, ...], int] = {}
        for index, item in enumerate(self._items):
            kinds.setdefault(item.kind, index)
        return [self[index] for index in kinds.values()]

    def folders(self) -> Iterator[JobFolder]:
        """The place of each job's input and results."""
        path = str(self._path)
        for item, name in zip(self._items, self._names, strict=True):
            is_local = self._url is None and not locations.is_url(item.source)
            out = os.path.join(path, name) if self._url is None else self._url.join(name)
            yield JobFolder(source=item.source, out=out, is_local=is_local)


def _folder_names(items: Sequence[Item]) -> list[str]:
    """The name of each item's folder: ``note.amr`` and ``note.oga`` beside each other are told apart by the suffix."""
    names = [locations.name_of(item.source) for item in items]
    folders = [item.name or _folder_name(name) for item, name in zip(items, names, strict=True)]
    num_sharing = Counter(folders)
    return [
        name if item.name is None and num_sharing[folder] > 1 else folder
        for item, name, folder in zip(items, names, folders, strict=True)
    ]


@dataclass(slots=True)
class _ItemChecks:
    """Checks items against the configuration: languages once for all that have the same, and the same settings."""

    config: Config
    passed: set[tuple[object, ...]] = field(default_factory=set)

    def check(self, item: Item) -> None:
        """Raise ConfigError if an item contradicts itself, or some engine cannot work on its languages."""
        if item.speakers is not None:
            _check_turns(item)
        for location in (item.source, item.subtitles, *item.target_subtitles.values()):
            if location is not None:
                locations.check_input(location, self.config.fetch)
        key = item.source_language, *item.kind
        if key in self.passed:
            return
        _check(item)
        own_text = {*item.target_subtitles, *([item.source_language] if item.subtitles is not None else [])}
        texts = sorted(tag for tag in own_text if tag)
        check_languages(overlaid(self.config, item.overlay()), item.source_language, item.to, own_text=texts)
        self.passed.add(key)


def _job(item: Item, out: Path, out_url: str | None) -> Job:
    remote = RemoteLocations(
        source=_url(item.source),
        out=out_url,
        subtitles=_url(item.subtitles),
        target_subtitles={
            tag: location for tag, location in item.target_subtitles.items() if locations.is_url(location)
        },
    )
    return Job(
        source=Path(locations.name_of(item.source) if remote.source is not None else item.source),
        targets=item.to,
        source_language=item.source_language,
        audio_track=item.audio_track,
        out=out,
        subtitles=None if item.subtitles is None or remote.subtitles is not None else Path(item.subtitles),
        target_subtitles={
            tag: Path(location) for tag, location in item.target_subtitles.items() if not locations.is_url(location)
        },
        remote=None if remote == RemoteLocations() else remote,
        settings=item.overlay(),
        priority=item.priority,
    )


def _check(item: Item) -> None:
    """Raise ConfigError if an item contradicts itself."""
    if not item.to:
        name = locations.for_people(item.source)
        raise ConfigError(f"{name} must have target languages; found none; give --to, or `to` in the manifest")
    for target in item.to:
        if item.source_language is not None and languages.same(item.source_language, target):
            raise ConfigError(f"--to must differ from --from; found {target} and {item.source_language}")
    if item.subtitles is not None and item.source_language is None:
        raise ConfigError("--subtitles must be in a known language; none is given; add --from")
    for target in item.target_subtitles:
        if target not in item.to:
            raise ConfigError(f"--target-subtitles must be of a language in --to; found {target}; add it to --to")


def _check_turns(item: Item) -> None:
    """Raise ConfigError if a file with turns is given and cannot be read."""
    rttm = None if item.speakers is None else speaker_settings(item.speakers).get("rttm")
    if rttm is not None:
        if locations.is_url(str(rttm)):
            raise ConfigError(f"a file with turns must be a path; found {rttm}; download it first")
        read_rttm(Path(str(rttm)))


def _url(location: str | None) -> str | None:
    return location if location is not None and locations.is_url(location) else None


def folder_name(path: PurePath) -> str:
    """The name without its suffix; the whole name if only dots would be left, which mean other folders."""
    return _folder_name(path.name)


def _folder_name(name: str) -> str:
    dot = name.rfind(".")
    stem = name[:dot] if 0 < dot < len(name) - 1 else name
    return stem if stem.strip(".") else name


def _rows(location: str, data: bytes) -> Iterator[Mapping[str, Any]]:
    suffix = PurePosixPath(location).suffix.lower()
    try:
        if suffix == ".csv":
            yield from _csv_rows(data.decode("utf-8-sig"))
        elif suffix == ".parquet":
            yield from _parquet_rows(data)
        elif suffix in MANIFEST_SUFFIXES:
            yield from (json.loads(line) for line in data.decode("utf-8-sig").splitlines() if line.strip())
        else:
            raise ConfigError(f"a manifest must end in {', '.join(MANIFEST_SUFFIXES)}; found {location}")
    except (csv.Error, ValueError, RecursionError) as error:
        raise ConfigError(f"{location} must be a readable {suffix[1:]} file: {' '.join(str(error).split())}") from error


def _csv_rows(text: str) -> Iterator[Mapping[str, Any]]:
    for row in csv.DictReader(io.StringIO(text), restkey="cells without a header", strict=True):
        yield _without_empty(row)


def _parquet_rows(data: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("a Parquet manifest needs pyarrow: pip install 'raydub[parquet]'") from error
    for row in pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist():
        # Parquet has columns of mappings and lists; pyarrow gives a mapping as a list of pairs.
        yield {key: dict(value) if _is_pairs(value) else value for key, value in _without_empty(row).items()}


def _is_pairs(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(pair, tuple) for pair in value)


def _without_empty(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None and value != ""}


def _explain(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = dotted(problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = ("from" if name == "source_language" else name for name in Item.model_fields)
        return f"field {where} is unknown; known here: {', '.join(known)}"
    if problem["type"] == "missing":
        return f"field {where} must be given"
    return f"field {where} must be valid: {problem['msg']}; found {brief(problem.get('input'))}"
