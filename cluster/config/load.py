"""Loads the configuration: ``base.yaml`` ← profile ← named or given file ← ``--set a.b=c``, checked and frozen.

A file that ``extends`` a configuration by name lies over that. Mappings merge, lists replace; a stage that names
another engine takes none of the options below it. An unknown key is an error that names the nearest known one. A
profile is ``profiles/NAME.yaml``; its settings under ``engines`` go to the stages that use these engines.
"""

from __future__ import annotations

import difflib
import importlib.resources
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from actors.errors import ConfigError
from cluster.config.schema import (
    Config,
    SpeechConfig,
    StageConfig,
    TranslationConfig,
)
from cluster.quality import QualityConfig

DEPLOYMENTS = {"serve"}
"""Files beside the configurations that are no configurations, but Ray Serve deployments."""

PROFILES = "profiles"
"""Folder of the profiles, beside the configurations."""

MAX_SHOWN_CHARACTERS = 200
"""Length of a wrong value in a message."""

MACHINE_SECTIONS = ("ray", "store", "trace")
"""Sections that belong to the machine, and change no result."""

UNREADABLE_YAML = (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError, yaml.YAMLError)
"""Errors of reading YAML: besides its own, there are dates and numbers that are none, and brackets without end."""

DUMPER: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""The compiled writer, five times as fast, where PyYAML was built with it."""

Assignment = Annotated[str, "dotted.key=value, the value in YAML"]


def load_config(
    name_or_file: str = "offline", assignments: Sequence[Assignment] = (), profile: str | None = None
) -> Config:
    """Load and check a configuration. ``profile`` replaces the one that the file names. Raises ConfigError."""
    base = read_tree(_named("base"))
    given = {} if name_or_file == "base" else _extended(name_or_file)
    if profile is not None:
        given["profile"] = profile
    given = merged(given, _assigned(assignments))
    if given.get("profile") is not None:
        base = merged(base, _overlay(given["profile"], merged(base, given)))
    tree = merged(base, given)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error)) from error


def recorded_config(recorded: Mapping[str, Any], assignments: Sequence[Assignment] = ()) -> Config:
    """Load the configuration that an output recorded, without the sections of its machine. Raises ConfigError."""
    kept = {key: value for key, value in recorded.items() if key not in MACHINE_SECTIONS}
    tree = merged(kept, _assigned(assignments))
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error)) from error


S = TypeVar("S", StageConfig, TranslationConfig, SpeechConfig)

ITEM_SETTINGS: Mapping[str, frozenset[str] | None] = {
    "windows": None,
    "grouping": None,
    "alignment": None,
    "candidates": None,
    "fitting": None,
    "quality": frozenset(QualityConfig.model_fields) - {"strict"},
    "mixing": None,
    "subtitles": frozenset({"encoding", "max_line_chars", "max_lines"}),
    "output": None,
    "translation": frozenset({"num_candidates", "keep_noises"}),
    "speech": frozenset({"voices", "lexicon", "clone", "consent", "clone_reference_s"}),
}
"""Sections of which one input may have settings of its own, with their keys; None for all of them.

A row of a batch may come from somebody who may not run programs here. An engine is code, options name files and models,
pools and the pipeline take the cluster's resources, and ``fetch`` and ``media`` are limits for that somebody.
"""


def check_item_settings(overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of one input. Raises ValueError for a setting that holds for the whole run."""
    for section, values in overrides.items():
        keys = ITEM_SETTINGS.get(section, frozenset())
        found = sorted(values.keys() - keys) if keys and isinstance(values, Mapping) else []
        if section not in ITEM_SETTINGS or found:
            wrong = ", ".join(f"{section}.{key}" for key in found) or section
            raise ValueError(f"{wrong} must hold for all inputs; set it for the whole run, with --set")
    return overrides


def overlaid(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Merge one input's own settings over the configuration of the run. Raises ConfigError."""
    if not overrides:
        return config
    try:
        return Config.model_validate(merged(config.model_dump() | {"serve": config.serve}, overrides))
    except ValidationError as error:
        raise ConfigError(explain(error)) from error


def with_scale_to_zero(own: Config, shared: Config) -> Config:
    """Set ``min_replicas`` to 0 for each pool of ``own`` that ``shared`` does not have.

    Such a pool serves one input; idle, it gives up its replicas.
    """
    by_language = {
        language: _scaled_to_zero(stage, shared.speech.by_language.get(language))
        for language, stage in own.speech.by_language.items()
    }
    return own.model_copy(
        update={
            "diarization": _scaled_to_zero(own.diarization, shared.diarization),
            "transcription": _scaled_to_zero(own.transcription, shared.transcription),
            "translation": _scaled_to_zero(own.translation, shared.translation),
            "embedding": _scaled_to_zero(own.embedding, shared.embedding),
            "speech": _scaled_to_zero(own.speech, shared.speech).model_copy(update={"by_language": by_language}),
        }
    )


def item_config(config: Config, overrides: Mapping[str, Any]) -> Config:
    """The configuration of one input of a run: its settings over ``config``, pools of its own scaled to zero when idle.

    Raises ConfigError.
    """
    return with_scale_to_zero(overlaid(config, overrides), config) if overrides else config


def _scaled_to_zero(own: S, shared: StageConfig | SpeechConfig | None) -> S:
    if shared is not None and (own.engine, own.options, own.pool) == (shared.engine, shared.options, shared.pool):
        return own
    return own.model_copy(update={"pool": own.pool.model_copy(update={"min_replicas": 0})})


def config_names() -> list[str]:
    """Names of the configurations in the package."""
    return sorted(path.stem for path in _folder().glob("*.yaml") if path.stem not in DEPLOYMENTS)


def profile_names() -> list[str]:
    """Names of the profiles in the package."""
    return sorted(path.stem for path in (_folder() / PROFILES).glob("*.yaml"))


def dump_yaml(config: Config | Mapping[str, Any]) -> str:
    """The configuration, or its plain values, as YAML."""
    plain = config.model_dump(mode="json") if isinstance(config, Config) else config
    text: str = yaml.dump(dict(plain), Dumper=DUMPER, sort_keys=False, allow_unicode=True)
    return text


def _folder() -> Path:
    return Path(str(importlib.resources.files("configs")))


def _named(name: str) -> Path:
    return _folder() / f"{name}.yaml"


def _overlay(profile: object, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """A profile's settings for the engines in ``resolved``, the configuration without the profile."""
    if profile not in profile_names():
        raise ConfigError(f"--profile must be one of {', '.join(profile_names())}; found {brief(profile)}")
    overlay = read_tree(_folder() / PROFILES / f"{profile}.yaml")
    engines: Mapping[str, Mapping[str, Any]] = overlay.pop("engines", {})

    def settings(task: str, stage: object) -> dict[str, Any]:
        """Settings of one stage; a stage that is no mapping is refused later, with a message."""
        name = stage.get("engine") if isinstance(stage, Mapping) else None
        found = engines.get(task, {}).get(name) if isinstance(name, str) else None
        return {} if found is None else {"engine": name, **found}

    for task in engines:
        stage = resolved.get(task)
        found = settings(task, stage)
        languages = stage.get("by_language") if isinstance(stage, Mapping) else None
        if isinstance(languages, Mapping):
            found["by_language"] = {language: settings(task, each) for language, each in languages.items()}
        overlay = merged(overlay, {task: found})
    return overlay


def _find(name_or_file: str) -> Path:
    if name_or_file in config_names():
        return _named(name_or_file)
    path = Path(name_or_file)
    if not path.is_file():
        raise ConfigError(
            f"--config must be one of {', '.join(config_names())} or a YAML file; "
            f"found {name_or_file!r}, which is neither"
        )
    return path


def _extended(name_or_file: str, *below: str) -> dict[str, Any]:
    """The settings of a file over those of the configuration that it extends. Raises ConfigError."""
    tree = read_tree(_find(name_or_file))
    if (parent := tree.pop("extends", None)) is None:
        return tree
    known = [name for name in config_names() if name not in ("base", name_or_file, *below)]
    if parent not in known:
        raise ConfigError(f"extends in {name_or_file} must be one of {', '.join(known)}; found {brief(parent)}")
    return merged(_extended(parent, name_or_file, *below), tree)


def read_tree(path: Path) -> dict[str, Any]:
    """Read the settings of a YAML file. Raises ConfigError."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except UNREADABLE_YAML as error:
        raise ConfigError(f"{path} must be readable YAML; {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, found a {type(tree).__name__}")
    return tree


def _assigned(assignments: Sequence[Assignment]) -> dict[str, Any]:
    """The settings of all assignments, of which the last counts."""
    tree: dict[str, Any] = {}
    for assignment in assignments:
        tree = merged(tree, _parse_assignment(assignment))
    return tree


def _parse_assignment(assignment: str) -> dict[str, Any]:
    key, separator, text = assignment.partition("=")
    if not separator or not all(key.split(".")):
        raise ConfigError(f"--set must look like fitting.max_rate=1.3; found {assignment!r}")
    try:
        value: Any = yaml.safe_load(text)
    except UNREADABLE_YAML as error:
        raise ConfigError(f"--set {key}: the value must be YAML; found {text!r}") from error
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two trees of settings: mappings merge, lists and values of ``above`` replace those of ``below``.

    Where ``above`` names another engine than ``below``, the options of that one are left out.
    """
    tree = dict(below)
    if "engine" in below and above.get("engine", below["engine"]) != below["engine"]:
        tree.pop("options", None)
    for key, value in above.items():
        old = tree.get(key)
        tree[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return tree


def explain(error: ValidationError, model: type[BaseModel] = Config, prefix: str = "") -> str:
    """Describe the first problem in one line; ``prefix`` is the model's place in the configuration."""
    problem = error.errors()[0]
    where = prefix + dotted(problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        return f"configuration key {where} is unknown{hint} known here: {', '.join(known)}"
    reason = problem["ctx"]["error"] if problem["type"] == "value_error" else problem["msg"]
    return f"configuration key {where} must be valid: {reason}; found {brief(problem.get('input'))}"


def dotted(location: Iterable[int | str]) -> str:
    """A field's path in one line that can be printed."""
    text = ".".join(str(part) for part in location)
    return " ".join(text.encode("utf-8", "replace").decode().split())


def brief(value: object) -> str:
    """A value as Python writes it, in part if it is long or deep: a few bytes of YAML can stand for gigabytes."""
    shown = reprlib.Repr()
    shown.maxlevel = 4
    shown.maxstring = shown.maxother = MAX_SHOWN_CHARACTERS
    text = shown.repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"


def _fields_at(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            # Inside a mapping of stages, such as speech.by_language.pt
            model = StageConfig
            continue
        model = field.annotation
    return sorted(model.model_fields)
