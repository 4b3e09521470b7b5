"""What is to be dubbed, item by item: from the command line, or a manifest in CSV, JSON lines or Parquet.

A manifest's row has ``source`` and may have any other field of ``Item``. In CSV and Parquet ``to`` is
``pt,es``, and what is a mapping is JSON (``{"pt": "pf_dora"}``); an empty cell is a field not given.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Any

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
from cluster import places
from cluster.config import Config, merged
from cluster.pipeline import Elsewhere, Job
from cluster.pools import check_languages

MANIFEST_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")
MAX_ITEMS = 1_000_000


def _listed(value: object) -> object:
    return [tag for tag in (part.strip() for part in value.split(",")) if tag] if isinstance(value, str) else value


def _parsed(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"must be a JSON mapping: {error}") from error


def _normalised(tag: str) -> str:
    try:
        return languages.normalise(tag)
    except ConfigError as error:
        raise ValueError(error.message) from error


def _place(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a path or a URL")
    return value


Place = Annotated[str, PlainValidator(_place)]
"""A file's name may be bytes that are no text: pydantic's own strings refuse what Python makes of those (PEP 383)."""
Tag = Annotated[str, AfterValidator(_normalised)]
Tags = Annotated[tuple[Tag, ...], BeforeValidator(_listed), AfterValidator(lambda tags: tuple(dict.fromkeys(tags)))]
ByTag = Annotated[Mapping[Tag, str], BeforeValidator(_parsed)]
Tree = Annotated[Mapping[str, Any], BeforeValidator(_parsed)]


class Item(BaseModel):
    """One input and what it becomes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Place
    """A path, or a URL: s3://, gs://, https://."""
    to: Tags = ()
    """Languages; none takes those of the command."""
    source_language: Tag | None = Field(default=None, validation_alias=AliasChoices("from", "source_language"))
    name: str | None = Field(default=None, pattern=r"^[^/\x00]*[^./\x00][^/\x00]*$", max_length=200)
    """Of the folder in the output; by default the source's name without its suffix."""
    audio_track: int | None = Field(default=None, ge=0)
    subtitles: str | None = None
    """Path or URL; needs ``from``."""
    target_subtitles: ByTag = {}
    voices: ByTag = {}
    """Language → voice."""
    glossary: Tree = {}
    """Language → {term: translation}, where the translation engine has an option ``glossary``."""
    settings: Tree = {}
    """Any other setting of the configuration, as a tree: {"mixing": {"duck_db": -18}}."""
    priority: int = Field(default=0, ge=-100, le=100)
    """Higher ones begin first."""

    def overlay(self) -> dict[str, Any]:
        """What of the configuration is this item's own."""
        tree = dict(self.settings)
        if self.voices:
            tree = merged(tree, {"speech": {"voices": dict(self.voices)}})
        if self.glossary:
            tree = merged(tree, {"translation": {"options": {"glossary": dict(self.glossary)}}})
        return tree


def read_items(place: str) -> list[Item]:
    """Every row, checked. Raises ConfigError with the row's number, counted from 1 without a header."""
    data = places.read_bytes(place)
    if data is None:
        raise ConfigError(f"the manifest must exist; {place} does not")
    items = []
    for number, row in enumerate(_rows(place, data), 1):
        if number > MAX_ITEMS:
            raise ConfigError(f"a manifest must have at most {MAX_ITEMS} rows; {place} has more; divide it")
        try:
            items.append(Item.model_validate(row))
        except ValidationError as error:
            raise ConfigError(f"{place}, row {number}: {_explain(error)}") from error
    if not items:
        raise ConfigError(f"a manifest must have rows; {place} has none")
    return items


def is_manifest(place: str) -> bool:
    return place.lower().endswith(MANIFEST_SUFFIXES)


def jobs_of(items: Sequence[Item], out: str, config: Config) -> list[Job]:
    """Jobs with an output folder each in ``out``, a path or a URL. Raises ConfigError."""
    jobs = []
    for item in items:
        try:
            jobs.append(_job(item, out, config))
        except ConfigError as error:
            raise ConfigError(error.message if len(items) == 1 else f"{item.source}: {error.message}") from error
    check_outputs(jobs)
    return jobs


def check_outputs(jobs: Sequence[Job]) -> None:
    """Raise ConfigError if two would write the same folder, or one the folder it reads from."""
    by_out: dict[str, Job] = {}
    for job in jobs:
        other = by_out.setdefault(job.out_place, job)
        if other is not job:
            raise ConfigError(
                f"inputs must differ in name, each gets a folder of its own; {other.source_place} and "
                f"{job.source_place} would both write {job.out_place}; give one a `name` in a manifest, or dub them "
                f"with different --out"
            )
        if job.elsewhere is None and job.source.resolve().parent == job.out.resolve():
            raise ConfigError(
                f"an input must not lie in the folder of its results, which may replace it; {job.source} is in "
                f"{job.out}; choose another --out"
            )


def _job(item: Item, out: str, config: Config) -> Job:
    if not item.to:
        raise ConfigError(f"{item.source} must have languages to be dubbed into; give --to, or `to` in the manifest")
    for target in item.to:
        if item.source_language is not None and languages.same(item.source_language, target):
            raise ConfigError(f"--to must differ from --from; found {target} and {item.source_language}")
    if item.subtitles is not None and item.source_language is None:
        raise ConfigError("--subtitles must be in a known language; none is given; add --from")
    for target in item.target_subtitles:
        if target not in item.to:
            raise ConfigError(f"--target-subtitles must be of a language in --to; found {target}; add it to --to")
    own_text = {*item.target_subtitles, *([item.source_language] if item.subtitles is not None else [])}
    check_languages(
        config.overlaid(item.overlay()), item.source_language, item.to, own_text={tag for tag in own_text if tag}
    )
    name = places.name_of(item.source)
    folder = places.join(out, item.name or folder_name(PurePath(name)))
    there = Elsewhere(
        source=_url(item.source),
        out=_url(folder),
        subtitles=_url(item.subtitles),
        target_subtitles={tag: place for tag, place in item.target_subtitles.items() if places.is_url(place)},
    )
    return Job(
        source=Path(name if there.source is not None else item.source),
        targets=item.to,
        source_language=item.source_language,
        audio_track=item.audio_track,
        out=Path(folder),
        subtitles=None if item.subtitles is None or there.subtitles is not None else Path(item.subtitles),
        target_subtitles={tag: Path(place) for tag, place in item.target_subtitles.items() if not places.is_url(place)},
        elsewhere=None if there == Elsewhere() else there,
        settings=item.overlay(),
        priority=item.priority,
    )


def _url(place: str | None) -> str | None:
    return place if place is not None and places.is_url(place) else None


def folder_name(path: PurePath) -> str:
    """The name without its suffix; whole if only dots are left, which name other folders."""
    return path.stem if path.stem.strip(".") else path.name


def _rows(place: str, data: bytes) -> Iterator[Mapping[str, Any]]:
    suffix = PurePosixPath(place).suffix.lower()
    try:
        if suffix == ".csv":
            yield from _csv_rows(data.decode("utf-8-sig"))
        elif suffix == ".parquet":
            yield from _parquet_rows(data)
        elif suffix in MANIFEST_SUFFIXES:
            yield from (json.loads(line) for line in data.decode("utf-8-sig").splitlines() if line.strip())
        else:
            raise ConfigError(f"a manifest must end in {', '.join(MANIFEST_SUFFIXES)}; found {place}")
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise ConfigError(f"{place} must be a readable {suffix[1:]} file: {' '.join(str(error).split())}") from error


def _csv_rows(text: str) -> Iterator[Mapping[str, Any]]:
    for row in csv.DictReader(io.StringIO(text), restkey="cells without a header", strict=True):
        yield _given(row)


def _parquet_rows(data: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("a Parquet manifest needs pyarrow: pip install 'raydub[parquet]'") from error
    for row in pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist():
        # A column of mappings or lists is one in Parquet too; pyarrow gives maps as pairs.
        yield {key: dict(value) if _is_pairs(value) else value for key, value in _given(row).items()}


def _is_pairs(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(pair, tuple) for pair in value)


def _given(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None and value != ""}


def _explain(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = ("from" if name == "source_language" else name for name in Item.model_fields)
        return f"field {where} is unknown; known here: {', '.join(known)}"
    if problem["type"] == "missing":
        return f"field {where} must be given"
    return f"field {where} must be valid: {problem['msg']}; found {problem.get('input')!r}"
