"""Coqui VITS: any ``tts_models/...`` of that kind, a checkpoint, or joe, a Piper voice carried over (CC0)."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from actors import languages, weights
from actors.device import Dtype, release_memory, torch_device, torch_dtype
from actors.engine import EngineConfig
from actors.errors import ConfigError
from actors.speech._coqui import checkpoint as checkpoints
from actors.speech._coqui.checkpoint import Checkpoint
from actors.speech._planned.base import PlannedSpeech, PlannedSpeechConfig
from actors.speech._planned.model import ChosenFrames, Frames, Passage, SpeechModel, Tokens, seeded_rng
from actors.speech._planned.voices import Voice, uncalibrated_voice
from actors.speech.piper import JOE, JOE_SHA256, JOE_VOICE, joe_voice
from actors.speech.piper import Engine as Piper
from actors.types import ItemFailure, Samples

if TYPE_CHECKING:
    from torch import Tensor

    from actors.speech._coqui.text import Reader
    from actors.speech._coqui.vits import EncodedLine, Network

JOE_NAME = "joe"


class CoquiConfig(PlannedSpeechConfig):
    model: str = JOE_NAME
    """``joe``, a ``tts_models/...`` name, a folder with config.json and weights, or the weights' file."""
    languages: tuple[str, ...] | None = None
    """BCP-47 tag of each of the model's languages, in its order, for a model whose own names are no tags."""
    noise_scale: float | None = Field(default=None, ge=0, le=2)
    """Variety of the voice's timbre; None takes the model's recommended value. Output stays deterministic."""
    natural_scale: float | None = Field(default=None, gt=0, le=3)
    """Pace: multiplies the predicted durations; None takes the voice's calibration."""
    precision: Dtype = "auto"
    """Precision of the waveform decoder, four fifths of the work; the rest is always float32, which its sums need."""
    compile: bool = False
    """Compile the model on load: minutes more to load, for less time a batch on a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoquiModel:
    reader: Reader
    network: Network
    language_names: Mapping[str, str]
    """BCP-47 tag → the model's name of the language."""
    speakers: Mapping[str, int]
    """Row of the speaker table of each voice."""
    languages: Mapping[str, int]
    """Row of the language table of each of the model's names."""

    @property
    def silent(self) -> frozenset[int]:
        return self.reader.silent

    def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
        return self.reader.pieces(text, self.language_names[voice.languages[0]])

    def predict(self, passages: Sequence[Passage]) -> list[Frames | ItemFailure]:
        return self.network.durations([self._line(passage) for passage in passages])

    def speak(self, passages: Sequence[Passage], frames: Sequence[ChosenFrames]) -> list[Samples | ItemFailure]:
        return self.network.speak([self._line(passage) for passage in passages], frames)

    def _line(self, passage: Passage) -> EncodedLine:
        from actors.speech._coqui.vits import EncodedLine

        return EncodedLine(
            tokens=passage.tokens,
            speaker=self.speakers[passage.voice.name],
            language=self.languages.get(self.language_names[passage.voice.languages[0]], 0),
            seed=int(seeded_rng(passage).integers(2**63)),
        )


class Engine(PlannedSpeech):
    """Coqui's VITS. An item's plan and audio do not depend on its batch, to 1e-4 of full scale.

    Audio is the same on every replica of one kind of device; a CPU and a GPU draw different noise.
    """

    Config: ClassVar[type[EngineConfig]] = CoquiConfig
    config: CoquiConfig
    packages: ClassVar[Mapping[str, str]] = {
        "TTS": "coqui-tts",
        "torch": "torch",
        "torchaudio": "torchaudio",
        "torchcodec": "torchcodec",
        "onnx": "onnx",
        "piper": "piper-tts",
    }
    edges = Piper.edges  # the same model: the silence it needs is the same
    plan_share = 0.15
    _downloaded: Checkpoint | None = None

    @functools.cached_property
    def voices(self) -> tuple[Voice, ...]:
        if self.config.model == JOE_NAME:
            return (joe_voice(self.config.natural_scale),)
        checkpoint = self._local_checkpoint()
        if checkpoint is None:
            return (self._assumed_voice(),)
        config = checkpoints.read_config(checkpoint)
        names = config.speaker_names(checkpoint.folder) or (checkpoint.name,)
        frame_samples = math.prod(config.model_args.upsample_rates_decoder)
        tags = tuple(self._language_names)
        return tuple(self._voice(name, tags, config.audio.sample_rate, frame_samples) for name in names)

    def weights_id(self) -> str | None:
        if self.config.model == JOE_NAME:
            return JOE_SHA256
        return checkpoints.weights_id(self.config.model)

    def load_model(self) -> SpeechModel:
        import torch

        torch.set_num_threads(self.config.threads)
        checkpoint = self.fetch_checkpoint()
        vits = checkpoints.load_vits(checkpoint)
        self._use_downloaded(checkpoint)
        rows, speakers = checkpoints.speaker_table(vits)
        network = self._make_network(vits, speakers)
        if self.config.compile or network.device.type == "cuda":
            network.warm_up()
        return CoquiModel(
            reader=self._make_reader(vits.tokenizer, checkpoint),
            network=network,
            language_names=self._language_names,
            speakers=rows or {self.voices[0].name: 0},
            languages=dict(vits.language_manager.name_to_id),
        )

    def close(self) -> None:
        super().close()
        release_memory()

    def _make_network(self, vits: Any, speakers: Tensor | None) -> Network:
        import torch

        from actors.speech._coqui.vits import BucketedNetwork, SequentialNetwork

        device = torch_device(self.config.device, self.num_gpus)
        # Of the two halves, float16 keeps the waveform closer by three bits, and nothing in it overflows.
        precision = "float16" if device == "cuda" and self.config.precision == "auto" else self.config.precision
        recommended = vits.args.inference_noise_scale
        network = BucketedNetwork if device == "cuda" else SequentialNetwork
        return network(
            vits,
            speakers,
            device=torch.device(device),
            decoder_dtype=torch_dtype(precision, device),
            noise_scale=recommended if self.config.noise_scale is None else self.config.noise_scale,
            compiled=self.config.compile,
        )

    def _make_reader(self, tokenizer: Any, checkpoint: Checkpoint) -> Reader:
        from actors.speech._coqui import text
        from actors.speech._coqui.piper_import import SETTINGS_NAME, espeak_voice_of

        settings = checkpoint.folder / SETTINGS_NAME
        if settings.is_file():
            return text.Reader(tokenizer, text.spell_as_piper(espeak_voice_of(settings)))
        config = checkpoints.read_config(checkpoint)
        phonemizers = text.phonemizers_of(config, tuple(self._language_names.values()))
        return text.Reader(tokenizer, text.spell_as_coqui(tokenizer, phonemizers))

    @functools.cached_property
    def _language_names(self) -> dict[str, str]:
        """BCP-47 tag → the model's name of the language."""
        if self.config.model == JOE_NAME:
            return {JOE_VOICE.languages[0]: "en-us"}
        checkpoint = self._local_checkpoint()
        own = () if checkpoint is None else checkpoints.read_config(checkpoint).own_languages(checkpoint.folder)
        named = self.config.model.split("/")[1] if self.config.model.startswith(checkpoints.NAME_PREFIX) else ""
        if len(own) < 2 and named not in ("", "multilingual"):
            # Older checkpoints leave the trainer's default, en-us, in a config of another language.
            own = own or (named,)
            tags = self.config.languages or (languages.normalise(named),)
        else:
            tags = self.config.languages or tuple(map(_tag, own))
        if not tags or (checkpoint is not None and len(tags) != len(own)):
            raise ConfigError(
                f"speech.options.languages must name each language of {self.config.model} as BCP-47, in the order "
                f"{', '.join(own) or '(none named)'}; found {', '.join(tags) or 'nothing'}"
            )
        return dict(zip(tags, own or tags, strict=True))

    def _local_checkpoint(self) -> Checkpoint | None:
        return self._downloaded or checkpoints.find(self.config.model)

    def _use_downloaded(self, checkpoint: Checkpoint) -> None:
        """Drop what was assumed of the model before its files were there."""
        self._downloaded = checkpoint
        self.__dict__.pop("voices", None)
        self.__dict__.pop("_language_names", None)

    def _assumed_voice(self) -> Voice:
        """A stand-in for the voices of a model that is not downloaded yet; its language is that of its name."""
        name = self.config.voice or self.config.model.split("/")[2]
        return self._voice(name, tuple(self._language_names), JOE_VOICE.sample_hz, JOE_VOICE.frame_samples)

    def _voice(self, name: str, tags: tuple[str, ...], sample_hz: int, frame_samples: int) -> Voice:
        return uncalibrated_voice(
            name=name,
            languages=tags,
            natural_scale=self.config.natural_scale or 1.0,
            sample_hz=sample_hz,
            frame_samples=frame_samples,
            licence="see the model's card",
        )

    def fetch_checkpoint(self) -> Checkpoint:
        """The model's files, downloaded or converted if need be. Raises ConfigError and EngineLoadError."""
        if self.config.model != JOE_NAME:
            return checkpoints.require(self.config.model)
        from actors.speech._coqui import piper_import

        voice = weights.verified(JOE, JOE_SHA256)
        key = f"{JOE_SHA256[:16]}/joe-coqui-{piper_import.FORMAT}"

        def write(out: Path) -> None:
            piper_import.convert(voice, out)

        folder = weights.derived(key, write)
        return Checkpoint(name=JOE_NAME, config=folder / "config.json", weights=folder / piper_import.WEIGHTS_NAME)


def _tag(own: str) -> str:
    try:
        return languages.normalise(own)
    except ConfigError as error:
        raise ConfigError(f"{error}; it is a Coqui model's own name: set speech.options.languages") from error
