"""Conversion of a Piper voice (VITS as ONNX) to a stock Coqui VITS checkpoint: config.json and model.pth.

Both descend from the reference VITS, and the export keeps the reference's names for most weights:

* normalised weights are folded and lose their name; their bias keeps its own;
* the table of symbols is found by the operator that reads it;
* ``dp.flows.0.logs`` is folded into exp(−logs).

Coqui has its own order of the vocabulary, so the table's rows are put in that order. Sizes are read
from the weights' shapes and the operators' attributes. Training-only weights are not in the export
and keep a fixed random initial value.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from actors.errors import ConfigError, EngineLoadError
from actors.speech._coqui import checkpoint
from actors.speech.piper import BEGIN, END, PAD, VoiceFile

if TYPE_CHECKING:
    import onnx

FORMAT = 1
"""Version of the folder that ``convert`` writes; part of its key in the cache."""
WEIGHTS_NAME = "model.pth"
SETTINGS_NAME = "piper.json"
"""Copy of the voice's own settings, with the language of its phonemizer."""
PUNCTUATION = "!'(),-.:;? "
PARAMETER = re.compile(r"(enc_p|dp|flow|dec)\.")

RENAMED: tuple[tuple[str, str], ...] = (
    (r"^dp\.flows\.0\.m$", "dp.flows.0.translation"),
    (r"^dp\.flows\.0\.logs$", "dp.flows.0.log_scale"),
    (r"^enc_p\.", "text_encoder."),
    (r"^dp\.", "duration_predictor."),
    (r"^dec\.", "waveform_decoder."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """Summary of an import."""

    folder: Path
    num_tensors: int
    """Tensors taken from the voice."""
    num_training_only: int
    """The model's other tensors, none of them used in synthesis."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Convolution:
    kernel: int
    stride: int
    dilation: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Export:
    """A voice's weights under the reference implementation's names."""

    tensors: Mapping[str, npt.NDArray[np.float32]]
    convolutions: Mapping[str, Convolution]

    def count(self, pattern: str) -> int:
        """Number of different values of the group of ``pattern`` among the tensors' names."""
        return len({match[1] for name in self.tensors if (match := re.match(pattern, name))})


def import_piper(onnx: Path, out: Path) -> Imported:
    """Convert the Piper voice ``onnx`` (its .onnx.json beside it) to a Coqui checkpoint in the new folder ``out``.

    ``out`` is complete or absent. Raises ConfigError if it exists or ``onnx`` is no Piper voice,
    EngineLoadError if the voice can't be converted: not VITS, several speakers, several-letter symbols.
    """
    if out.exists():
        raise ConfigError(f"the folder to write must be new; found {out}; remove it or name another")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        aside = Path(scratch) / out.name
        imported = convert(onnx, aside)
        aside.replace(out)
    return Imported(folder=out, num_tensors=imported.num_tensors, num_training_only=imported.num_training_only)


def convert(onnx: Path, out: Path) -> Imported:
    """Like ``import_piper``, but written in place."""
    import torch

    settings_path = onnx.with_name(f"{onnx.name}.json")
    settings = _read_settings(settings_path)
    export = read_export(onnx)
    config, rows = _coqui_config(export, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = checkpoint.build_vits(config).state_dict()
    tensors = {_coqui_name(name): value for name, value in export.tensors.items()}
    tensors["text_encoder.emb.weight"] = tensors["text_encoder.emb.weight"][rows]
    filled = _fill(state, tensors)
    unfilled = sorted(set(state) - filled)
    needed = [name for name in unfilled if not _is_unused(name)]
    if needed:
        raise EngineLoadError(f"{onnx} must hold every weight of a VITS; missing {', '.join(needed[:5])}")
    out.mkdir()
    config.save_json(str(out / "config.json"))
    torch.save({"model": state}, out / WEIGHTS_NAME)
    (out / SETTINGS_NAME).write_bytes(settings_path.read_bytes())
    return Imported(folder=out, num_tensors=len(tensors), num_training_only=len(unfilled))


def espeak_voice_of(settings: Path) -> str:
    """The espeak voice that reads text for an imported voice. settings: its ``SETTINGS_NAME``."""
    return _read_settings(settings).espeak.voice


def read_export(path: Path) -> Export:
    """The weights of an ONNX file.

    Raises ConfigError if it is no ONNX file, EngineLoadError if it is no single-speaker Piper voice.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        graph = onnx.load(str(path)).graph
    except (OSError, DecodeError) as error:
        raise ConfigError(f"a Piper voice must be an ONNX file; {path}: {error}") from error
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    convolutions: dict[str, Convolution] = {}
    used: set[str] = set()
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in stored:
            layer = _layer_of(node)
            tensors[f"{layer}.weight"] = stored[node.input[1]]
            convolutions[layer] = _convolution(node, stored[node.input[1]].shape)
            used.add(node.input[1])
        elif node.name == "/enc_p/emb/Gather":
            tensors["enc_p.emb.weight"] = stored[node.input[0]]
            used.add(node.input[0])
        elif node.name == "/emb_g/Gather":
            raise EngineLoadError(f"a voice to import must have one speaker; {path} has several: use engine piper")
    for name, value in stored.items():
        if PARAMETER.match(name):
            tensors.setdefault(name, value)
            used.add(name)
        elif name.startswith("/dp/flows.0/Exp"):
            tensors["dp.flows.0.logs"] = -np.log(value)
            used.add(name)
    floats = (name for name, value in stored.items() if value.dtype.kind == "f" and value.size > 1)
    ignored = [name for name in floats if name not in used]
    if ignored or "enc_p.emb.weight" not in tensors or "dp.flows.0.logs" not in tensors:
        raise EngineLoadError(
            f"{path} must be a Piper voice, a VITS with a stochastic duration predictor; "
            f"found weights of no known place: {', '.join(ignored[:5]) or 'none'}"
        )
    singles = {name: np.asarray(value, np.float32) for name, value in tensors.items()}
    return Export(tensors=singles, convolutions=convolutions)


def _layer_of(node: onnx.NodeProto) -> str:
    """A convolution's name, from that of its weight or bias if the export has it, else from the operator's path."""
    named: list[tuple[str, str]] = [(node.input[1], ".weight"), (node.input[-1], ".bias")]
    for name, suffix in named:
        if PARAMETER.match(name) and name.endswith(suffix):
            return name.removesuffix(suffix)
    return ".".join(str(node.name).strip("/").split("/")[:-1])


def _convolution(node: onnx.NodeProto, shape: tuple[int, ...]) -> Convolution:
    from onnx import helper

    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return Convolution(
        kernel=shape[-1], stride=attributes.get("strides", [1])[0], dilation=attributes.get("dilations", [1])[0]
    )


def _coqui_name(name: str) -> str:
    # Coqui leaves out the reference's channel flips, which stand between the flows and are numbered too.
    name = re.sub(r"^flow\.flows\.(\d+)", lambda match: f"flow.flows.{int(match[1]) // 2}", name)
    name = re.sub(r"^dp\.flows\.([1-9])", lambda match: f"dp.flows.{(int(match[1]) + 1) // 2}", name)
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _fill(state: dict[str, Any], tensors: Mapping[str, npt.NDArray[np.float32]]) -> set[str]:
    """Put the tensors into ``state``; returns the names filled. Raises EngineLoadError if one does not fit."""
    import torch

    filled: set[str] = set()
    for name, value in tensors.items():
        tensor = torch.from_numpy(np.array(value, np.float32))
        normalised = f"{name.removesuffix('.weight')}.parametrizations.weight"
        if name in state:
            parts = {name: tensor}
        elif f"{normalised}.original1" in state:
            # weight = magnitude · direction / |direction|, so the folded weight can stand for the direction
            magnitude = tensor.flatten(1).norm(dim=1).view(-1, *[1] * (tensor.ndim - 1))
            parts = {f"{normalised}.original0": magnitude, f"{normalised}.original1": tensor}
        else:
            raise EngineLoadError(f"a weight of the voice must have its place in Coqui's VITS; found none for {name}")
        for part, content in parts.items():
            if state[part].shape != content.shape:
                raise EngineLoadError(
                    f"{part} must have shape {tuple(state[part].shape)} in Coqui's VITS; found {tuple(content.shape)}"
                )
            state[part] = content
        filled.update(parts)
    return filled


def _is_unused(name: str) -> bool:
    # The second flow of the duration predictor is left out when speaking, by Piper and Coqui alike.
    return name.startswith(("posterior_encoder.", "duration_predictor.post_", "duration_predictor.flows.1."))


def _read_settings(path: Path) -> VoiceFile:
    try:
        settings = VoiceFile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigError(f"a Piper voice must have its settings beside it; {path}: {error}") from error
    if settings.phoneme_type != "espeak" or settings.vowel_clusters:
        raise EngineLoadError(f"a Piper voice to import must read espeak's phonemes one by one; {path} does not")
    return settings


def _vocabulary(settings: VoiceFile) -> tuple[str, str]:
    """The voice's phonemes and its punctuation, as Coqui's configuration lists them. Raises EngineLoadError."""
    ids = settings.phoneme_id_map
    odd = [symbol for symbol, tokens in ids.items() if len(symbol) != 1 or len(tokens) != 1]
    missing = [symbol for symbol in (PAD, BEGIN, END) if symbol not in ids]
    if odd or missing:
        raise EngineLoadError(
            "a Piper voice to import must have one token for each symbol of one letter, and for _, ^ and $; "
            f"found others: {', '.join(odd) or 'none'}; missing: {', '.join(missing) or 'none'}"
        )
    symbols = sorted((symbol for symbol in ids if symbol not in (PAD, BEGIN, END)), key=lambda symbol: ids[symbol][0])
    return (
        "".join(symbol for symbol in symbols if symbol not in PUNCTUATION),
        "".join(symbol for symbol in symbols if symbol in PUNCTUATION),
    )


def _coqui_config(export: Export, settings: VoiceFile) -> tuple[Any, list[int]]:
    """A ``VitsConfig``, and the row in the voice's table of each symbol of its vocabulary."""
    from TTS.config.shared_configs import BaseAudioConfig
    from TTS.tts.configs.shared_configs import CharactersConfig
    from TTS.tts.configs.vits_config import VitsConfig

    characters, punctuation = _vocabulary(settings)
    vocabulary = [PAD, END, BEGIN, PAD, *characters, *punctuation]  # BaseCharacters._create_vocab
    args = _coqui_args(export, settings, len(vocabulary))
    config = VitsConfig(
        model_args=args,
        run_name="piper",
        audio=BaseAudioConfig(
            sample_rate=settings.audio.sample_rate, hop_length=int(np.prod(args.upsample_rates_decoder))
        ),
        use_phonemes=True,
        phonemizer="espeak",
        phoneme_language=settings.espeak.voice,
        text_cleaner=None,
        add_blank=True,
        enable_eos_bos_chars=True,
        characters=CharactersConfig(
            characters_class="TTS.tts.utils.text.characters.Graphemes",
            characters=characters,
            punctuations=punctuation,
            pad=PAD,
            eos=END,
            bos=BEGIN,
            blank=PAD,
            phonemes=None,
            is_unique=False,
            is_sorted=False,
        ),
    )
    return config, [settings.phoneme_id_map[symbol][0] for symbol in vocabulary]


def _coqui_args(export: Export, settings: VoiceFile, num_chars: int) -> Any:
    from TTS.tts.configs.vits_config import VitsArgs

    tensors, convolutions = export.tensors, export.convolutions
    hidden_channels = tensors["enc_p.emb.weight"].shape[1]
    upsampling = [convolutions[f"dec.ups.{index}"] for index in range(export.count(r"dec\.ups\.(\d+)\."))]
    num_kernels = export.count(r"dec\.resblocks\.(\d+)\.") // len(upsampling)
    kind = "2" if "dec.resblocks.0.convs.0" in convolutions else "1"
    layers = "convs" if kind == "2" else "convs1"
    depth = export.count(rf"dec\.resblocks\.0\.{layers}\.(\d+)\.")
    blocks = [
        [convolutions[f"dec.resblocks.{block}.{layers}.{layer}"] for layer in range(depth)]
        for block in range(num_kernels)
    ]
    ffn = tensors["enc_p.encoder.ffn_layers.0.conv_1.weight"]
    return VitsArgs(
        num_chars=num_chars,
        hidden_channels=hidden_channels,
        hidden_channels_ffn_text_encoder=ffn.shape[0],
        kernel_size_text_encoder=ffn.shape[2],
        num_heads_text_encoder=hidden_channels // tensors["enc_p.encoder.attn_layers.0.emb_rel_k"].shape[-1],
        num_layers_text_encoder=export.count(r"enc_p\.encoder\.attn_layers\.(\d+)\."),
        kernel_size_flow=convolutions["flow.flows.0.enc.in_layers.0"].kernel,
        num_layers_flow=export.count(r"flow\.flows\.0\.enc\.in_layers\.(\d+)\."),
        resblock_type_decoder=kind,
        resblock_kernel_sizes_decoder=[block[0].kernel for block in blocks],
        resblock_dilation_sizes_decoder=[[layer.dilation for layer in block] for block in blocks],
        upsample_rates_decoder=[layer.stride for layer in upsampling],
        upsample_kernel_sizes_decoder=[layer.kernel for layer in upsampling],
        upsample_initial_channel_decoder=tensors["dec.conv_pre.weight"].shape[0],
        init_discriminator=False,
        noise_scale=settings.inference.noise_scale,
        inference_noise_scale=settings.inference.noise_scale,
    )
