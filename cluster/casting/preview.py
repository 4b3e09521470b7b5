"""A sample of a voice, spoken in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from actors import languages
from actors.errors import ConfigError
from actors.host import BatchReport, EngineHost
from actors.spoken import spoken_form
from actors.types import Clip, ItemFailure, Plan, PlanRequest, SynthesiseRequest
from actors.wav import wav_file
from cluster.casting.voices import RegisteredVoice, settled

PREVIEW_TEXTS = {
    "de": "Guten Tag! So klingt meine Stimme, wenn ich ein Video spreche.",
    "en": "Hello! This is how my voice sounds when I speak in a video.",
    "es": "¡Hola! Así suena mi voz cuando hablo en un video.",
    "fr": "Bonjour ! Voici comment sonne ma voix quand je parle dans une vidéo.",
    "hi": "नमस्ते! वीडियो में बोलते समय मेरी आवाज़ ऐसी लगती है।",
    "it": "Ciao! Ecco come suona la mia voce quando parlo in un video.",
    "pt": "Olá! É assim que a minha voz soa quando falo em um vídeo.",
}
"""Language → a sentence to hear a voice by."""


def preview_text(language: str) -> str | None:
    """The sentence to hear a voice of this language by; None if there is none."""
    return PREVIEW_TEXTS.get(languages.base(language))


def speak(voice: RegisteredVoice, text: str | None = None) -> Clip:
    """The text, or the language's own sample, in this voice. Loads its engine, on the CPU, for this call alone.

    Raises ConfigError, EngineLoadError, and ItemError if the text cannot be spoken.
    """
    language = voice.languages[0]
    said = text if text is not None else preview_text(language)
    if said is None:
        raise ConfigError(f"a preview of {voice.id} must be given a text in {language}; there is none; add --text")
    host = EngineHost("speech", voice.engine, settled(voice.stage, language, voice.id).options)
    host.load()
    try:
        request = PlanRequest(text=spoken_form(said, language), language=language, voice=voice.id)
        plan = _only(host.run([request]))
        assert isinstance(plan, Plan)
        clip = _only(host.run([SynthesiseRequest(plan=plan, duration_s=plan.natural_s)]))
        assert isinstance(clip, Clip)
        return clip
    finally:
        host.close()


def write_wav(clip: Clip, path: Path) -> None:
    """Write the clip as 16-bit PCM. Raises ConfigError if the file cannot be written."""
    content = wav_file(np.round(np.clip(clip.samples, -1.0, 1.0) * 32767), clip.sample_hz)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"--out must be a file that can be written; {path}: {error.strerror or error}") from error


def _only(report: BatchReport) -> object:
    """The one result of a batch. Raises ItemError if it failed."""
    [result] = report.results
    if isinstance(result, ItemFailure):
        raise result.error
    return result
