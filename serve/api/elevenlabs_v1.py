"""ElevenLabs' dubbing API, version 1, for the same dubs: ``/v1/dubbing``. Unsupported options are refused."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response, UploadFile
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from actors.errors import ConfigError
from serve.api.dependencies import MULTIPART, SECURITY, CallerDep, DispatcherDep, once_each
from serve.api.intake import DubRequest, DubUploadRoute, accept, remove
from serve.api.problems import ImitatedRouter, Problem, documented
from serve.api.results import TranscriptLine, lines_of, manifest_of, one_track, transcript_of
from serve.ids import ID_PATTERN
from serve.jobs.jobs import DubView
from serve.jobs.tables import DubState

PREFIX = "/v1/dubbing"
Status = Literal["dubbing", "dubbed", "failed"]
STATUS: dict[DubState, Status] = {
    DubState.QUEUED: "dubbing",
    DubState.RUNNING: "dubbing",
    DubState.DONE: "dubbed",
    DubState.FAILED: "failed",
    DubState.CANCELLED: "failed",
}

DubbingId = Annotated[str, InPath(pattern=ID_PATTERN)]
LanguageCode = Annotated[str, InPath(pattern=r"^[A-Za-z0-9-]{1,35}$")]


def elevenlabs_error(problem: Problem) -> dict[str, Any]:
    """An error as ElevenLabs' clients expect it."""
    return {"detail": {"status": problem.title.lower().replace(" ", "_"), "message": problem.detail}}


class SourceForm(BaseModel):
    """The input of a dub, as both versions of the API take it."""

    file: UploadFile | None = None
    source_url: str | None = Field(default=None, max_length=4000)


class DubbingForm(SourceForm):
    target_lang: str = Field(max_length=64)
    name: str | None = Field(default=None, max_length=1000)
    source_lang: str | None = Field(default=None, max_length=64)
    start_time: int | None = None
    end_time: int | None = None
    csv_file: UploadFile | None = None
    csv_fps: float | None = None
    foreground_audio_file: UploadFile | None = None
    background_audio_file: UploadFile | None = None
    target_accent: str | None = Field(default=None, max_length=1000)
    use_profanity_filter: bool | None = None
    disable_voice_cloning: bool | None = None
    mode: str | None = Field(default=None, max_length=64)
    num_speakers: int | None = Field(default=None, ge=0, le=100, description="0 to find it out.")
    watermark: bool | None = Field(default=None, description="Ignored: no watermark is made.")
    highest_resolution: bool | None = Field(default=None, description="Ignored: the video is never encoded again.")
    drop_background_audio: bool | None = None
    dubbing_studio: bool | None = Field(default=None, description="Ignored: every dub can be edited.")

    def refused(self) -> list[str]:
        """Names of the fields that ask for something that is not possible here."""
        asks = {
            "start_time": self.start_time not in (None, 0),
            "end_time": self.end_time is not None,
            "csv_file": self.csv_file is not None,
            "drop_background_audio": bool(self.drop_background_audio),
            "csv_fps": self.csv_fps is not None,
            "foreground_audio_file": self.foreground_audio_file is not None,
            "background_audio_file": self.background_audio_file is not None,
            "target_accent": bool(self.target_accent),
            "use_profanity_filter": bool(self.use_profanity_filter),
            "disable_voice_cloning": bool(self.disable_voice_cloning),
            "mode": self.mode not in (None, "", "automatic"),
        }
        return [field for field, asked in asks.items() if asked]


class Created(BaseModel):
    dubbing_id: str
    expected_duration_sec: float


class MediaMetadata(BaseModel):
    content_type: str
    duration: float


class Dubbing(BaseModel):
    dubbing_id: str
    name: str
    status: Status
    source_language: str | None
    target_languages: list[str]
    created_at: dt.datetime
    media_metadata: MediaMetadata | None
    error: str | None


class DubbingPage(BaseModel):
    dubs: list[Dubbing]
    next_cursor: str | None
    has_more: bool


class Deleted(BaseModel):
    status: Literal["ok"] = "ok"


class DubTranscript(BaseModel):
    language: str
    utterances: list[dict[str, Any]]


class Transcripts(BaseModel):
    transcript_format: Literal["srt", "webvtt", "json"]
    srt: str | None = None
    webvtt: str | None = None
    json_: DubTranscript | None = Field(default=None, alias="json")


def as_dubbing(view: DubView) -> Dubbing:
    dub = view.dub
    media = None
    if dub.duration_s is not None:
        media = MediaMetadata(content_type=dub.content_type or "application/octet-stream", duration=dub.duration_s)
    return Dubbing(
        dubbing_id=dub.id,
        name=dub.name,
        status=STATUS[DubState(dub.state)],
        source_language=dub.source_language,
        target_languages=[made.language for made in view.targets],
        created_at=moment(dub.created_s),
        media_metadata=media,
        error=dub.error or ("cancelled" if dub.state == DubState.CANCELLED else None),
    )


def moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def language_or_none(given: str | None) -> str | None:
    """None means that the language is detected, as ``auto`` does."""
    return None if given in (None, "", "auto") else given


router = ImitatedRouter(
    prefix=PREFIX,
    tags=["ElevenLabs v1"],
    dependencies=SECURITY,
    error_paths=(PREFIX,),
    error_body=elevenlabs_error,
)
upload_router = APIRouter(prefix=PREFIX, tags=["ElevenLabs v1"], dependencies=SECURITY, route_class=DubUploadRoute)


@upload_router.post("", responses=documented(), dependencies=[Depends(once_each(DubbingForm))])
async def dub(caller: CallerDep, dispatcher: DispatcherDep, form: Annotated[DubbingForm, MULTIPART]) -> Created:
    """Dub a file or a URL into one language."""
    if refused := form.refused():
        raise ConfigError(
            "the whole input must be dubbed, with its background and the configured voices; "
            f"{', '.join(refused)} cannot be given here"
        )
    request = DubRequest(
        targets=(form.target_lang,),
        file=form.file,
        source_url=form.source_url or None,
        name=form.name,
        source_language=language_or_none(form.source_lang),
        speakers=None if form.num_speakers is None else str(form.num_speakers or "auto"),
    )
    view, _ = await accept(request, caller, dispatcher)
    return Created(dubbing_id=view.dub.id, expected_duration_sec=view.dub.duration_s or 0.0)


@router.get("", responses=documented())
async def page(
    caller: CallerDep,
    dispatcher: DispatcherDep,
    cursor: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
    page_size: Annotated[int, Query(ge=1, le=200)] = 100,
    dubbing_status: Status | None = None,
) -> DubbingPage:
    states = [state for state, status in STATUS.items() if status == dubbing_status]
    views, next_cursor = await dispatcher.jobs.page(caller.owner, before=cursor, limit=page_size, states=states)
    return DubbingPage(
        dubs=[as_dubbing(view) for view in views], next_cursor=next_cursor, has_more=next_cursor is not None
    )


@router.get("/{dubbing_id}", responses=documented(404))
async def get(dubbing_id: DubbingId, caller: CallerDep, dispatcher: DispatcherDep) -> Dubbing:
    return as_dubbing(await dispatcher.jobs.get(caller.owner, dubbing_id))


@router.delete("/{dubbing_id}", responses=documented(404, 409))
async def delete(dubbing_id: DubbingId, caller: CallerDep, dispatcher: DispatcherDep) -> Deleted:
    await remove(dubbing_id, caller, dispatcher)
    return Deleted()


@router.get(
    "/{dubbing_id}/audio/{language_code}",
    response_class=FileResponse,
    responses={
        **documented(404, 409),
        200: {"description": "The video, or the sound alone.", "content": {"application/octet-stream": {}}},
    },
)
async def audio(
    dubbing_id: DubbingId, language_code: LanguageCode, caller: CallerDep, dispatcher: DispatcherDep
) -> Response:
    """The dubbed file, as ElevenLabs sends it: MP4 if the input has video, else audio."""
    return await one_track(await dispatcher.jobs.get(caller.owner, dubbing_id), language_code, dispatcher)


@router.get(
    "/{dubbing_id}/transcripts/{language_code}/format/{format_type}",
    response_model_by_alias=True,
    responses=documented(404, 409),
)
async def transcripts(
    dubbing_id: DubbingId,
    language_code: LanguageCode,
    format_type: Literal["srt", "webvtt", "json"],
    caller: CallerDep,
    dispatcher: DispatcherDep,
) -> Transcripts:
    view = await dispatcher.jobs.get(caller.owner, dubbing_id)
    if format_type == "json":
        lines = lines_of(await manifest_of(view, dispatcher), language_code)
        spoken = DubTranscript(language=language_code, utterances=[_utterance(line) for line in lines])
        return Transcripts(transcript_format="json", json=spoken)
    answer = await transcript_of(view, dispatcher, language_code, "srt" if format_type == "srt" else "vtt")
    text = bytes(answer.body).decode()
    if format_type == "srt":
        return Transcripts(transcript_format="srt", srt=text)
    return Transcripts(transcript_format="webvtt", webvtt=text)


@router.get(
    "/{dubbing_id}/transcript/{language_code}",
    responses={
        **documented(404, 409),
        200: {"description": "Subtitles.", "content": {"application/x-subrip": {}, "text/vtt": {}}},
    },
)
async def transcript(
    dubbing_id: DubbingId,
    language_code: LanguageCode,
    caller: CallerDep,
    dispatcher: DispatcherDep,
    format_type: Literal["srt", "webvtt"] = "srt",
) -> Response:
    view = await dispatcher.jobs.get(caller.owner, dubbing_id)
    return await transcript_of(view, dispatcher, language_code, "srt" if format_type == "srt" else "vtt")


def _utterance(line: TranscriptLine) -> dict[str, Any]:
    return {"text": line.text, "speaker_id": line.speaker, "start_s": line.start_s, "end_s": line.end_s, "words": []}
