"""Models of the true shapes with random weights, made where they run; speed does not depend on what weights are.

The tiny shapes are of the same architectures, for a dry run on a CPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.translation._nllb import convert

WHISPER_VOCABULARY = 51_866
NUM_TEXT_TOKENS = 50_257
NUM_LANGUAGES = 100
NUM_TIMES = 1501


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sizes of the models, and how much each check computes."""

    translator: Mapping[str, int]
    whisper: Mapping[str, int]
    vits: Mapping[str, Any]
    embedder: Mapping[str, int]
    codes: Mapping[str, int]
    num_target_tokens: int
    num_windows: int
    speech_items: tuple[int, ...]
    num_tokens: int
    """Tokens of a line that VITS speaks."""
    num_codes: int
    num_sentences: int
    num_runs: int


NLLB_600M = {"d_model": 1024, "layers": 12, "heads": 16, "ffn": 4096, "vocabulary": 256_206}
WHISPER_LARGE = {"d_model": 1280, "layers": 32, "heads": 20, "mels": 128}
LABSE = {"vocab_size": 501_153, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
XTTS = {"vocab_size": 1026, "n_embd": 1024, "n_layer": 30, "n_head": 16, "n_positions": 1024}
TRUE = Sizes(
    translator=NLLB_600M,
    whisper=WHISPER_LARGE,
    vits={},
    embedder=LABSE,
    codes=XTTS,
    num_target_tokens=32,
    num_windows=16,
    speech_items=(1, 16, 32),
    num_tokens=80,
    num_codes=200,
    num_sentences=256,
    num_runs=3,
)
TINY = Sizes(
    translator={"d_model": 64, "layers": 2, "heads": 4, "ffn": 64, "vocabulary": 0},
    whisper={"d_model": 64, "layers": 2, "heads": 2, "mels": 80},
    vits={
        "hidden_channels": 32,
        "hidden_channels_ffn_text_encoder": 64,
        "num_layers_text_encoder": 2,
        "num_layers_flow": 2,
        "resblock_type_decoder": "2",
        "resblock_kernel_sizes_decoder": [3],
        "resblock_dilation_sizes_decoder": [[1, 3]],
        "upsample_initial_channel_decoder": 32,
    },
    embedder={"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    codes={"vocab_size": 1026, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64},
    num_target_tokens=4,
    num_windows=2,
    speech_items=(1, 2),
    num_tokens=8,
    num_codes=8,
    num_sentences=4,
    num_runs=1,
)


def make_translator(folder: Path, size: Mapping[str, int]) -> Path:
    """NLLB as transformers stores it; made once."""
    if (folder / "config.json").is_file():
        return folder
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    tokenizer = NllbTokenizer()
    config = M2M100Config(
        vocab_size=size["vocabulary"] or len(tokenizer) + 2,
        d_model=size["d_model"],
        encoder_layers=size["layers"],
        decoder_layers=size["layers"],
        encoder_attention_heads=size["heads"],
        decoder_attention_heads=size["heads"],
        encoder_ffn_dim=size["ffn"],
        decoder_ffn_dim=size["ffn"],
        max_position_embeddings=1024,
        scale_embedding=True,
        activation_function="relu",
        decoder_start_token_id=2,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        tokenizer_class="NllbTokenizer",
    )
    torch.manual_seed(0)
    M2M100ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def converted(folder: Path, quantization: str) -> Path:
    """An NLLB for CTranslate2; made once."""
    out = folder.with_name(f"{folder.name}-{quantization}")
    if not (out / "model.bin").is_file():
        convert.convert(folder, out, quantization)
    return out


def make_whisper(folder: Path, size: Mapping[str, int], quantization: str) -> Path:
    """A whisper for CTranslate2, without files of a tokenizer: it is given features and token ids."""
    if (folder / "model.bin").is_file():
        return folder
    import torch
    from ctranslate2.converters.transformers import WhisperLoader
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=WHISPER_VOCABULARY,
        num_mel_bins=size["mels"],
        d_model=size["d_model"],
        encoder_layers=size["layers"],
        decoder_layers=size["layers"],
        encoder_attention_heads=size["heads"],
        decoder_attention_heads=size["heads"],
        encoder_ffn_dim=4 * size["d_model"],
        decoder_ffn_dim=4 * size["d_model"],
    )
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config).eval()
    spec = WhisperLoader().get_model_spec(model)
    layers, heads = range(size["layers"] // 2, size["layers"]), range(size["heads"])
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], []
    spec.config.alignment_heads = [list(pair) for pair in itertools.product(layers, heads)]
    names = _whisper_vocabulary()
    spec.config.lang_ids = [number for number, name in enumerate(names) if name.startswith("<|lang")]
    spec.register_vocabulary(names)
    spec.validate()
    spec.optimize(quantization=quantization)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    return folder


def _whisper_vocabulary() -> list[str]:
    """Names in the order of the multilingual models; those of its texts are numbers here."""
    special = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>")
    names = [f"t{number}" for number in range(NUM_TEXT_TOKENS)]
    names += ["<|endoftext|>", "<|startoftranscript|>", *(f"<|lang{number}|>" for number in range(NUM_LANGUAGES))]
    names += [*special, "<|notimestamps|>", *(f"<|{number * 0.02:.2f}|>" for number in range(NUM_TIMES))]
    assert len(names) == WHISPER_VOCABULARY
    return names


def make_vits(size: Mapping[str, Any]) -> Any:
    """Coqui's VITS; without ``size`` its own defaults, which are the published models'."""
    import torch
    from TTS.tts.configs.shared_configs import CharactersConfig
    from TTS.tts.configs.vits_config import VitsArgs, VitsConfig

    from actors.speech._coqui.checkpoint import build_vits

    characters = CharactersConfig(
        characters_class="TTS.tts.models.vits.VitsCharacters",
        pad="_",
        eos="",
        bos="",
        blank=None,
        characters="abcdefghijklmnopqrstuvwxyz",
        punctuations=" .,",
        phonemes="",
    )
    torch.manual_seed(0)
    return build_vits(VitsConfig(model_args=VitsArgs(init_discriminator=False, **size), characters=characters))
