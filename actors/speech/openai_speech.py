"""A speech model behind an OpenAI-compatible endpoint, ``POST /v1/audio/speech``: Kokoro, Piper, another raydub.

Such a server tells no length beforehand: plans hold an estimate, and clips come at their own length, to be stretched.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from actors.engine import EngineConfig
from actors.errors import ItemError
from actors.remote import Answer, Body, RemoteApi, RemoteConfig, RemoteEngine, TransientError
from actors.speech._planned.base import CHARACTERS_PER_S
from actors.types import Clip, Plan, PlanRequest, Samples, SpeechRequest, SynthesiseRequest

ENGINE = "openai_speech"
SILENT_PEAK = 1e-3
MAX_GROWTH = 4.0
"""Longest clip, as a multiple of the estimate, once it has ``FREE_S``: more is a model that does not end."""
FREE_S = 10.0
WAVE_SAMPLE_BYTES = 2


class OpenAISpeechConfig(RemoteConfig):
    voices: tuple[str, ...] = Field(default=("alloy",), min_length=1)
    """Voices that the server has; the first is for requests without one. Others are refused before it is asked."""
    format: Literal["wav", "pcm"] = "wav"
    """Form of the answer: ``pcm`` is 16-bit mono without a header, at ``pcm_hz``."""
    pcm_hz: int = Field(default=24_000, ge=8000, le=48_000)
    """Sample rate of ``pcm``, in Hz."""
    instructions: str = Field(default="", max_length=4000)
    """Manner of speaking, for models that take instructions."""
    language_field: str | None = None
    """Name of the request's field for the language, on servers that have one: ``language`` for raydub's own. Without
    it, the server must recognise the language by the text or the voice."""
    max_characters: int = Field(default=4096, ge=1)
    """Longest text that the server takes."""


class Engine(RemoteEngine[SpeechRequest, Plan | Clip]):
    """Plans are made here; clips by the server. ``cost`` is seconds of audio."""

    Config: ClassVar[type[EngineConfig]] = OpenAISpeechConfig
    config: OpenAISpeechConfig
    neutral_options = RemoteEngine.neutral_options | {"voices", "max_characters"}

    def supports(self, *asked: str) -> bool:
        (language,) = asked
        return self.is_trusted_with(language)

    def describe_languages(self) -> str:
        return ", ".join(self.config.languages) or "any language"

    def cost(self, request: SpeechRequest) -> float:
        return request.duration_s if isinstance(request, SynthesiseRequest) else 0.01

    def answer(self, api: RemoteApi, request: SpeechRequest, until_s: float) -> Plan | Clip:
        return self._plan(request) if isinstance(request, PlanRequest) else self._speak(api, request.plan, until_s)

    def _plan(self, request: PlanRequest) -> Plan:
        """An estimate by the number of characters. Raises ItemError without voice, language or words."""
        if not self.supports(request.language):
            raise ItemError(f"the language must be {self.describe_languages()}; found {request.language!r}")
        voice = request.voice or self.config.voices[0]
        if voice not in self.config.voices:
            raise ItemError(f"a voice must be one of {', '.join(self.config.voices)} (options.voices); found {voice!r}")
        if not any(character.isalnum() for character in request.text):
            raise ItemError(f"a text to speak must hold a word that can be read aloud; found {request.text!r}")
        if len(request.text) > self.config.max_characters or any("\ud800" <= each <= "\udfff" for each in request.text):
            raise ItemError(
                f"a text to speak must be valid Unicode of at most {self.config.max_characters} characters "
                f"(options.max_characters); found {len(request.text)}"
            )
        natural_s = max(0.3, len(request.text) / CHARACTERS_PER_S)
        return Plan(
            engine=ENGINE,
            voice=voice,
            language=request.language,
            text=request.text,
            chunks=(),
            frame_samples=1,
            sample_hz=self.config.pcm_hz,
            natural_s=natural_s,
            shortest_s=natural_s,
            longest_s=natural_s,
            exact=False,
        )

    def _speak(self, api: RemoteApi, plan: Plan, until_s: float) -> Clip:
        if plan.engine != ENGINE:
            raise ItemError(f"{ENGINE} must be given its own plans; found one of {plan.engine}")
        body = Body(json=self._body(plan))
        return api.post("audio/speech", lambda _: body, lambda answer: self._clip(answer, plan), until_s)

    def _body(self, plan: Plan) -> Mapping[str, Any]:
        options = self.config
        body = {
            "model": options.model,
            "input": plan.text,
            "voice": plan.voice,
            "response_format": options.format,
        }
        if options.instructions:
            body["instructions"] = options.instructions
        if options.language_field is not None:
            body[options.language_field] = plan.language
        return {**body, **options.extra_body}

    def _clip(self, answer: Answer, plan: Plan) -> Clip:
        """The answer's audio. Raises TransientError if it holds no speech, or far too much."""
        if self.config.format == "pcm":
            clip = Clip(samples=_mono(answer.content, 1), sample_hz=self.config.pcm_hz)
        else:
            clip = _read_wave(answer.content)
        if np.abs(clip.samples).max(initial=0.0) < SILENT_PEAK:
            raise TransientError("its audio must hold speech; it is silent")
        longest_s = FREE_S + MAX_GROWTH * plan.natural_s
        if clip.duration_s > longest_s:
            raise TransientError(
                f"its audio must be at most {longest_s:.0f} s for this text; it is {clip.duration_s:.0f}"
            )
        return clip


def _read_wave(content: bytes) -> Clip:
    try:
        # A server that streams does not know the length it writes into the header: the bytes count.
        with wave.open(io.BytesIO(content)) as file:
            num_channels, sample_bytes, hz = file.getnchannels(), file.getsampwidth(), file.getframerate()
            data = file.readframes(len(content))
    except (wave.Error, EOFError, RuntimeError) as error:
        raise TransientError(
            f"its answer must be a WAV file of 16-bit samples; {error or 'it ends too early'}"
        ) from error
    if sample_bytes != WAVE_SAMPLE_BYTES or not 8000 <= hz <= 192_000:
        raise TransientError(f"its WAV file must have 16-bit samples; found {8 * sample_bytes} bits at {hz} Hz")
    return Clip(samples=_mono(data, num_channels), sample_hz=hz)


def _mono(data: bytes, num_channels: int) -> Samples:
    """Samples of 16 bits, little-endian, as float32 (num_samples,); the mean of the channels."""
    whole = data[: len(data) // (WAVE_SAMPLE_BYTES * num_channels) * WAVE_SAMPLE_BYTES * num_channels]
    frames = np.frombuffer(whole, "<i2").reshape(-1, num_channels)
    samples: Samples = (frames.mean(axis=1, dtype=np.float32) / np.float32(32768)).astype(np.float32)
    return samples
