"""Hibari, a small English voice distilled from Kokoro-82M's af_heart. Apache-2.0.

WER of whisper-base on the ten sentences of bench/bench_speech.py is 0.01 at every scale from 0.6
(32 characters/s) to 1.1 (17 characters/s). So the floor is no measured failure but a judgement of
what listeners follow: 27 characters/s. Its own pace, 19 characters/s, is a hurried speaker's, hence
the natural scale. 0.008 CPU-s per second of audio; planning adds 13 to 20 % to that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import numpy as np

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
    seeded_rng,
)
from actors.types import Samples

if TYPE_CHECKING:
    from hibari.g2p import G2P

MODEL_FILE = weights.Resource(package="hibari", path="assets/hibari.onnx")
MODEL_SHA256 = "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8"
VOCAB_FILE = weights.Resource(package="hibari", path="assets/vocab.json")
VOCAB_SHA256 = "70abefbe8a1c8865e43e0a43bbdc25b91a33e4aa053479d443ccf23e20a59e5d"

SAMPLE_HZ = 24_000
FRAME_SAMPLES = 600
MAX_PHONEMES = 400
"""As hibari.tts splits."""
PAD = 0
SILENT_MARKS = ';:,.!?—…"()“” '

VOICES = (
    Voice(
        name="heart",
        languages=("en-US",),
        gender="female",
        natural_scale=1.1,
        floor=0.7,
        longest=1.6,
        sample_hz=SAMPLE_HZ,
        frame_samples=FRAME_SAMPLES,
        licence="Apache-2.0",
    ),
)


class HibariConfig(SpeechConfig):
    device: Literal["auto", "cpu"] = "auto"
    """Smaller than what moving it to a GPU would cost."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model(CutOnnx):
    vocab: Mapping[str, int]
    g2p: G2P


class Engine(OnnxSpeech[Model]):
    Config: ClassVar[type[EngineConfig]] = HibariConfig
    packages: ClassVar[Mapping[str, str]] = {
        "onnxruntime": "onnxruntime",
        "onnx": "onnx",
        "scipy": "scipy",
        "hibari": "hibari-tts",
    }
    edges = Edges(lead=2.0, last=5.0, tail=3.0, lead_context=12, last_context=12, tail_context=0)
    plan_share = 0.16

    @property
    def voices(self) -> tuple[Voice, ...]:
        return VOICES

    def weights_id(self) -> str:
        return weights.pins_digest(MODEL_SHA256, VOCAB_SHA256)

    def load(self) -> None:
        from hibari.g2p import G2P

        halves = onnx_graph.cut_model(
            weights.verified(MODEL_FILE, MODEL_SHA256),
            MODEL_SHA256,
            "hibari",
            lambda model: onnx_graph.find_rounded_durations(model, ("num_tokens",)),
        )
        vocab: dict[str, int] = json.loads(weights.verified(VOCAB_FILE, VOCAB_SHA256).read_text("utf-8"))
        self._loaded = Model(
            durations=onnx_graph.make_session(halves.durations, threads=self.config.threads),
            synthesis=onnx_graph.make_session(halves.synthesis, threads=self.config.threads),
            vocab=vocab,
            silent=frozenset({PAD, *(vocab[mark] for mark in SILENT_MARKS)}),
            g2p=G2P(),
        )

    def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
        from hibari.tts import Hibari

        vocab = self.model.vocab
        return [
            np.array([PAD, *(vocab[letter] for letter in piece if letter in vocab), PAD], np.int64)
            for sentence in Hibari.split_sentences(text)
            for piece in phonemes.split(self.model.g2p(sentence), MAX_PHONEMES)
        ]

    def predict(self, tokens: Tokens, voice: Voice) -> Frames:
        (natural,) = self.model.durations.run(["natural"], {"ids": tokens[None]})
        return cast(Frames, natural)

    def speak(self, tokens: Tokens, frames: ChosenFrames, voice: Voice) -> Samples:
        from hibari import dsp

        spectrum = self.model.synthesis.run(None, {"ids": tokens[None], "frames": frames})
        samples = dsp.synth(*(part[0] for part in spectrum), seeded_rng(tokens, voice))
        return cast(Samples, samples)
