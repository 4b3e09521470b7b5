"""Tiny checkpoints of the real speech architectures with random weights, laid out as the real ones are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyzáàâãéêíóôõúçü"
PUNCTUATION = "!'(),-.:;? "
PHONEMES = "iyɨʉɯuɪʏʊeøɘəɵɤoɛœɜɞʌɔæɐaɶɑɒᵻpbtdʈɖcɟkɡqɢʔɴŋɲɳnɱmʙrʀⱱɾɽɸβfvθðszʃʒʂʐçʝxɣχʁħʕhɦɬɮʋɹɻjɰlɭʎʟˈˌːˑʍwɥ\u0303ɚ"


def make_vits(
    folder: Path,
    *,
    speakers: Sequence[str] = (),
    languages: Sequence[str] = (),
    phoneme_language: str | None = None,
    language: str = "en",
    stochastic: bool = True,
    d_vectors: bool = False,
) -> Path:
    """A VITS of 0.3 million parameters: ``folder`` with config.json and model.pth.

    With ``d_vectors`` the speakers are known by vectors, else by a table; ``phoneme_language`` makes it
    read espeak's phonemes, else it reads letters. Durations are about 4 frames a token.
    """
    import torch
    from TTS.config.shared_configs import BaseAudioConfig
    from TTS.tts.configs.shared_configs import CharactersConfig
    from TTS.tts.configs.vits_config import VitsArgs, VitsConfig
    from TTS.tts.models.vits import Vits

    folder.mkdir(parents=True, exist_ok=True)
    args: dict[str, Any] = {
        "hidden_channels": 32,
        "hidden_channels_ffn_text_encoder": 64,
        "num_layers_text_encoder": 2,
        "num_layers_posterior_encoder": 2,
        "num_layers_flow": 2,
        "resblock_type_decoder": "2",
        "resblock_kernel_sizes_decoder": [3],
        "resblock_dilation_sizes_decoder": [[1, 3]],
        "upsample_rates_decoder": [8, 8, 4],
        "upsample_kernel_sizes_decoder": [16, 16, 8],
        "upsample_initial_channel_decoder": 32,
        "init_discriminator": False,
        "use_sdp": stochastic,
        **_speaker_args(folder, speakers, d_vectors),
        **_language_args(folder, languages),
    }
    config = VitsConfig(
        model_args=VitsArgs(**args),
        audio=BaseAudioConfig(sample_rate=22_050, hop_length=256),
        phonemizer="espeak" if phoneme_language else None,
        phoneme_language=phoneme_language or "",
        languages=list(languages) or [language],
        text_cleaner="multilingual_cleaners",
        add_blank=True,
        characters=CharactersConfig(
            characters_class="TTS.tts.models.vits.VitsCharacters",
            pad="_",
            eos="",
            bos="",
            blank=None,
            characters=LETTERS,
            punctuations=PUNCTUATION,
            phonemes=PHONEMES if phoneme_language else "",
        ),
    )
    torch.manual_seed(0)
    model = Vits(config)
    with torch.no_grad():
        predictor = model.duration_predictor
        if stochastic:
            predictor.flows[0].translation.fill_(1.2)
            for flow in predictor.flows[1:]:
                flow.proj.weight.normal_(0, 0.02)
        else:
            predictor.proj.bias.fill_(1.2)
        for block in model.flow.flows:
            block.post.weight.normal_(0, 0.05)
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    # Only now: with it on, Coqui's constructor looks for the espeak-ng program.
    config.use_phonemes = phoneme_language is not None
    config.save_json(str(folder / "config.json"))
    return folder


def _speaker_args(folder: Path, speakers: Sequence[str], d_vectors: bool) -> dict[str, Any]:
    if not speakers:
        return {}
    if not d_vectors:
        path = folder / "speaker_ids.json"
        path.write_text(json.dumps({name: row for row, name in enumerate(speakers)}))
        return {"use_speaker_embedding": True, "speakers_file": str(path), "speaker_embedding_channels": 16}
    path = folder / "speakers.json"
    clips = {
        f"{name}-{clip}.wav": {"name": name, "embedding": [float((row + 1) * (clip + k) % 7 - 3) for k in range(16)]}
        for row, name in enumerate(speakers)
        for clip in range(2)
    }
    path.write_text(json.dumps(clips))
    return {"use_d_vector_file": True, "d_vector_file": [str(path)], "d_vector_dim": 16}


def _language_args(folder: Path, languages: Sequence[str]) -> dict[str, Any]:
    if not languages:
        return {}
    path = folder / "language_ids.json"
    path.write_text(json.dumps({name: row for row, name in enumerate(languages)}))
    return {"use_language_embedding": True, "language_ids_file": str(path), "embedded_language_dim": 4}


def make_xtts(folder: Path, *, speakers: Sequence[str] = ()) -> Path:
    """An XTTS of a few million parameters: ``folder`` with config.json, model.pth, vocab.json (and speakers).

    It speaks noise, a second or two at most. ``speakers`` are the checkpoint's own.
    """
    import torch
    from TTS.tts.configs.xtts_config import XttsArgs, XttsConfig
    from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer
    from TTS.tts.models.xtts import Xtts

    folder.mkdir(parents=True, exist_ok=True)
    _make_vocabulary(folder / "vocab.json")
    config = XttsConfig(
        model_args=XttsArgs(
            gpt_layers=1,
            gpt_n_model_channels=64,
            gpt_n_heads=2,
            gpt_max_audio_tokens=24,
            gpt_max_text_tokens=402,
            gpt_num_audio_tokens=34,
            gpt_start_audio_token=32,
            gpt_stop_audio_token=33,
            gpt_use_perceiver_resampler=True,
            decoder_input_dim=64,
            d_vector_dim=512,
        ),
    )
    torch.manual_seed(0)
    model = Xtts(config)
    model.tokenizer = VoiceBpeTokenizer(vocab_file=folder / "vocab.json")
    model.init_models()
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    config.save_json(str(folder / "config.json"))
    if speakers:
        rng = torch.Generator().manual_seed(1)
        voices = {
            name: {
                "gpt_cond_latent": torch.randn(1, 32, 64, generator=rng),
                "speaker_embedding": torch.randn(1, 512, 1, generator=rng),
            }
            for name in speakers
        }
        torch.save(voices, folder / "speakers_xtts.pth")
    return folder


def _make_vocabulary(path: Path) -> None:
    """As XTTS lays it out: byte-pair encoding with marks for start, stop, space and each language."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    marks = ["[STOP]", "[UNK]", "[SPACE]", "[START]", "[en]", "[pt]", "[fr]", "[de]", "[zh-cn]"]
    symbols = [*marks, *LETTERS.lower(), *PUNCTUATION]
    tokenizer = Tokenizer(BPE(vocab={s: i for i, s in enumerate(dict.fromkeys(symbols))}, merges=[], unk_token="[UNK]"))
    tokenizer.add_special_tokens(marks)
    tokenizer.save(str(path))
