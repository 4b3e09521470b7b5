"""ElevenLabs' lists of voices, models and history, as its clients call them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from actors import languages
from cluster.casting.preview import preview_text
from cluster.streams import started
from serve.api.dependencies import SECURITY, InferenceDep
from serve.api.elevenlabs_v1 import elevenlabs_error
from serve.api.problems import ImitatedRouter, documented
from serve.api.responses import StreamedResponse
from serve.errors import NotFoundError
from serve.inference.audio_stream import FORMS, STREAM_HZ, StreamEncoder, encode
from serve.inference.inference import DEFAULT_VOICE, Inference

SPEECH_MODELS = ("eleven_multilingual_v2", "eleven_flash_v2_5", "eleven_turbo_v2_5", "eleven_v3")
"""ElevenLabs' names, which its clients send by default. Each stands for the configured engines."""
RECORDING_MODELS = ("scribe_v1", "scribe_v2")


class VoiceLanguage(BaseModel):
    language: str
    model_id: str = SPEECH_MODELS[0]
    locale: str | None = None


class VoiceAnswer(BaseModel):
    voice_id: str
    """The name of a voice of an engine."""
    name: str
    category: str = "premade"
    labels: dict[str, str]
    description: str | None = None
    preview_url: str | None = None
    available_for_tiers: list[str] = []
    settings: dict[str, float] = {"speed": 1.0}
    verified_languages: list[VoiceLanguage]


class VoiceList(BaseModel):
    voices: list[VoiceAnswer]


class VoicePage(VoiceList):
    has_more: bool
    total_count: int
    next_page_token: str | None


class History(BaseModel):
    """Always empty: nothing that is spoken is kept."""

    history: list[dict[str, Any]] = []
    last_history_item_id: str | None = None
    has_more: bool = False


PREVIEW: dict[int | str, dict[str, Any]] = {
    200: {"description": "Audio.", "content": {"audio/mpeg": {}}},
    **documented(404),
}
router = ImitatedRouter(
    tags=["ElevenLabs speech"],
    dependencies=SECURITY,
    error_paths=("/v1/voices", "/v2/voices", "/v1/history"),
    error_body=elevenlabs_error,
)


@router.get("/v1/voices", responses=documented())
async def voices(request: Request, inference: InferenceDep) -> VoiceList:
    """The voices of all engines."""
    return VoiceList(voices=await _voices(request, inference))


@router.get("/v2/voices", responses=documented())
async def search(
    request: Request,
    inference: InferenceDep,
    search: Annotated[str, Query(max_length=200)] = "",
    page_size: Annotated[int, Query(ge=1, le=100)] = 10,
    next_page_token: Annotated[str, Query(pattern=r"^[0-9]{0,9}$")] = "",
    voice_ids: Annotated[list[str] | None, Query(max_length=100)] = None,
) -> VoicePage:
    """The voices whose name or language contains the text, in pages."""
    found = [
        voice
        for voice in await _voices(request, inference)
        if search.lower() in f"{voice.name} {' '.join(voice.labels.values())}".lower()
        and (voice_ids is None or voice.voice_id in voice_ids)
    ]
    start = int(next_page_token or 0)
    end = start + page_size
    more = end < len(found)
    return VoicePage(
        voices=found[start:end], has_more=more, total_count=len(found), next_page_token=str(end) if more else None
    )


@router.get("/v1/voices/{voice_id}/preview", response_class=StreamedResponse, responses=PREVIEW)
async def preview(voice_id: str, inference: InferenceDep) -> Response:
    """A sentence in this voice, as MP3."""
    spoken = await voice_languages(inference, voice_id)
    language = _preview_language(spoken)
    text = None if language is None else preview_text(language)
    if language is None or text is None:
        raise NotFoundError(f"a preview must be of a language with a sentence for it; found {', '.join(spoken)[:100]}")
    name = None if voice_id == DEFAULT_VOICE else voice_id
    sounds = inference.speak(text, language=language, voice=name, speed=1.0)
    encoded = await started(encode(sounds, StreamEncoder("mp3", hz=STREAM_HZ), inference.encoding))
    return StreamedResponse(encoded, media_type=FORMS["mp3"].mime)


@router.get("/v1/voices/{voice_id:path}", responses=documented(404))
async def voice(voice_id: str, request: Request, inference: InferenceDep) -> VoiceAnswer:
    spoken = await voice_languages(inference, voice_id)
    return _answer(request, inference, voice_id, spoken)


@router.get("/v1/history", responses=documented())
async def history() -> History:
    """Nothing that was spoken is kept, so the list is empty."""
    return History()


async def voice_languages(inference: Inference, voice_id: str) -> tuple[str, ...]:
    """The languages of a voice. Raises NotFoundError."""
    known = await asyncio.to_thread(lambda: inference.voice_languages)
    if voice_id not in known:
        names = ", ".join(list(known)[:20])
        raise NotFoundError(f"a voice must be one of /v1/voices, such as {names}; found {voice_id[:100]!r}")
    return known[voice_id]


async def _voices(request: Request, inference: Inference) -> list[VoiceAnswer]:
    known = await asyncio.to_thread(lambda: inference.voice_languages)
    return [_answer(request, inference, name, spoken) for name, spoken in known.items()]


def _preview_language(spoken: tuple[str, ...]) -> str | None:
    """The first of a voice's languages that has a sentence to hear it by."""
    return next((tag for tag in spoken if preview_text(tag) is not None), None)


def _answer(request: Request, inference: Inference, name: str, spoken: tuple[str, ...]) -> VoiceAnswer:
    registered = inference.registered_voices.get(name)
    labels = {"language": ", ".join(languages.display_name(tag) for tag in spoken)}
    if registered is not None and registered.gender is not None:
        labels["gender"] = registered.gender
    has_preview = _preview_language(spoken) is not None
    return VoiceAnswer(
        voice_id=name,
        name=name,
        labels=labels,
        description=None if registered is None else f"{registered.engine}, {registered.licence}",
        preview_url=str(request.url_for("preview", voice_id=name)) if has_preview else None,
        verified_languages=[VoiceLanguage(language=languages.base(tag), locale=tag) for tag in spoken],
    )


def elevenlabs_models(inference: Inference) -> list[dict[str, Any]]:
    """``/v1/models`` for clients that send ``xi-api-key``."""
    spoken = [{"language_id": tag, "name": languages.display_name(tag)} for tag in inference.spoken_languages]
    return [
        {
            "model_id": name,
            "name": name,
            "description": "Stands for the engines that this service is configured with.",
            "can_be_finetuned": False,
            "can_do_text_to_speech": True,
            "can_do_voice_conversion": False,
            "can_use_style": False,
            "can_use_speaker_boost": False,
            "serves_pro_voices": False,
            "token_cost_factor": 1.0,
            "requires_alpha_access": False,
            "maximum_text_length_per_request": inference.limits.max_text_characters,
            "languages": spoken,
        }
        for name in SPEECH_MODELS
    ]
