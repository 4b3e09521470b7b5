"""OpenAI's audio, embeddings and models endpoints, as its clients call them.

https://platform.openai.com/docs/api-reference: errors are ``{"error": {message, type, param, code}}``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sse_starlette import EventSourceResponse

from actors import languages
from actors.errors import ItemError
from actors.types import Samples
from cluster.streams import started
from cluster.subtitles import Cue, lay_out, render
from serve.audio_stream import FORMS, AudioFormat, StreamEncoder
from serve.errors import NotFoundError, Problem
from serve.inference import HeardSegment, Inference
from serve.middleware import allow_longer
from serve.uploads import on_disk

OPENAI_VOICES = frozenset(
    {"alloy", "ash", "ballad", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse", "cedar"}
)
"""Names that clients send by default: they mean whatever voice the language has here."""
CREATED_S = 0
"""Of every model: when it was made is not known here."""

TranscriptFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]


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
    """BCP-47, beyond OpenAI's: else it is told from the text."""


class EmbeddingsBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str = Field(max_length=256)
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = None


def openai_problem(problem: Problem) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    return {"error": {"message": problem.detail, "type": kind, "param": None, "code": None}}


def openai_routes(inference: Callable[[], Inference], max_upload_bytes: int) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["OpenAI"])

    @router.post("/audio/speech", response_class=StreamingResponse)
    async def speech(body: SpeechBody) -> Response:
        """Speak a text. The answer begins with the first sentence."""
        blocks = await started(_blocks(inference(), body))
        encoded = _encoded(blocks, body.response_format)
        if body.stream_format == "sse":
            return EventSourceResponse(_speech_events(encoded))
        return StreamingResponse(encoded, media_type=FORMS[body.response_format].mime)

    @router.post("/audio/transcriptions", max_body_size=max_upload_bytes)
    async def transcriptions(
        request: Request,
        file: Annotated[UploadFile, File()],
        model: Annotated[str, Form(max_length=256)],
        language: Annotated[str | None, Form(max_length=35)] = None,
        prompt: Annotated[str, Form(max_length=4096)] = "",
        response_format: Annotated[TranscriptFormat, Form()] = "json",
        temperature: Annotated[float, Form(ge=0, le=1)] = 0.0,
        timestamp_granularities: Annotated[
            list[Literal["word", "segment"]] | None, Form(alias="timestamp_granularities[]")
        ] = None,
        stream: Annotated[bool, Form()] = False,
    ) -> Response:
        """Write down what is said. With ``stream``, segments are sent as they are heard."""
        _check_temperature(temperature)
        spoken = None if language is None else languages.normalise(language)
        heard = _Hearing(request, inference(), file, language=spoken, prompt=prompt)
        if stream:
            return EventSourceResponse(_transcript_events(await started(heard.segments())))
        segments = [segment async for segment in heard.segments()]
        words = "word" in (timestamp_granularities or ())
        return _transcript(segments, response_format, duration_s=heard.duration_s, task="transcribe", words=words)

    @router.post("/audio/translations", max_body_size=max_upload_bytes)
    async def translations(
        request: Request,
        file: Annotated[UploadFile, File()],
        model: Annotated[str, Form(max_length=256)],
        prompt: Annotated[str, Form(max_length=4096)] = "",
        response_format: Annotated[TranscriptFormat, Form()] = "json",
        temperature: Annotated[float, Form(ge=0, le=1)] = 0.0,
    ) -> Response:
        """Write down in English what is said in another language."""
        _check_temperature(temperature)
        models = inference()
        heard = _Hearing(request, models, file, language=None, prompt=prompt)
        segments = [segment async for segment in heard.segments()]
        segments = await _in_english(models, segments)
        return _transcript(segments, response_format, duration_s=heard.duration_s, task="translate", words=False)

    @router.post("/embeddings")
    async def embeddings(body: EmbeddingsBody) -> dict[str, Any]:
        """Vectors of texts, of length 1."""
        models = inference()
        texts = [body.input] if isinstance(body.input, str) else body.input
        models.check_texts(texts)
        await models.check_room("embedding")
        vectors = await models.embed(texts)
        if body.dimensions not in (None, vectors.shape[1]):
            raise ItemError(f"dimensions must be {vectors.shape[1]}, as the model has; found {body.dimensions}")
        data = [
            {"object": "embedding", "index": index, "embedding": _embedding(vector, body.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        num_words = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": num_words, "total_tokens": num_words}
        return {"object": "list", "data": data, "model": body.model, "usage": usage}

    @router.get("/models")
    async def models() -> dict[str, Any]:
        """The engines that answer here."""
        return {"object": "list", "data": _models(inference())}

    @router.get("/models/{name:path}")
    async def model(name: str) -> Response:
        found = next((entry for entry in _models(inference()) if entry["id"] == name), None)
        if found is None:
            raise NotFoundError(f"a model must be one of /v1/models; found {name!r}")
        return JSONResponse(found)

    return router


# --- speech


async def _blocks(models: Inference, body: SpeechBody) -> AsyncIterator[Samples]:
    voice = None if body.voice in OPENAI_VOICES else body.voice
    language = models.language_to_speak(body.input, body.language)
    async for block in models.speak(body.input, language=language, voice=voice, speed=body.speed):
        yield block


async def _encoded(blocks: AsyncIterator[Samples], form: AudioFormat) -> AsyncIterator[bytes]:
    encoder = StreamEncoder(form)
    async for block in blocks:
        if data := encoder.encode(block):
            yield data
    yield encoder.finish()


async def _speech_events(encoded: AsyncIterator[bytes]) -> AsyncIterator[dict[str, str]]:
    async for data in encoded:
        yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    yield _event({"type": "speech.audio.done", "usage": usage})


def _event(body: dict[str, Any]) -> dict[str, str]:
    return {"data": json.dumps(body)}


# --- transcription


class _Hearing:
    """A file that somebody sent, while it is transcribed."""

    def __init__(
        self, request: Request, models: Inference, file: UploadFile, *, language: str | None, prompt: str
    ) -> None:
        self._request = request
        self._models = models
        self._file = file
        self._language = language
        self._prompt = prompt
        self.duration_s = 0.0

    async def segments(self) -> AsyncIterator[HeardSegment]:
        async with on_disk(self._file) as path:
            info, track = await self._models.open_audio(path)
            self.duration_s = info.duration_s
            allow_longer(self._request, info.duration_s * self._models.limits.answer_s_per_audio_s)
            async for segment in self._models.transcribe(info, track, language=self._language, prompt=self._prompt):
                yield segment


def _check_temperature(temperature: float) -> None:
    if temperature != 0:
        raise ItemError(f"temperature must be 0: what is heard must not depend on chance; found {temperature:g}")


async def _in_english(models: Inference, segments: Sequence[HeardSegment]) -> list[HeardSegment]:
    if not segments or languages.same(segments[0].language, "en"):
        return list(segments)
    texts = [segment.text for segment in segments]
    translated = await models.translate(texts, source=segments[0].language, target="en")
    return [
        HeardSegment(
            language="en",
            start_s=segment.start_s,
            end_s=segment.end_s,
            text=translation.candidates[0].text,
            words=(),
            mean_log_probability=segment.mean_log_probability,
            no_speech_probability=segment.no_speech_probability,
            compression_ratio=segment.compression_ratio,
        )
        for segment, translation in zip(segments, translated, strict=True)
    ]


async def _transcript_events(segments: AsyncIterator[HeardSegment]) -> AsyncIterator[dict[str, str]]:
    texts: list[str] = []
    async for segment in segments:
        delta = segment.text if not texts else f" {segment.text}"
        texts.append(segment.text)
        yield _event({"type": "transcript.text.delta", "delta": delta})
    yield _event({"type": "transcript.text.done", "text": " ".join(texts)})


def _transcript(
    segments: Sequence[HeardSegment], form: TranscriptFormat, *, duration_s: float, task: str, words: bool
) -> Response:
    text = " ".join(segment.text for segment in segments)
    if form == "text":
        return PlainTextResponse(text + "\n")
    if form in ("srt", "vtt"):
        cues = [Cue(start_s=segment.start_s, end_s=segment.end_s, text=segment.text) for segment in segments]
        mime = "application/x-subrip" if form == "srt" else "text/vtt"
        return PlainTextResponse(render(lay_out(cues), form), media_type=mime)
    if form == "json":
        return JSONResponse({"text": text})
    body: dict[str, Any] = {
        "task": task,
        "language": languages.display_name(segments[0].language).lower() if segments else "unknown",
        "duration": round(duration_s, 3),
        "text": text,
        "segments": [_segment(index, segment) for index, segment in enumerate(segments)],
    }
    if words:
        body["words"] = [
            {"word": word.text.strip(), "start": round(word.start_s, 3), "end": round(word.end_s, 3)}
            for segment in segments
            for word in segment.words
        ]
    return JSONResponse(body)


def _segment(index: int, segment: HeardSegment) -> dict[str, Any]:
    return {
        "id": index,
        "seek": 0,
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": segment.mean_log_probability,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_probability,
    }


# --- embeddings, models


def _embedding(vector: np.ndarray[Any, np.dtype[np.float32]], form: str) -> list[float] | str:
    if form == "float":
        return [float(value) for value in vector]
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _models(models: Inference) -> list[dict[str, Any]]:
    return [
        {"id": name, "object": "model", "created": CREATED_S, "owned_by": "raydub"} for name in models.engine_names()
    ]
