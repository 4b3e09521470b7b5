"""Coqui checkpoints: finding, downloading and loading their files.

Only loading needs torch: a driver reads languages and voices without it.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from filelock import FileLock
from pydantic import BaseModel, Field, ValidationError

from actors import hub, weights
from actors.errors import ConfigError, EngineLoadError

if TYPE_CHECKING:
    from torch import Tensor

NAME_PREFIX = "tts_models/"
WEIGHT_NAMES = (
    "model.safetensors", "model.pth", "model_file.pth", "model_file.pth.tar", "best_model.pth", "checkpoint.pth",
)  # fmt: skip
OTHER_TABLES = ("speaker", "d_vector", "language", "model_se")
"""Prefixes of other files beside the weights."""
PATH_FIELDS = ("speakers_file", "speaker_file", "d_vector_file", "language_ids_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The files of a model."""

    name: str
    config: Path
    weights: Path

    @property
    def folder(self) -> Path:
        return self.config.parent


class _Audio(BaseModel):
    sample_rate: int = Field(default=22_050, ge=8000, le=96_000)


class _ModelArgs(BaseModel):
    use_speaker_embedding: bool = False
    use_d_vector_file: bool = False
    use_language_embedding: bool = False
    speakers_file: str | None = None
    d_vector_file: list[str] | str | None = None
    language_ids_file: str | None = None
    encoder_sample_rate: int | None = None
    upsample_rates_decoder: list[int] = [8, 8, 2, 2]


class _Dataset(BaseModel):
    language: str | None = None
    phonemizer: str | None = None


class CheckpointConfig(BaseModel):
    """The used part of a checkpoint's config.json; its other keys are for training."""

    model: str
    audio: _Audio = _Audio()
    model_args: _ModelArgs = _ModelArgs()
    use_phonemes: bool = False
    phonemizer: str | None = None
    phoneme_language: str | None = None
    languages: list[str] = []
    speakers: list[str] | None = None
    datasets: list[_Dataset] | None = None

    def own_languages(self, folder: Path) -> tuple[str, ...]:
        """The model's names for its languages, in the order of its table (Coqui's ``LanguageManager``)."""
        file = self.model_args.language_ids_file
        if self.model_args.use_language_embedding and file:
            ids = _names_in(referenced_file(folder, file))
            return tuple(sorted(ids, key=ids.__getitem__))
        if self.use_phonemes and self.phoneme_language and not self.model_args.use_language_embedding:
            return (self.phoneme_language,)
        named = sorted({dataset.language for dataset in self.datasets or () if dataset.language})
        return tuple(self.languages or named or filter(None, [self.phoneme_language]))

    def speaker_names(self, folder: Path) -> tuple[str, ...]:
        """Names in the order of the speaker table; empty for a model of one speaker (Coqui's ``SpeakerManager``)."""
        if self.model_args.use_speaker_embedding:
            if self.speakers:
                return tuple(self.speakers)
            if self.model_args.speakers_file:
                ids = _names_in(referenced_file(folder, self.model_args.speakers_file))
                return tuple(sorted(ids, key=ids.__getitem__))
        files = self.model_args.d_vector_file
        if self.model_args.use_d_vector_file and files:
            paths = [files] if isinstance(files, str) else files
            clips = (clip for path in paths for clip in _names_in(referenced_file(folder, path)).values())
            return tuple(sorted({clip["name"] for clip in clips}))
        return ()


def find(model: str) -> Checkpoint | None:
    """The files of a folder, of a file, or of a ``tts_models/...`` name; None if that is not downloaded.

    Raises ConfigError if a folder or file is not a checkpoint.
    """
    if model.startswith(NAME_PREFIX):
        cached = fetched_folder(model)
        return _in_folder(model.split("/")[2], cached) if (cached / "config.json").is_file() else None
    path = Path(model).expanduser()
    if path.is_dir():
        return _in_folder(path.resolve().name, path)
    if not path.is_file():
        raise ConfigError(
            f"speech.options.model must be joe, a {NAME_PREFIX}… name, or a folder with config.json and weights; "
            f"found {model!r}, which does not exist"
        )
    return Checkpoint(name=path.resolve().parent.name, config=_config_in(path.parent), weights=path)


def weights_id(model: str) -> str | None:
    """Hash of the files of a model on this node; None if it is not here."""
    checkpoint = find(model)
    return None if checkpoint is None else f"{hub.fingerprint(checkpoint.folder)}/{checkpoint.weights.name}"


def fetched_folder(model: str) -> Path:
    """Coqui's folder of a ``tts_models/...`` model (``trainer.io.get_user_data_dir``, without its torch)."""
    home = os.environ.get("TTS_HOME") or os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "tts" / model.replace("/", "--")


def fetch(model: str) -> Path:
    """The folder of a ``tts_models/...`` model, downloaded by Coqui's ``ModelManager`` if need be.

    One process of a node downloads, the others wait. Raises EngineLoadError: unknown name, no network
    (``hub.OFFLINE_SWITCHES`` forbid it), terms not agreed to.
    """
    from TTS.utils.manage import ModelManager

    manager = ModelManager()
    parts = model.split("/")
    if len(parts) != 4 or "fairseq" in parts:
        raise EngineLoadError(f"a model name must be like tts_models/en/ljspeech/vits (not Fairseq's); found {model!r}")
    try:
        item, _, _ = manager._set_model_item(model)
    except KeyError as error:
        raise EngineLoadError(f"Coqui must know the model; found {model!r}; see: tts --list_models") from error
    target = fetched_folder(model)
    if not manager.tos_agreed(item, target):
        raise EngineLoadError(
            f"the terms of {model} ({item.get('license')}) must be agreed to: read https://tts-hub.github.io/cpml "
            "and set COQUI_TOS_AGREED=1"
        )
    if "repo_id" not in item and not (target / "config.json").is_file() and hub.is_offline():
        raise EngineLoadError(_missing_message(model, target, f"{' or '.join(hub.OFFLINE_SWITCHES)} forbids downloads"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock", timeout=weights.LOCK_TIMEOUT_S):
            return _download(manager, model, item)
    except (OSError, ValueError, zipfile.BadZipFile) as error:  # requests' and huggingface_hub's are OSErrors
        raise EngineLoadError(_missing_message(model, target, f"{type(error).__name__}: {error}")) from error


def _download(manager: Any, model: str, item: Mapping[str, Any]) -> Path:
    """Download the model or find it in the cache. Needs the lock of its folder."""
    if "repo_id" not in item:
        _, config, _ = manager.download_model(model)
        return Path(config).parent
    # As ModelManager does, which would use the network even for a cached model.
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            item["repo_id"],
            allow_patterns=item.get("allow"),
            ignore_patterns=item.get("ignore"),
            local_files_only=hub.is_offline(),
        )
    )


def require(model: str) -> Checkpoint:
    """The files of a model, downloaded if need be. Raises ConfigError and EngineLoadError."""
    found = find(model)
    return found if found is not None else _in_folder(model.split("/")[2], fetch(model))


def read_config(checkpoint: Checkpoint) -> CheckpointConfig:
    """The checkpoint's config.json. Raises ConfigError if it is unreadable or not of a supported VITS."""
    try:
        config = CheckpointConfig.model_validate_json(checkpoint.config.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigError(f"a Coqui model must have a readable config.json; {checkpoint.config}: {error}") from error
    if config.model.lower() != "vits":
        raise ConfigError(
            f"engine coqui must be given a VITS model; {checkpoint.config} is of {config.model!r}; "
            "for XTTS use speech.engine: xtts"
        )
    if config.model_args.encoder_sample_rate:
        raise ConfigError(f"a VITS that changes sample rate midway can't be planned exactly; found {checkpoint.config}")
    return config


def build_vits(config: Any) -> Any:
    """Coqui's ``Vits`` with random weights, for inference alone.

    A model of phonemes is built as one of characters: its phonemizer would need the espeak-ng program,
    and the vocabulary is the same. config: ``VitsConfig``, not changed.
    """
    from TTS.tts.models.vits import Vits
    from TTS.tts.utils.text.characters import IPAPhonemes
    from TTS.utils.generic_utils import get_import_path

    config = copy.deepcopy(config)
    if config.use_phonemes and not (config.characters and config.characters.characters_class):
        characters, config = IPAPhonemes.init_from_config(config)
        config.characters.characters_class = get_import_path(characters)
    config.use_phonemes = False
    for args in (config, config.model_args):
        for field in ("speaker_encoder_model_path", "speaker_encoder_config_path"):
            if field in args:
                args[field] = ""
    config.model_args.init_discriminator = False
    config.model_args.use_speaker_encoder_as_loss = False
    return Vits(config)


def load_vits(checkpoint: Checkpoint) -> Any:
    """Coqui's ``Vits`` with the checkpoint's weights, on the CPU. Raises EngineLoadError."""
    from TTS.config import load_config

    try:
        config = load_config(checkpoint.config)
        for args in (config, config.model_args):
            for field in PATH_FIELDS:
                if args.get(field):
                    args[field] = _located(checkpoint.folder, args[field])
        model = build_vits(config)
    except (OSError, TypeError, ValueError, KeyError, RuntimeError, AssertionError, ImportError) as error:
        raise EngineLoadError(f"{checkpoint.config} must describe a VITS; {type(error).__name__}: {error}") from error
    wanted = {name for name in model.state_dict() if not _is_training_only(name)}
    state = {name: tensor for name, tensor in read_tensors(checkpoint.weights).items() if not _is_training_only(name)}
    try:
        missing, unknown = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise EngineLoadError(f"{checkpoint.weights} must fit {checkpoint.config}; {error}") from error
    missing = sorted(wanted.intersection(missing))
    if missing or unknown:
        raise EngineLoadError(
            f"{checkpoint.weights} must hold the tensors that {checkpoint.config} describes; "
            f"missing: {_listed(missing)}; unknown: {_listed(sorted(unknown))}"
        )
    return model


def speaker_table(model: Any) -> tuple[dict[str, int], Tensor | None]:
    """Each speaker's row, and the table (num_speakers, D) that VITS is conditioned on; None without speakers."""
    import torch
    from torch.nn import functional

    if model.args.use_speaker_embedding and hasattr(model, "emb_g"):
        return dict(model.speaker_manager.name_to_id), model.emb_g.weight.detach()
    if model.args.use_d_vector_file and model.speaker_manager is not None:
        by_name = model.speaker_manager.embeddings_by_names
        means = [torch.tensor(vectors).float().mean(0) for vectors in by_name.values()]
        return {name: row for row, name in enumerate(by_name)}, functional.normalize(torch.stack(means))
    return {}, None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A checkpoint's weights by name. Never runs code of a pickle. Raises EngineLoadError."""
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise EngineLoadError(
            f"{path} must hold weights alone: a pickle that carries code is never run; {error}"
        ) from error
    except Exception as error:  # the reader of a damaged file may raise anything
        raise EngineLoadError(f"{path} must be a readable checkpoint; {type(error).__name__}: {error}") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise EngineLoadError(f"{path} must hold tensors by name, or {{'model': those}}; found something else")
    return dict(state)


def referenced_file(folder: Path, path: str) -> Path:
    """A file named in a config: at its path, else beside the config, as paths are those of the trainer's machine."""
    named = Path(path)
    return named if named.is_file() else folder / named.name


def _located(folder: Path, value: Any) -> Any:
    return (
        [str(referenced_file(folder, path)) for path in value]
        if isinstance(value, list)
        else str(referenced_file(folder, value))
    )


def _is_training_only(name: str) -> bool:
    return name.startswith(("disc.", "posterior_encoder.", "speaker_encoder.", "duration_predictor.post_"))


def _in_folder(name: str, folder: Path) -> Checkpoint:
    config = _config_in(folder)
    return Checkpoint(name=name, config=config, weights=_weights_in(folder))


def _config_in(folder: Path) -> Path:
    config = folder / "config.json"
    if not config.is_file():
        raise ConfigError(f"a Coqui model must have config.json beside its weights; found none in {folder}")
    return config


def _weights_in(folder: Path) -> Path:
    named = [folder / name for name in WEIGHT_NAMES if (folder / name).is_file()]
    others = list(_other_checkpoints(folder))
    if not named and len(others) != 1:
        raise ConfigError(
            f"a Coqui model must have its weights as one of {', '.join(WEIGHT_NAMES)} beside config.json; "
            f"found {', '.join(sorted(path.name for path in folder.iterdir()))} in {folder}; name the file itself"
        )
    return (named or others)[0]


def _other_checkpoints(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.suffix in (".pth", ".safetensors") and not path.name.startswith(OTHER_TABLES):
            yield path


def _names_in(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file, or in a .pth file, which only torch can read."""
    try:
        if path.suffix == ".json":
            return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
        import torch

        return cast("dict[str, Any]", torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise ConfigError(f"config.json names {path.name}: it must be readable beside it; {path}: {error}") from error


def _missing_message(model: str, target: Path, why: str) -> str:
    return (
        f"{model} must be in {target} or be downloaded; {why}; on a machine with network run: "
        f"tts --model_name {model} --text hello, and copy the folder, or set TTS_HOME to where it is"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "none"
