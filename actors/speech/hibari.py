"""Hibari, a small English voice distilled from Kokoro-82M's af_heart. Apache-2.0.

WER of whisper-base on the ten sentences of bench/bench_speech.py is 0.01 at every scale from 0.6
(32 characters/s) to 1.1 (17 characters/s). So the shortest scale is no measured failure but a judgement
of the pace that listeners can follow: 27 characters/s. The model's own pace, 19 characters/s, is a hurried
speaker's, hence the natural scale. 0.008 CPU-s per second of audio; planning adds 13 to 20 % to that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from actors import onnx_graph, phonemes, weights
from actors.engine import EngineConfig
from actors.onnx_graph import CutSessions
from actors.speech._kokoro.vocabulary import FRAME_SAMPLES, MAX_PHONEMES, SAMPLE_HZ, Vocabulary
from actors.speech._planned.base import PlannedSpeech, PlannedSpeechConfig
from actors.speech._planned.edges import Edges
from actors.speech._planned.model import ChosenFrames, Frames, OneByOne, Passage, SpeechModel, Tokens, seeded_rng
from actors.speech._planned.voices import Context, Voice
from actors.types import Samples

if TYPE_CHECKING:
    from hibari.g2p import G2P

MODEL_FILE = weights.Resource(package="hibari", path="assets/hibari.onnx")
MODEL_SHA256 = "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8"
VOCAB_FILE = weights.Resource(package="hibari", path="assets/vocab.json")
VOCAB_SHA256 = "70abefbe8a1c8865e43e0a43bbdc25b91a33e4aa053479d443ccf23e20a59e5d"

VOICES = (
    Voice(
        name="heart",
        languages=("en-US",),
        gender="female",
        natural_scale=1.1,
        shortest_scale=0.7,
        longest_scale=1.6,
        sample_hz=SAMPLE_HZ,
        frame_samples=FRAME_SAMPLES,
        licence="Apache-2.0",
    ),
)


class HibariConfig(PlannedSpeechConfig):
    device: Literal["auto", "cpu"] = "auto"
    """The model is smaller than the cost of moving it to a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HibariModel:
    sessions: CutSessions
    vocabulary: Vocabulary
    silent: frozenset[int]
    g2p: G2P

    def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
        from hibari.tts import Hibari

        return [
            self.vocabulary.tokens(piece)
            for sentence in Hibari.split_sentences(text)
            for piece in phonemes.split(self.g2p(sentence), MAX_PHONEMES)
        ]

    def predict(self, passage: Passage) -> Frames:
        (natural,) = self.sessions.durations.run(["natural"], {"ids": passage.tokens[None]})
        return cast(Frames, natural)

    def speak(self, passage: Passage, frames: ChosenFrames) -> Samples:
        from hibari import dsp

        spectrum = self.sessions.synthesis.run(None, {"ids": passage.tokens[None], "frames": frames})
        samples = dsp.synth(*(part[0] for part in spectrum), seeded_rng(passage))
        return cast(Samples, samples)


class Engine(PlannedSpeech):
    Config: ClassVar[type[EngineConfig]] = HibariConfig
    runs_on_gpu: ClassVar[bool] = False
    packages: ClassVar[Mapping[str, str]] = {
        "onnxruntime": "onnxruntime",
        "onnx": "onnx",
        "scipy": "scipy",
        "hibari": "hibari-tts",
    }
    edges = Edges(lead=2.0, last=5.0, tail=3.0, context=Context(lead=12, last=12), tail_context=0)
    plan_share = 0.16

    @property
    def voices(self) -> tuple[Voice, ...]:
        return VOICES

    def weights_id(self) -> str:
        return weights.pins_digest(MODEL_SHA256, VOCAB_SHA256)

    def load_model(self) -> SpeechModel:
        from hibari.g2p import G2P

        halves = onnx_graph.cut_model(
            weights.verified(MODEL_FILE, MODEL_SHA256),
            MODEL_SHA256,
            "hibari",
            lambda model: onnx_graph.find_rounded_durations(model, ("num_tokens",)),
        )
        vocabulary = Vocabulary(ids=json.loads(weights.verified(VOCAB_FILE, VOCAB_SHA256).read_text("utf-8")))
        return OneByOne(
            HibariModel(
                sessions=halves.open(threads=self.config.threads),
                vocabulary=vocabulary,
                silent=vocabulary.silent,
                g2p=G2P(),
            )
        )
