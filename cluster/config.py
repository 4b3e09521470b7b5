"""Configuration: ``base.yaml`` ← profile ← named or given file ← ``--set a.b=c``, checked, frozen, printable.

Mappings merge, lists replace. An unknown key is an error that names the nearest known one. A profile is
``profiles/NAME.yaml``; what it says under ``engines`` goes to the stages that use these engines.
"""

from __future__ import annotations

import difflib
import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from actors.errors import ConfigError
from cluster.alignment_inputs import AlignConfig
from cluster.candidates import RankConfig
from cluster.fetch import FetchConfig
from cluster.fitting import FitConfig
from cluster.grouping import GroupConfig
from cluster.media import MediaConfig
from cluster.mixing import MixConfig
from cluster.quality import QualityConfig
from cluster.scheduling import BatchLimits
from cluster.store import StoreConfig
from cluster.subtitles import SubtitleConfig
from cluster.windows import WindowConfig

DEPLOYMENTS = {"serve"}
"""Files beside the configurations that are for Ray Serve, and name one of them."""

PROFILES = "profiles"
"""Folder of the profiles, beside the configurations."""


OF_THE_MACHINE = ("ray", "store")
"""Sections that change no result."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RayConfig(Section):
    mode: Literal["auto", "local", "cluster", "inline"] = "auto"
    """auto: the cluster in ``address`` or RAY_ADDRESS if there is one, else local; inline: no Ray at all."""
    address: str | None = None
    object_store_bytes: int = Field(default=200_000_000, ge=80_000_000)
    """Shared memory of a local Ray; a cluster has its own setting."""
    max_starting: int | None = Field(default=None, ge=1)
    """Lost replicas of one driver that are replaced at a time, those first whose pool has the smallest share left.
    None for as many as this machine has processors where Ray runs on it alone, and any number in a cluster."""


class AutoscalingConfig(Section):
    """Of one dispatcher's pools; how many replicas each may have stands in its own settings."""

    max_gpus: float | None = Field(default=None, ge=0)
    """That all replicas together may take. None for no limit: Ray decides, and its autoscaler may add nodes."""
    max_cpus: float | None = Field(default=None, ge=0)
    interval_s: float = Field(default=0.25, gt=0)
    """Between two looks at the pools."""


class PoolConfig(Section):
    replicas: int = Field(default=1, ge=1, le=4096)
    """How many at the start, and always, unless ``min_replicas`` or ``max_replicas`` says otherwise."""
    min_replicas: int | None = Field(default=None, ge=0, le=4096)
    """Kept though there is nothing to do; with 0, an idle pool gives everything up until the next request."""
    max_replicas: int | None = Field(default=None, ge=1, le=4096)
    target_drain_s: float = Field(default=2.0, gt=0)
    """Another replica is wanted while those there are need longer than this for what waits."""
    up_delay_s: float = Field(default=1.0, ge=0)
    """How long that must last; the first request of a pool without replicas does not wait."""
    down_delay_s: float = Field(default=30.0, ge=0)
    """How long fewer must have been enough before one is given up, unless another pool needs its GPU."""
    num_cpus: float = Field(default=1.0, ge=0)
    num_gpus: float = Field(default=0.0, ge=0)
    """Of one replica; a share, such as 0.25, lets several use one GPU."""
    resources: Mapping[str, float] = {}
    """Ray's custom resources that one replica takes."""
    accelerator_type: str | None = None
    """Ray's name of the GPU it must run on, such as A100 or H100."""
    node_labels: Mapping[str, str] = {}
    """Labels its node must have: a value, or Ray's ``!value``, ``in(a,b)``, ``!in(a,b)``. For CPU nodes give those
    a label (``ray start --labels=kind=cpu``) and ask for it here."""
    niceness: int = Field(default=0, ge=0, le=19)
    """By which replicas in actors let other processes of their machine go first, as nice(1) has it. For engines on
    CPUs: where these are short, somebody who waits for an answer need not wait for what dubs compute meanwhile."""
    batch: BatchLimits = BatchLimits()
    max_pending_items: int = Field(default=256, ge=1)
    """Requests waiting or under way, or what the replicas hold if that is more; others wait at the door."""
    max_pending_items_per_job: int | None = Field(default=None, ge=1)
    """The same of one job; None for no limit but that above. A place that falls free goes to the job with fewest."""
    place_timeout_s: float = Field(default=600.0, gt=0)
    """For a node to have room for a replica, and be added if the cluster grows."""
    load_timeout_s: float = Field(default=600.0, gt=0)
    call_timeout_s: float = Field(default=300.0, gt=0)
    """A batch that takes longer means a hung replica, which is replaced."""
    max_load_failures: int = Field(default=3, ge=1)
    max_losses: int = Field(default=3, ge=2)
    """Replicas one request may take down before it is given up; the last had nothing else to do."""
    quarantine_s: float = Field(default=3600.0, ge=0)
    """How long a request that was given up so is refused when it comes again."""
    restart_delay_s: float = Field(default=0.5, ge=0)

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.smallest > self.largest:
            raise ValueError(f"min_replicas must be at most max_replicas; found {self.smallest} and {self.largest}")
        return self

    @property
    def smallest(self) -> int:
        if self.min_replicas is not None:
            return self.min_replicas
        return self.replicas if self.max_replicas is None else min(self.replicas, self.max_replicas)

    @property
    def largest(self) -> int:
        return max(self.replicas, self.smallest) if self.max_replicas is None else self.max_replicas

    def describe_needs(self) -> str:
        """Of one replica: "1 CPU, 0.5 GPU of type A100"."""
        needs = [f"{self.num_cpus:g} CPU", f"{self.num_gpus:g} GPU"]
        needs[-1] += f" of type {self.accelerator_type}" if self.accelerator_type is not None else ""
        needs += [f"{amount:g} {name}" for name, amount in self.resources.items()]
        needs += [f"label {name}={value}" for name, value in self.node_labels.items()]
        return ", ".join(needs)


class StageConfig(Section):
    """One engine and the pool that holds its replicas."""

    engine: str
    options: Mapping[str, Any] = {}
    pool: PoolConfig = PoolConfig()


class TranslationConfig(StageConfig):
    num_candidates: int = Field(default=1, ge=1, le=16)
    """Asked of the engine, best first; one without n-best gives one. A line too long takes a shorter one."""


class SpeechConfig(Section):
    engine: str = "auto"
    """An engine's name, or auto: the one that ``by_language`` names for the target."""
    options: Mapping[str, Any] = {}
    voices: Mapping[str, str] = {}
    """Target language → voice; a language without one takes the engine's default."""
    by_language: Mapping[str, StageConfig] = {}
    clone: bool = False
    """Have engines that can (XTTS) speak in the voice heard in the source. Only with the speaker's consent."""
    clone_reference_s: float = Field(default=10.0, ge=3, le=60)
    """Seconds of the source's first speech that a clone is made of."""
    pool: PoolConfig = PoolConfig()


class PipelineConfig(Section):
    max_windows: int = Field(default=4, ge=1)
    """Windows of audio decoded, waiting or being transcribed, per video."""
    max_utterances: int = Field(default=32, ge=1)
    """Utterances being translated or spoken, or waiting to be mixed, per video and language."""
    max_videos: int = Field(default=2, ge=1)
    """Videos dubbed at a time; more wait."""
    output_wait_s: float = Field(default=0.0, ge=0)
    """For which a video waits while another run writes its output, before it fails; batches wait a minute at least."""


class DriversConfig(Section):
    """Of a batch over many drivers. Each has pools of its own: N drivers hold N × every pool's ``replicas``."""

    num_cpus: float = Field(default=1.0, ge=0)
    """Of each driver, without its replicas."""
    resources: Mapping[str, float] = {}
    max_losses: int = Field(default=3, ge=2)
    """Drivers one video may take down before it is given up; the last had nothing else to do."""
    start_timeout_s: float = Field(default=600.0, gt=0)
    max_start_failures: int = Field(default=3, ge=1)
    """In succession; then the others go on without this driver."""
    restart_delay_s: float = Field(default=1.0, ge=0)
    silence_timeout_s: float = Field(default=60.0, gt=0)
    """A driver whose event loop does not answer for so long is replaced."""


class OutputConfig(Section):
    audio_bits_per_s: int = Field(default=160_000, ge=32_000, le=512_000)
    """Of each dubbed track."""
    report_audio_bits_per_s: int = Field(default=40_000, ge=16_000, le=256_000)
    report_max_embed_s: float = Field(default=900.0, ge=0)
    """Longer media are linked from the report, not embedded in it."""
    per_language: bool = False
    """A media file per target language, talk.pt.mp4, instead of one with all of them."""


class PriceConfig(Section):
    """What engines' time costs, for the summary of a batch."""

    gpu_hour: float = Field(default=0.0, ge=0)
    cpu_hour: float = Field(default=0.0, ge=0)
    currency: str = "USD"


class Config(Section):
    profile: str | None = None
    """What is traded for what: a name in ``profile_names()``. None takes the defaults."""
    ray: RayConfig = RayConfig()
    autoscaling: AutoscalingConfig = AutoscalingConfig()
    media: MediaConfig = MediaConfig()
    windows: WindowConfig = WindowConfig()
    grouping: GroupConfig = GroupConfig()
    transcription: StageConfig
    translation: TranslationConfig
    embedding: StageConfig
    speech: SpeechConfig
    alignment: AlignConfig = AlignConfig()
    candidates: RankConfig = RankConfig()
    fitting: FitConfig = FitConfig()
    quality: QualityConfig = QualityConfig()
    mixing: MixConfig = MixConfig()
    subtitles: SubtitleConfig = SubtitleConfig()
    pipeline: PipelineConfig = PipelineConfig()
    drivers: DriversConfig = DriversConfig()
    output: OutputConfig = OutputConfig()
    store: StoreConfig = StoreConfig()
    price: PriceConfig = PriceConfig()
    fetch: FetchConfig = FetchConfig()
    serve: Mapping[str, Any] = Field(default={}, exclude=True)
    """The service's own settings, which it checks (serve/settings.py). In no output: they may name a database."""

    def overlaid(self, tree: Mapping[str, Any]) -> Config:
        """This configuration with one input's own settings over it. Raises ConfigError.

        A pool that only this input needs keeps no replicas that have nothing to do.
        """
        if not tree:
            return self
        common = sorted({"profile", "ray", "drivers", "store", "serve"} & tree.keys())
        if common:
            raise ConfigError(f"settings of one input must be its own; {', '.join(common)} hold for all; use --set")
        try:
            own = Config.model_validate(merged(self.model_dump() | {"serve": self.serve}, tree))
        except ValidationError as error:
            raise ConfigError(explain(error)) from error
        return own.model_copy(
            update={
                "transcription": _resting(own.transcription, self.transcription),
                "translation": _resting(own.translation, self.translation),
                "embedding": _resting(own.embedding, self.embedding),
                "speech": _resting(own.speech, self.speech).model_copy(
                    update={
                        "by_language": {
                            language: _resting(stage, self.speech.by_language.get(language))
                            for language, stage in own.speech.by_language.items()
                        }
                    }
                ),
            }
        )


S = TypeVar("S", StageConfig, TranslationConfig, SpeechConfig)


def _resting(own: S, common: StageConfig | SpeechConfig | None) -> S:
    """A stage of one input: with a minimum of no replicas, unless its pool is one that all inputs share."""
    if common is not None and (own.engine, own.options, own.pool) == (common.engine, common.options, common.pool):
        return own
    return own.model_copy(update={"pool": own.pool.model_copy(update={"min_replicas": 0})})


Assignment = Annotated[str, "dotted.key=value, the value in YAML"]


def load_config(
    name_or_file: str = "offline", assignments: Sequence[Assignment] = (), profile: str | None = None
) -> Config:
    """The resolved configuration. ``profile`` replaces the one that the file names. Raises ConfigError."""
    base = read_tree(_named("base"))
    given = {} if name_or_file == "base" else read_tree(_find(name_or_file))
    if profile is not None:
        given["profile"] = profile
    for assignment in assignments:
        given = merged(given, _parse_assignment(assignment))
    if given.get("profile") is not None:
        base = merged(base, _overlay(given["profile"], merged(base, given)))
    tree = merged(base, given)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error)) from error


def recorded_config(recorded: Mapping[str, Any], assignments: Sequence[Assignment] = ()) -> Config:
    """A configuration as an output recorded it, but for what belongs to the machine it ran on. Raises ConfigError."""
    tree = {key: value for key, value in recorded.items() if key not in OF_THE_MACHINE}
    for assignment in assignments:
        tree = merged(tree, _parse_assignment(assignment))
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error)) from error


def config_names() -> list[str]:
    """Configurations that come with the package."""
    return sorted(path.stem for path in _folder().glob("*.yaml") if path.stem not in DEPLOYMENTS)


def profile_names() -> list[str]:
    """What ``--profile`` takes."""
    return sorted(path.stem for path in (_folder() / PROFILES).glob("*.yaml"))


def dump_yaml(config: Config) -> str:
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def _folder() -> Path:
    return Path(str(importlib.resources.files("configs")))


def _named(name: str) -> Path:
    return _folder() / f"{name}.yaml"


def _overlay(profile: object, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """A profile as settings, given what would be resolved without it: that says which engines there are."""
    if profile not in profile_names():
        raise ConfigError(f"--profile must be one of {', '.join(profile_names())}; found {profile!r}")
    overlay = read_tree(_folder() / PROFILES / f"{profile}.yaml")
    engines: Mapping[str, Mapping[str, Any]] = overlay.pop("engines", {})

    def settings(task: str, stage: object) -> dict[str, Any]:
        """Of one stage; a stage that is no mapping is refused later, with a message."""
        name = stage.get("engine") if isinstance(stage, Mapping) else None
        return dict(engines.get(task, {}).get(name, {})) if isinstance(name, str) else {}

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


def read_tree(path: Path) -> dict[str, Any]:
    """A YAML file's settings. Raises ConfigError."""
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


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merge, lists and values replace."""
    tree = dict(below)
    for key, value in above.items():
        old = tree.get(key)
        tree[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return tree


def explain(error: ValidationError, model: type[BaseModel] = Config, prefix: str = "") -> str:
    """The first problem, in one line; ``prefix`` is where the model stands in the configuration."""
    problem = error.errors()[0]
    where = prefix + ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        return f"configuration key {where} is unknown{hint} known here: {', '.join(known)}"
    reason = problem["ctx"]["error"] if problem["type"] == "value_error" else problem["msg"]
    return f"configuration key {where} must be valid: {reason}; found {problem.get('input')!r}"


def _fields_at(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            # Inside a mapping of stages, such as speech.by_language.pt
            model = StageConfig
            continue
        model = field.annotation
    return sorted(model.model_fields)
