"""XTTS v2: speaks 17 languages in a voice cloned from seconds of reference speech. CPML, non-commercial.

Speech is sampled token by token, so its length is known only once it has been spoken: plans hold an
estimate, and clips come at their own length, to be stretched.
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from actors import hub, languages, phonemes
from actors.device import release_memory, torch_device
from actors.engine import Engine as BaseEngine
from actors.engine import EngineConfig
from actors.errors import ConfigError, EngineLoadError, ItemError
from actors.speech._coqui import checkpoint
from actors.speech._planned.base import CHARACTERS_PER_S, require_loaded
from actors.speech._planned.model import Tokens, attempt, seed_of
from actors.speech._planned.synthesis import PAUSE_S
from actors.types import (
    Clip,
    ItemFailure,
    Plan,
    PlanChunk,
    PlanRequest,
    Reference,
    Samples,
    SpeechRequest,
    SynthesiseRequest,
)

if TYPE_CHECKING:
    from torch import Tensor

CHARACTER_LIMITS: Mapping[str, int] = {
    "en": 250, "es": 239, "fr": 273, "de": 253, "it": 213, "pt": 203, "pl": 224, "tr": 226, "ru": 182,
    "nl": 251, "cs": 186, "ar": 166, "zh-CN": 82, "hu": 224, "ko": 95, "ja": 71, "hi": 150,
}  # fmt: skip
"""Most characters in one call, by language (``VoiceBpeTokenizer.char_limits``).

All limits stand for the same length of speech, so they also give the pace of each language.
"""
READING_PACKAGES: Mapping[str, str] = {"zh-CN": "pypinyin", "ja": "cutlet"}
"""Modules by which Coqui's tokenizer reads these languages; it fails on every line without them."""
LIMIT_S = CHARACTER_LIMITS["en"] / CHARACTERS_PER_S

SAMPLE_HZ = 24_000
FRAME_SAMPLES = 256
REFERENCE_HZ = 22_050
SHORTEST_REFERENCE_S = 1.0
"""The model accepts a third of a second; under one second the clone does not resemble the speaker."""
SILENT_PEAK = 1e-3


class XttsConfig(EngineConfig):
    model: str = "tts_models/multilingual/multi-dataset/xtts_v2"
    """A ``tts_models/...`` name, or a folder with config.json, model.pth and vocab.json."""
    voice: str | None = None
    """One of the checkpoint's own speakers, for requests with neither reference nor voice; None takes the first."""
    temperature: float | None = Field(default=None, gt=0, le=2)
    """Sampling temperature; None takes the checkpoint's. Output stays a function of the plan."""
    max_cached_speakers: int = Field(default=64, ge=1, le=10_000)
    """References whose conditioning is cached, about 140 kB each; the least recently used is dropped first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditioning:
    """The model's representation of a speaker."""

    latents: Tensor
    """(1, num_latents, C): the speaker's manner of speaking."""
    embedding: Tensor
    """(1, D, 1): the speaker's timbre."""


class Engine(BaseEngine[SpeechRequest, Plan | Clip]):
    """XTTS, one line after another: its library generates for a single text, so a batch takes as long as its lines.

    More throughput needs more replicas, a share of a GPU each.
    """

    Config: ClassVar[type[EngineConfig]] = XttsConfig
    neutral_options = BaseEngine.neutral_options | {"max_cached_speakers"}
    config: XttsConfig
    packages: ClassVar[Mapping[str, str]] = {
        "TTS": "coqui-tts",
        "torch": "torch",
        "torchaudio": "torchaudio",
        "torchcodec": "torchcodec",
    }
    _loaded: Any = None

    def __init__(self, config: XttsConfig) -> None:
        super().__init__(config)
        self._speakers: OrderedDict[str, Conditioning] = OrderedDict()

    # --- the engine's contract

    def supports(self, *asked: str) -> bool:
        (language,) = asked
        return languages.best_match(language, self._readable()) is not None

    def describe_languages(self) -> str:
        missing = sorted(set(READING_PACKAGES) - set(self._readable()))
        hint = f"; {', '.join(missing)} need `pip install 'coqui-tts[ja,zh]'`" if missing else ""
        return ", ".join(self._readable()) + hint

    @staticmethod
    def _readable() -> list[str]:
        """The languages whose text can be read with the packages that are installed."""
        return [
            tag
            for tag in CHARACTER_LIMITS
            if tag not in READING_PACKAGES or importlib.util.find_spec(READING_PACKAGES[tag]) is not None
        ]

    def cost(self, request: SpeechRequest) -> float:
        """Seconds of audio; a plan costs next to nothing."""
        return request.duration_s if isinstance(request, SynthesiseRequest) else 0.01

    def weights_id(self) -> str | None:
        folder = self._local_folder()
        return hub.fingerprint(folder) if (folder / "config.json").is_file() else None

    def load(self) -> None:
        import torch

        torch.set_num_threads(self.config.threads)
        device = torch_device(self.config.device, self.num_gpus)
        self._loaded = _load(self._folder()).to(device)

    def run(self, batch: Sequence[SpeechRequest]) -> list[Plan | Clip | ItemFailure]:
        return [attempt(self._plan_or_clip, request) for request in batch]

    def close(self) -> None:
        self._loaded = None
        self._speakers.clear()
        release_memory()

    # --- the two steps

    def _plan_or_clip(self, request: SpeechRequest) -> Plan | Clip:
        return self.plan(request) if isinstance(request, PlanRequest) else self.synthesise(request)

    def plan(self, request: PlanRequest) -> Plan:
        """Tokens and an estimate of their length. Raises ItemError without voice, language or words."""
        tag = self._tag(request.language)
        voice = self._voice(request)
        pieces = self._pieces(request.text, tag)
        characters_per_s = CHARACTER_LIMITS[tag] / LIMIT_S
        lengths_s = [len(piece) / characters_per_s + PAUSE_S for piece in pieces]
        chunks = []
        for piece, length_s in zip(pieces, lengths_s, strict=True):
            tokens = self._tokens(piece, tag)
            even = length_s * SAMPLE_HZ / FRAME_SAMPLES / len(tokens)
            chunks.append(PlanChunk(tokens=tokens, frames=np.full(len(tokens), even, np.float32)))
        natural_s = sum(lengths_s)
        return Plan(
            engine="xtts",
            voice=voice,
            language=request.language,
            text=request.text,
            chunks=tuple(chunks),
            frame_samples=FRAME_SAMPLES,
            sample_hz=SAMPLE_HZ,
            natural_s=natural_s,
            shortest_s=natural_s,
            longest_s=natural_s,
            exact=False,
            reference=request.reference,
        )

    def synthesise(self, request: SynthesiseRequest) -> Clip:
        """The plan spoken at the model's own pace; ``request.duration_s`` is ignored. Raises ItemError."""
        import torch

        plan = request.plan
        if plan.engine != "xtts":
            raise ItemError(f"xtts must be given its own plans; found one of {plan.engine}")
        speaker = self._conditioning(plan.voice, plan.reference)
        pause = np.zeros(round(PAUSE_S * SAMPLE_HZ), np.float32)
        parts: list[Samples] = []
        with torch.inference_mode():
            for chunk in plan.chunks:
                parts += [self._speak(chunk.tokens, seed_of(chunk.tokens, plan.voice, request.take), speaker), pause]
        return Clip(samples=np.concatenate(parts[:-1]).clip(-1.0, 1.0), sample_hz=SAMPLE_HZ)

    def stream(self, request: PlanRequest) -> Iterator[Samples]:
        """Chunks of speech, the first after about a second: float32 at ``SAMPLE_HZ``, in order.

        Raises ItemError like ``plan``. Sampling is not seeded: another request may sample between two chunks.
        """
        tag = self._tag(request.language)
        speaker = self._conditioning(self._voice(request), request.reference)
        for piece in self._pieces(request.text, tag):
            chunks = self._model.inference_stream(
                piece, tag.lower(), speaker.latents, speaker.embedding, **self._sampling()
            )
            for chunk in chunks:
                yield chunk.float().cpu().numpy()

    def _speak(self, tokens: Tokens, seed: int, speaker: Conditioning) -> Samples:
        """``Xtts.inference`` for tokens, seeded."""
        import torch

        gpt, device = self._model.gpt, speaker.latents.device
        text = torch.from_numpy(tokens.astype(np.int32)).to(device)[None]
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed >> 1)
            codes = gpt.generate(
                cond_latents=speaker.latents,
                text_inputs=text,
                do_sample=True,
                num_beams=1,
                num_return_sequences=1,
                output_attentions=False,
                **self._sampling(),
            )
        latents = gpt(
            text,
            torch.tensor([text.shape[-1]], device=device),
            codes,
            torch.tensor([codes.shape[-1] * gpt.code_stride_len], device=device),
            cond_latents=speaker.latents,
            return_attentions=False,
            return_latent=True,
        )
        samples: Samples = self._model.hifigan_decoder(latents, g=speaker.embedding).float().cpu().numpy().reshape(-1)
        return samples

    def _sampling(self) -> dict[str, Any]:
        config = self._model.config
        return {
            "temperature": self.config.temperature or config.temperature,
            "length_penalty": config.length_penalty,
            "repetition_penalty": float(config.repetition_penalty),
            "top_k": config.top_k,
            "top_p": config.top_p,
        }

    # --- text

    def _tag(self, language: str) -> str:
        tag = languages.best_match(language, self._readable())
        if tag is None:
            raise ItemError(f"xtts must be asked for {self.describe_languages()}; found {language!r}")
        return tag

    def _pieces(self, text: str, tag: str) -> list[str]:
        said = " ".join(text.split())
        if not any(character.isalnum() for character in said):
            raise ItemError(f"a text to speak must hold a word that can be read aloud; found {text!r}")
        pieces = ("".join(piece).strip() for piece in phonemes.split(said, CHARACTER_LIMITS[tag]))
        return [piece for piece in pieces if any(character.isalnum() for character in piece)]

    def _tokens(self, piece: str, tag: str) -> Tokens:
        try:
            tokens = np.array(self._model.tokenizer.encode(piece.lower(), lang=tag.lower()), np.int64)
        except ImportError as error:
            raise ItemError(
                f"reading {tag} needs another package: {error}; run: pip install 'coqui-tts[all]'"
            ) from error
        most = self._model.args.gpt_max_text_tokens - 1
        if not 0 < len(tokens) <= most:
            raise ItemError(f"a sentence must be 1 to {most} tokens of XTTS; found {len(tokens)} in {piece!r}")
        return tokens

    # --- voices

    def _voice(self, request: PlanRequest) -> str:
        """The voice's name in the plan: that of a checkpoint's speaker, or ``clone-`` and the reference's key."""
        if request.reference is not None:
            return f"clone-{request.reference.key}"
        known = self._own_speakers()
        name = request.voice or self.config.voice or next(iter(known), None)
        if name is None:
            raise ItemError("xtts clones: a request must have a reference; found none, nor speakers in the checkpoint")
        if name not in known:
            raise ItemError(
                f"a voice of xtts must be one of {', '.join(known) or '(no speakers in the checkpoint)'}, "
                f"or a request must have a reference; found {name!r}"
            )
        return name

    def _own_speakers(self) -> Mapping[str, Any]:
        manager = self._model.speaker_manager
        speakers: Mapping[str, Any] = {} if manager is None else manager.speakers
        return speakers

    def _conditioning(self, voice: str, reference: Reference | None) -> Conditioning:
        if reference is None:
            if voice not in self._own_speakers():
                raise ItemError(
                    f"the plan of voice {voice!r} must carry its reference: this checkpoint has no such voice"
                )
            latents, embedding = self._own_speakers()[voice].values()
            device = self._model.device
            return Conditioning(latents=latents.to(device), embedding=embedding.to(device))
        if reference.key not in self._speakers:
            self._speakers[reference.key] = self._condition_on(reference)
            if len(self._speakers) > self.config.max_cached_speakers:
                self._speakers.popitem(last=False)
        self._speakers.move_to_end(reference.key)
        return self._speakers[reference.key]

    def _condition_on(self, reference: Reference) -> Conditioning:
        """``Xtts.get_conditioning_latents`` for samples, as the library takes only files."""
        import torch
        from torchaudio.functional import resample

        samples, length_s = reference.samples, len(reference.samples) / reference.sample_hz
        if samples.ndim != 1 or not np.isfinite(samples).all() or length_s < SHORTEST_REFERENCE_S:
            raise ItemError(
                f"a reference must be mono, finite and at least {SHORTEST_REFERENCE_S:g} s; "
                f"found shape {samples.shape}, {length_s:.2f} s"
            )
        if np.abs(samples).max() < SILENT_PEAK:
            raise ItemError("a reference must hold speech; found silence")
        config = self._model.config
        with torch.inference_mode():
            audio = torch.from_numpy(samples.astype(np.float32))[None, : config.max_ref_len * reference.sample_hz]
            audio = resample(audio, reference.sample_hz, REFERENCE_HZ).to(self._model.device)
            return Conditioning(
                latents=self._model.get_gpt_cond_latents(
                    audio, REFERENCE_HZ, length=config.gpt_cond_len, chunk_length=config.gpt_cond_chunk_len
                ),
                embedding=self._model.get_speaker_embedding(audio, REFERENCE_HZ),
            )

    @property
    def _model(self) -> Any:
        return require_loaded(self._loaded, "xtts")

    def _folder(self) -> Path:
        folder = self._local_folder()
        if not self._is_named() or (folder / "config.json").is_file():
            return folder
        return checkpoint.fetch(self.config.model)

    def _local_folder(self) -> Path:
        if self._is_named():
            return checkpoint.fetched_folder(self.config.model)
        return Path(self.config.model).expanduser()

    def _is_named(self) -> bool:
        return self.config.model.startswith(checkpoint.NAME_PREFIX)


def _load(folder: Path) -> Any:
    """Coqui's ``Xtts``, ready to speak. Raises ConfigError and EngineLoadError."""
    from TTS.config import load_config
    from TTS.tts.models.xtts import Xtts

    missing = [name for name in ("config.json", "model.pth", "vocab.json") if not (folder / name).is_file()]
    if missing:
        raise ConfigError(f"speech.options.model must be a folder of XTTS; {folder} lacks {', '.join(missing)}")
    # Coqui's loader reads with weights_only too, but its errors say little.
    try:
        config = load_config(folder / "config.json")
        if config.model != "xtts":
            raise ConfigError(
                f"{folder / 'config.json'} must be of XTTS; found {config.model!r}; use speech.engine: coqui"
            )
        model = Xtts(config)
        model.load_checkpoint(config, checkpoint_dir=str(folder), eval=True)
    except ConfigError:
        raise
    except Exception as error:  # the loader of a damaged file, or of another model's, may raise anything
        raise EngineLoadError(
            f"{folder} must hold an XTTS checkpoint of weights alone; {type(error).__name__}: {error}"
        ) from error
    return model
