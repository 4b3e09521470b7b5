"""Coqui VITS: any ``tts_models/...`` of that kind, a checkpoint, or joe, a Piper voice carried over (CC0)."""

from __future__ import annotations

import dataclasses
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
from actors.speech import _coqui_model
from actors.speech._base import (
    ChosenFrames,
    Frames,
    Passage,
    SpeechConfig,
    Tokens,
    Voice,
    require_loaded,
    seeded_rng,
)
from actors.speech._batched import BatchedSpeech
from actors.speech.piper import JOE, JOE_SHA256, JOE_VOICE
from actors.speech.piper import Engine as Piper
from actors.types import ItemFailure, Samples

if TYPE_CHECKING:
    from torch import Tensor

    from actors.speech._coqui_text import Reader
    from actors.speech._vits import Line, Network

JOE_NAME = "joe"
UNCALIBRATED_FLOOR = 0.8
LONGEST = 1.6


class CoquiConfig(SpeechConfig):
    model: str = JOE_NAME
    """``joe``, a ``tts_models/...`` name, a folder with config.json and weights, or the weights' file."""
    languages: tuple[str, ...] | None = None
    """BCP-47 tag of each of the model's languages, in its order, where its own names are no tags."""
    noise_scale: float | None = Field(default=None, ge=0, le=2)
    """Variety of the voice's timbre; None takes what the model recommends. Output stays deterministic."""
    natural_scale: float | None = Field(default=None, gt=0, le=3)
    """Pace: multiplies the durations the model predicts; None takes its calibration."""
    precision: Dtype = "auto"
    """Of the waveform decoder, four fifths of the work; the rest is always float32, which its sums need."""
    compile: bool = False
    """Compile the model on load: minutes more to load, for less time a batch on a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    reader: Reader
    network: Network
    speakers: Mapping[str, int]
    """Row of the speaker table of each voice."""
    languages: Mapping[str, int]
    """Row of the language table of each of the model's names."""


class Engine(BatchedSpeech):
    """Truly batched: an item's plan and audio do not depend on the batch, to 1e-4 of full scale.

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
    _loaded: Model | None = None
    _fetched: _coqui_model.Checkpoint | None = None

    @functools.cached_property
    def voices(self) -> tuple[Voice, ...]:
        if self.config.model == JOE_NAME:
            scale = self.config.natural_scale or JOE_VOICE.natural_scale
            return (dataclasses.replace(JOE_VOICE, natural_scale=scale),)
        checkpoint = self._found()
        if checkpoint is None:
            return (self._unfetched_voice(),)
        config = _coqui_model.read_config(checkpoint)
        names = config.speaker_names(checkpoint.folder) or (checkpoint.name,)
        frame_samples = math.prod(config.model_args.upsample_rates_decoder)
        tags = tuple(self._own_names)
        return tuple(self._voice(name, tags, config.audio.sample_rate, frame_samples) for name in names)

    def weights_id(self) -> str | None:
        if self.config.model == JOE_NAME:
            return JOE_SHA256
        return _coqui_model.weights_id(self.config.model)

    def load(self) -> None:
        import torch

        torch.set_num_threads(self.config.threads)
        checkpoint = self._checkpoint()
        vits = _coqui_model.load_vits(checkpoint)
        self._note_fetched(checkpoint)
        rows, speakers = _coqui_model.speaker_table(vits)
        network = self._make_network(vits, speakers)
        if self.config.compile or network.device.type == "cuda":
            network.warm_up()
        self._loaded = Model(
            reader=self._make_reader(vits.tokenizer, checkpoint),
            network=network,
            speakers=rows or {self.voices[0].name: 0},
            languages=dict(vits.language_manager.name_to_id),
        )

    def close(self) -> None:
        self._loaded = None
        release_memory()

    def _make_network(self, vits: Any, speakers: Tensor | None) -> Network:
        import torch

        from actors.speech._vits import BucketedNetwork, SequentialNetwork

        device = torch_device(self.config.device)
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

    def _make_reader(self, tokenizer: Any, checkpoint: _coqui_model.Checkpoint) -> Reader:
        from actors.speech import _coqui_text as text
        from actors.speech._piper_import import SETTINGS_NAME, espeak_voice_of

        settings = checkpoint.folder / SETTINGS_NAME
        if settings.is_file():
            return text.Reader(tokenizer, text.spell_as_piper(espeak_voice_of(settings)))
        config = _coqui_model.read_config(checkpoint)
        phonemizers = text.phonemizers_of(config, tuple(self._own_names.values()))
        return text.Reader(tokenizer, text.spell_as_coqui(tokenizer, phonemizers))

    def choose_voice(self, language: str, name: str | None) -> Voice:
        """The voice, narrowed to the one of its languages that is nearest to ``language``."""
        voice = super().choose_voice(language, name)
        match = languages.best_match(language, voice.languages)
        return voice if match is None else dataclasses.replace(voice, languages=(match,))

    def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
        return self._model.reader.pieces(text, self._own_name(voice))

    def is_silent(self, token: int) -> bool:
        return token in self._model.reader.silent

    def predict_batch(self, passages: Sequence[Passage]) -> list[Frames | ItemFailure]:
        return self._model.network.durations([self._line(passage) for passage in passages])

    def speak_batch(self, passages: Sequence[Passage], frames: Sequence[ChosenFrames]) -> list[Samples | ItemFailure]:
        return self._model.network.speak([self._line(passage) for passage in passages], frames)

    def _line(self, passage: Passage) -> Line:
        from actors.speech._vits import Line

        return Line(
            tokens=passage.tokens,
            speaker=self._model.speakers[passage.voice.name],
            language=self._model.languages.get(self._own_name(passage.voice), 0),
            seed=int(seeded_rng(passage.tokens, passage.voice).integers(2**63)),
        )

    @property
    def _model(self) -> Model:
        return require_loaded(self._loaded, "coqui")

    # --- what the model calls its languages

    def _own_name(self, voice: Voice) -> str:
        return self._own_names[voice.languages[0]]

    @functools.cached_property
    def _own_names(self) -> dict[str, str]:
        """BCP-47 tag → the model's name of the language."""
        if self.config.model == JOE_NAME:
            return {JOE_VOICE.languages[0]: "en-us"}
        checkpoint = self._found()
        own = () if checkpoint is None else _coqui_model.read_config(checkpoint).own_languages(checkpoint.folder)
        named = self.config.model.split("/")[1] if self.config.model.startswith(_coqui_model.NAME_PREFIX) else ""
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

    def _found(self) -> _coqui_model.Checkpoint | None:
        return self._fetched or _coqui_model.find(self.config.model)

    def _note_fetched(self, checkpoint: _coqui_model.Checkpoint) -> None:
        """What was known of a model before it was fetched gives way to what its files say."""
        self._fetched = checkpoint
        self.__dict__.pop("voices", None)
        self.__dict__.pop("_own_names", None)

    def _unfetched_voice(self) -> Voice:
        """Stands for the voices of a model that has not been fetched yet: its name tells its language."""
        name = self.config.voice or self.config.model.split("/")[2]
        return self._voice(name, tuple(self._own_names), JOE_VOICE.sample_hz, JOE_VOICE.frame_samples)

    def _voice(self, name: str, tags: tuple[str, ...], sample_hz: int, frame_samples: int) -> Voice:
        scale = self.config.natural_scale or 1.0
        return Voice(
            name=name,
            languages=tags,
            gender=None,
            natural_scale=scale,
            floor=min(UNCALIBRATED_FLOOR, scale),
            longest=max(LONGEST, scale),
            sample_hz=sample_hz,
            frame_samples=frame_samples,
            licence="see the model's card",
        )

    def _checkpoint(self) -> _coqui_model.Checkpoint:
        if self.config.model != JOE_NAME:
            return _coqui_model.require(self.config.model)
        from actors.speech import _piper_import

        voice = weights.verified(JOE, JOE_SHA256)
        key = f"{JOE_SHA256[:16]}/joe-coqui-{_piper_import.FORMAT}"

        def write(out: Path) -> None:
            _piper_import.convert(voice, out)

        folder = weights.derived(key, write)
        return _coqui_model.Checkpoint(
            name=JOE_NAME, config=folder / "config.json", weights=folder / _piper_import.WEIGHTS_NAME
        )


def _tag(own: str) -> str:
    try:
        return languages.normalise(own)
    except ConfigError as error:
        raise ConfigError(f"{error}; it is a Coqui model's own name: set speech.options.languages") from error
