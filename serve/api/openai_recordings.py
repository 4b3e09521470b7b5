"""OpenAI's transcription and translation of recordings, as its clients call them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field
from sse_starlette import EventSourceResponse

from actors import languages
from cluster.streams import closing, started
from cluster.subtitles.layout import Cue, lay_out, render
from serve.api.dependencies import MULTIPART, SECURITY, InferenceDep, note_ignored, once_each
from serve.api.intake import UploadRoute, on_disk
from serve.api.middleware import allow_longer
from serve.api.openai import note_model, sent_event
from serve.inference.inference import HeardSegment, Inference

GRANULARITIES = ("timestamp_granularities[]", "timestamp_granularities")
"""The field's names: OpenAI's own, and the one without brackets that some clients send."""

TranscriptFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]


class RecordingForm(BaseModel):
    """A recording to transcribe, as both transcriptions and translations take it."""

    file: UploadFile
    model: str = Field(max_length=256)
    prompt: str = Field(default="", max_length=4096)
    response_format: TranscriptFormat = "json"
    temperature: float = Field(default=0.0, ge=0, le=1)


class TranscriptionForm(RecordingForm):
    language: str | None = Field(default=None, max_length=35)
    timestamp_granularities: list[Literal["word", "segment"]] | None = Field(
        default=None, alias="timestamp_granularities[]"
    )
    granularities_without_brackets: list[Literal["word", "segment"]] | None = Field(
        default=None, alias="timestamp_granularities"
    )
    stream: bool = False


upload_router = APIRouter(prefix="/v1", tags=["OpenAI"], dependencies=SECURITY, route_class=UploadRoute)


@upload_router.post("/audio/transcriptions", dependencies=[Depends(once_each(TranscriptionForm, *GRANULARITIES))])
async def transcriptions(
    request: Request, inference: InferenceDep, form: Annotated[TranscriptionForm, MULTIPART]
) -> Response:
    """Transcribe a recording. With ``stream``, each segment is sent as soon as it is transcribed."""
    _note_ignored(request, form)
    language = spoken_language(form.language)
    recording = Recording(request, inference, form.file, language=language, prompt=form.prompt)
    if form.stream:
        return EventSourceResponse(_transcript_events(await started(recording.segments())), sep="\n")
    segments = [segment async for segment in recording.segments()]
    words = "word" in (*(form.timestamp_granularities or ()), *(form.granularities_without_brackets or ()))
    return _transcript(segments, form.response_format, duration_s=recording.duration_s, task="transcribe", words=words)


@upload_router.post("/audio/translations", dependencies=[Depends(once_each(RecordingForm))])
async def translations(
    request: Request, inference: InferenceDep, form: Annotated[RecordingForm, MULTIPART]
) -> Response:
    """Transcribe a recording and translate it into English."""
    _note_ignored(request, form)
    recording = Recording(request, inference, form.file, language=None, prompt=form.prompt)
    segments = await _in_english(inference, [segment async for segment in recording.segments()])
    return _transcript(segments, form.response_format, duration_s=recording.duration_s, task="translate", words=False)


def spoken_language(given: str | None) -> str | None:
    """A tag or an English name of a language; None if it is to be detected. Raises ConfigError."""
    return None if given is None or given.lower() in ("", "auto") else languages.named(given)


def _note_ignored(request: Request, form: RecordingForm) -> None:
    note_model(request, form.model)
    if form.temperature:  # transcripts do not depend on chance
        note_ignored(request, "temperature")


class Recording:
    """An uploaded recording while it is transcribed."""

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
            heard = self._models.transcribe(info, track, language=self._language, prompt=self._prompt)
            async with closing(heard):
                async for segment in heard:
                    yield segment


async def _in_english(models: Inference, segments: Sequence[HeardSegment]) -> list[HeardSegment]:
    if not segments or languages.same(segments[0].language, "en"):
        return list(segments)
    texts = [segment.text for segment in segments]
    translated = await models.translate(texts, source=segments[0].language, target="en")
    return [
        HeardSegment(
            language="en",
            language_probability=segment.language_probability,
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
    async with closing(segments):
        async for segment in segments:
            delta = segment.text if not texts else f" {segment.text}"
            texts.append(segment.text)
            yield sent_event({"type": "transcript.text.delta", "delta": delta})
    yield sent_event({"type": "transcript.text.done", "text": " ".join(texts)})


def _transcript(
    segments: Sequence[HeardSegment], form: TranscriptFormat, *, duration_s: float, task: str, words: bool
) -> Response:
    text = " ".join(segment.text for segment in segments)
    if form == "text":
        return PlainTextResponse(text + "\n")
    if form in ("srt", "vtt"):
        cues = [Cue(start_s=segment.start_s, end_s=segment.end_s, text=segment.text) for segment in segments]
        mime = "text/plain" if form == "srt" else "text/vtt"  # as OpenAI sends them
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
