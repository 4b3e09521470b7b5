"""Configuration: ``base.yaml`` ← named or given file ← ``--set a.b=c``, checked, frozen, printable.

Mappings merge, lists replace. An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import difflib
import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.errors import ConfigError
from cluster.alignment import AlignConfig
from cluster.fitting import FitConfig
from cluster.grouping import GroupConfig
from cluster.media import MediaConfig
from cluster.mixing import MixConfig
from cluster.scheduling import BatchLimits
from cluster.subtitles import SubtitleConfig
from cluster.windows import WindowConfig


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RayConfig(Section):
    mode: Literal["auto", "local", "cluster", "inline"] = "auto"
    """auto: the cluster in ``address`` or RAY_ADDRESS if there is one, else local; inline: no Ray at all."""
    address: str | None = None
    object_store_bytes: int = Field(default=500_000_000, ge=80_000_000)
    """Shared memory of a local Ray; a cluster has its own setting."""


class PoolConfig(Section):
    replicas: int = Field(default=1, ge=1, le=4096)
    num_cpus: float = Field(default=1.0, ge=0)
    num_gpus: float = Field(default=0.0, ge=0)
    resources: Mapping[str, float] = {}
    batch: BatchLimits = BatchLimits()
    max_pending_items: int = Field(default=256, ge=1)
    """Requests waiting or under way, or what the replicas hold if that is more; others wait at the door."""
    load_timeout_s: float = Field(default=600.0, gt=0)
    call_timeout_s: float = Field(default=300.0, gt=0)
    """A batch that takes longer means a hung replica, which is replaced."""
    max_load_failures: int = Field(default=3, ge=1)
    max_losses: int = Field(default=3, ge=2)
    """Replicas one request may take down before it is given up; the last had nothing else to do."""
    restart_delay_s: float = Field(default=0.5, ge=0)


class StageConfig(Section):
    """One engine and the pool that holds its replicas."""

    engine: str
    options: Mapping[str, Any] = {}
    pool: PoolConfig = PoolConfig()


class SpeechConfig(Section):
    engine: str = "auto"
    """An engine's name, or auto: the one that ``by_language`` names for the target."""
    options: Mapping[str, Any] = {}
    voices: Mapping[str, str] = {}
    """Target language → voice; a language without one takes the engine's default."""
    by_language: Mapping[str, StageConfig] = {}
    pool: PoolConfig = PoolConfig()


class PipelineConfig(Section):
    max_windows: int = Field(default=4, ge=1)
    """Windows of audio decoded, waiting or being transcribed, per video."""
    max_utterances: int = Field(default=32, ge=1)
    """Utterances being translated or spoken, or waiting to be mixed, per video and language."""
    max_videos: int = Field(default=2, ge=1)
    """Videos dubbed at a time; more wait."""


class OutputConfig(Section):
    audio_bits_per_s: int = Field(default=160_000, ge=32_000, le=512_000)
    """Of each dubbed track."""
    report_audio_bits_per_s: int = Field(default=40_000, ge=16_000, le=256_000)
    report_max_embed_s: float = Field(default=900.0, ge=0)
    """Longer media are linked from the report, not embedded in it."""


class Config(Section):
    ray: RayConfig = RayConfig()
    media: MediaConfig = MediaConfig()
    windows: WindowConfig = WindowConfig()
    grouping: GroupConfig = GroupConfig()
    transcription: StageConfig
    translation: StageConfig
    speech: SpeechConfig
    alignment: AlignConfig = AlignConfig()
    fitting: FitConfig = FitConfig()
    mixing: MixConfig = MixConfig()
    subtitles: SubtitleConfig = SubtitleConfig()
    pipeline: PipelineConfig = PipelineConfig()
    output: OutputConfig = OutputConfig()


Assignment = Annotated[str, "dotted.key=value, the value in YAML"]


def load_config(name_or_file: str = "offline", assignments: Sequence[Assignment] = ()) -> Config:
    """The resolved configuration. Raises ConfigError."""
    tree = _read(_named("base"))
    if name_or_file != "base":
        tree = _merge(tree, _read(_find(name_or_file)))
    for assignment in assignments:
        tree = _merge(tree, _parse_assignment(assignment))
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error


def config_names() -> list[str]:
    """Configurations that come with the package."""
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in importlib.resources.files("configs").iterdir()
        if entry.name.endswith(".yaml")
    )


def dump_yaml(config: Config) -> str:
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def _named(name: str) -> Path:
    return Path(str(importlib.resources.files("configs"))) / f"{name}.yaml"


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


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} must be readable YAML; {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, found a {type(tree).__name__}")
    return tree


def _parse_assignment(assignment: str) -> dict[str, Any]:
    key, separator, text = assignment.partition("=")
    if not separator or not all(key.split(".")):
        raise ConfigError(f"--set must look like fitting.max_rate=1.3; found {assignment!r}")
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {key}: the value must be YAML; found {text!r}") from error
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _explain(error: ValidationError) -> str:
    """The first problem, in one line."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _fields_at(problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        return f"configuration key {where} is unknown{hint} known here: {', '.join(known)}"
    reason = problem["ctx"]["error"] if problem["type"] == "value_error" else problem["msg"]
    return f"configuration key {where} must be valid: {reason}; found {problem.get('input')!r}"


def _fields_at(location: Iterable[int | str]) -> list[str]:
    model: type[BaseModel] = Config
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            # Inside a mapping of stages, such as speech.by_language.pt
            model = StageConfig
            continue
        model = field.annotation
    return sorted(model.model_fields)
