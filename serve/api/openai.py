"""OpenAI's speech, embeddings and models endpoints, as its clients call them.

https://platform.openai.com/docs/api-reference. Errors are ``{"error": {message, type, param, code}}``.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from typing import Any, Literal

import numpy as np
from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from sse_starlette import EventSourceResponse

from cluster.streams import closing, started
from serve.api.dependencies import SECURITY, InferenceDep, note_ignored
from serve.api.elevenlabs_voices import elevenlabs_models
from serve.api.problems import ImitatedRouter, Problem
from serve.api.responses import StreamedResponse
from serve.errors import NotFoundError
from serve.inference.audio_stream import FORMS, STREAM_HZ, AudioFormat, StreamEncoder, encode
from serve.inference.inference import Inference

OPENAI_VOICES = frozenset(
    {"alloy", "ash", "ballad", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse", "cedar"}
)
"""OpenAI's voices, which clients send by default. Each stands for the default voice of the language."""
KOKORO_VOICE = re.compile("[abefhijpz][fm]_[a-z]+")
"""Voices that clients of servers with Kokoro send by default. Where there is no such voice, the default one speaks."""
OPENAI_MODELS = (
    *("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "tts-1", "tts-1-hd", "gpt-4o-mini-tts"),
    *("text-embedding-ada-002", "text-embedding-3-small", "text-embedding-3-large"),
)
"""OpenAI's names, which its clients send by default. Each stands for the engine of its task."""
CREATED_S = 0
"""Creation time of every model; the real one is not known."""


class SpeechBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str = Field(max_length=256)
    input: str = Field(min_length=1, max_length=4096)
    voice: str = Field(default="alloy", max_length=256)
    instructions: str | None = None
    response_format: AudioFormat = "mp3"
    speed: float = Field(default=1.0, ge=0.25, le=4.0)
    stream_format: Literal["audio", "sse"] = "audio"
    language: str | None = Field(default=None, max_length=35)
    """BCP-47; detected in the text if not given. OpenAI has no such field."""
    sample_rate: int | None = Field(default=None, ge=8000, le=48_000)
    """In Hz; an extension that other servers have too."""


class EmbeddingsBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str = Field(max_length=256)
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = None


def openai_error(problem: Problem) -> dict[str, Any]:
    """An error as OpenAI's clients expect it."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    return {"error": {"message": problem.detail, "type": kind, "param": None, "code": None}}


router = ImitatedRouter(
    prefix="/v1",
    tags=["OpenAI"],
    dependencies=SECURITY,
    error_paths=("/v1/audio", "/v1/embeddings", "/v1/models"),
    error_body=openai_error,
)


@router.post("/audio/speech", response_class=StreamedResponse)
async def speech(request: Request, body: SpeechBody, inference: InferenceDep) -> Response:
    """Speak a text. The answer begins with the first sentence."""
    note_model(request, body.model)
    note_ignored(request, *(["instructions"] if body.instructions else []))
    hz = body.sample_rate or STREAM_HZ
    encoder = StreamEncoder(body.response_format, hz=hz)
    language = inference.language_to_speak(body.input, body.language)
    voice = await _voice(request, inference, body.voice, language)
    blocks = inference.speak(body.input, language=language, voice=voice, speed=body.speed, hz=hz)
    encoded = await started(encode(blocks, encoder, inference.encoding))
    if body.stream_format == "sse":
        return EventSourceResponse(_speech_events(encoded), sep="\n")
    return StreamedResponse(encoded, media_type=FORMS[body.response_format].mime)


@router.post("/embeddings")
async def embeddings(request: Request, body: EmbeddingsBody, inference: InferenceDep) -> dict[str, Any]:
    """Embed texts as vectors of length 1."""
    note_model(request, body.model)
    texts = _texts(body.input)
    inference.check_texts(texts)
    await inference.check_room("embedding")
    vectors = await inference.embed(texts)
    if body.dimensions not in (None, vectors.shape[1]):
        raise HTTPException(
            400, f"dimensions must be {vectors.shape[1]}, as the model has; found {body.dimensions}; leave it out"
        )
    data = [
        {"object": "embedding", "index": index, "embedding": _embedding(vector, body.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    num_words = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": num_words, "total_tokens": num_words}
    return {"object": "list", "data": data, "model": body.model, "usage": usage}


@router.get("/models")
async def models(request: Request, inference: InferenceDep) -> Any:
    """The engines of this service, and the names that stand for them.

    Clients that send `xi-api-key` get the list of ElevenLabs' API.
    """
    if "xi-api-key" in request.headers and "authorization" not in request.headers:
        return elevenlabs_models(inference)
    return {"object": "list", "data": _models(inference)}


@router.get("/models/{name:path}")
async def model(name: str, inference: InferenceDep) -> Response:
    found = next((entry for entry in _models(inference) if entry["id"] == name), None)
    if found is None:
        raise NotFoundError(f"a model must be one of /v1/models; found {name!r}")
    return JSONResponse(found)


# --- speech


async def _voice(request: Request, models: Inference, given: str, language: str) -> str | None:
    """The voice to ask the engine for; None for its default."""
    if given in OPENAI_VOICES:
        return None
    known = models.voices(language)
    if not known or not KOKORO_VOICE.fullmatch(given):
        return given
    if given in known and await models.can_speak(language, given):
        return given
    name = given.partition("_")[2]
    if name not in known:
        note_ignored(request, "voice")
    return name if name in known else None


async def _speech_events(encoded: AsyncIterator[bytes]) -> AsyncIterator[dict[str, str]]:
    async with closing(encoded):
        async for data in encoded:
            yield sent_event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    yield sent_event({"type": "speech.audio.done", "usage": usage})


def sent_event(body: dict[str, Any]) -> dict[str, str]:
    return {"data": json.dumps(body)}


# --- embeddings, models


def note_model(request: Request, name: str) -> None:
    """The configuration decides on the models; a name that ``/v1/models`` does not list is noted as ignored."""
    if name not in _model_names(request.app.state.dispatcher.inference):
        note_ignored(request, "model")


def _texts(given: str | list[str] | list[int] | list[list[int]]) -> list[str]:
    if isinstance(given, str):
        return [given]
    texts = [text for text in given if isinstance(text, str)]
    if len(texts) < len(given):
        raise HTTPException(
            400,
            "input must be text, because other models have other tokens; found token ids; with LangChain, set "
            "check_embedding_ctx_length=False",
        )
    return texts


def _embedding(vector: np.ndarray[Any, np.dtype[np.float32]], form: str) -> list[float] | str:
    if form == "float":
        return [float(value) for value in vector]
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _model_names(models: Inference) -> list[str]:
    return [*models.engine_names(), *OPENAI_MODELS]


def _models(models: Inference) -> list[dict[str, Any]]:
    return [
        {"id": name, "object": "model", "created": CREATED_S, "owned_by": "raydub"} for name in _model_names(models)
    ]
