"""ElevenLabs' dubbing API, version 1, on the same dubs: ``/v1/dubbing``. What it asks for and we lack is refused."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Query, Response, UploadFile
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from actors.errors import ConfigError
from serve.auth import Caller
from serve.dispatcher import Dispatcher
from serve.errors import SHAPES, Problem, documented
from serve.ids import ID_PATTERN
from serve.jobs import DubView
from serve.requests import SECURITY, TheCaller, TheDispatcher, Wanted, accept, remove
from serve.results import lines_of, manifest_of, one_track, transcript_of
from serve.settings import ServeSettings
from serve.tables import DubState

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


def _shape(problem: Problem) -> dict[str, Any]:
    return {"detail": {"status": problem.title.lower().replace(" ", "_"), "message": problem.detail}}


SHAPES[PREFIX] = _shape


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


class Transcript(BaseModel):
    language: str
    utterances: list[dict[str, Any]]


class Transcripts(BaseModel):
    transcript_format: Literal["srt", "webvtt", "json"]
    srt: str | None = None
    webvtt: str | None = None
    json_: Transcript | None = Field(default=None, alias="json")


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
    """``auto`` is heard."""
    return None if given in (None, "", "auto") else given


def make_router(settings: ServeSettings) -> APIRouter:
    router = APIRouter(prefix=PREFIX, tags=["ElevenLabs v1"], dependencies=SECURITY)
    _add_creation(router, settings)
    _add_reading(router)
    return router


def _add_creation(router: APIRouter, settings: ServeSettings) -> None:
    @router.post("", responses=documented(), max_body_size=settings.max_upload_bytes)
    async def dub(
        caller: TheCaller,
        dispatcher: TheDispatcher,
        target_lang: Annotated[str, Form(max_length=64)],
        file: Annotated[UploadFile | None, File()] = None,
        source_url: Annotated[str | None, Form(max_length=4000)] = None,
        name: Annotated[str | None, Form(max_length=1000)] = None,
        source_lang: Annotated[str | None, Form(max_length=64)] = None,
        start_time: Annotated[int | None, Form()] = None,
        end_time: Annotated[int | None, Form()] = None,
        csv_file: Annotated[UploadFile | None, File()] = None,
        csv_fps: Annotated[float | None, Form()] = None,
        foreground_audio_file: Annotated[UploadFile | None, File()] = None,
        background_audio_file: Annotated[UploadFile | None, File()] = None,
        target_accent: Annotated[str | None, Form(max_length=1000)] = None,
        use_profanity_filter: Annotated[bool | None, Form()] = None,
        disable_voice_cloning: Annotated[bool | None, Form()] = None,
        mode: Annotated[str | None, Form(max_length=64)] = None,
        num_speakers: Annotated[int | None, Form(description="Not needed.")] = None,
        watermark: Annotated[bool | None, Form(description="None is made.")] = None,
        highest_resolution: Annotated[bool | None, Form(description="The picture is never encoded again.")] = None,
        drop_background_audio: Annotated[bool | None, Form()] = None,
        dubbing_studio: Annotated[bool | None, Form(description="Every dub can be edited.")] = None,
    ) -> Created:
        """Dub a file or a URL into one language."""
        refused = {
            "start_time": start_time not in (None, 0),
            "end_time": end_time is not None,
            "csv_file": csv_file is not None,
            "drop_background_audio": bool(drop_background_audio),
            "csv_fps": csv_fps is not None,
            "foreground_audio_file": foreground_audio_file is not None,
            "background_audio_file": background_audio_file is not None,
            "target_accent": bool(target_accent),
            "use_profanity_filter": bool(use_profanity_filter),
            "disable_voice_cloning": bool(disable_voice_cloning),
            "mode": mode not in (None, "", "automatic"),
        }
        if any(refused.values()):
            named = ", ".join(field for field, given in refused.items() if given)
            raise ConfigError(
                f"the whole input is dubbed as it is, its background kept, in the voices configured; {named} cannot be "
                "given here"
            )
        wanted = Wanted(
            targets=(target_lang,),
            file=file,
            source_url=source_url or None,
            name=name,
            source_language=language_or_none(source_lang),
        )
        view, _ = await accept(wanted, caller, dispatcher)
        return Created(dubbing_id=view.dub.id, expected_duration_sec=view.dub.duration_s or 0.0)


def _add_reading(router: APIRouter) -> None:
    @router.get("", responses=documented())
    async def page(
        caller: TheCaller,
        dispatcher: TheDispatcher,
        cursor: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
        page_size: Annotated[int, Query(ge=1, le=200)] = 100,
        dubbing_status: Status | None = None,
    ) -> DubbingPage:
        states = [state for state, status in STATUS.items() if status == dubbing_status]
        views, following = await dispatcher.jobs.page(caller.owner, before=cursor, limit=page_size, states=states)
        return DubbingPage(
            dubs=[as_dubbing(view) for view in views], next_cursor=following, has_more=following is not None
        )

    @router.get("/{dubbing_id}", responses=documented(404))
    async def get(dubbing_id: DubbingId, caller: TheCaller, dispatcher: TheDispatcher) -> Dubbing:
        return as_dubbing(await dispatcher.jobs.get(caller.owner, dubbing_id))

    @router.delete("/{dubbing_id}", responses=documented(404, 409))
    async def delete(dubbing_id: DubbingId, caller: TheCaller, dispatcher: TheDispatcher) -> Deleted:
        await remove(dubbing_id, caller, dispatcher)
        return Deleted()

    @router.get(
        "/{dubbing_id}/audio/{language_code}",
        response_class=FileResponse,
        responses={
            **documented(404, 409),
            200: {
                "description": "The video, or the sound alone.",
                "content": {"application/octet-stream": {}},
            },
        },
    )
    async def audio(
        dubbing_id: DubbingId, language_code: LanguageCode, caller: TheCaller, dispatcher: TheDispatcher
    ) -> Response:
        """As ElevenLabs: MP4 of a video, audio alone of audio."""
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
        caller: TheCaller,
        dispatcher: TheDispatcher,
    ) -> Transcripts:
        return await _transcripts(dubbing_id, language_code, format_type, caller, dispatcher)

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
        caller: TheCaller,
        dispatcher: TheDispatcher,
        format_type: Literal["srt", "webvtt"] = "srt",
    ) -> Response:
        view = await dispatcher.jobs.get(caller.owner, dubbing_id)
        form: Literal["srt", "vtt"] = "srt" if format_type == "srt" else "vtt"
        return await transcript_of(view, dispatcher, language_code, form)


async def _transcripts(
    dubbing_id: str, language: str, form: Literal["srt", "webvtt", "json"], caller: Caller, dispatcher: Dispatcher
) -> Transcripts:
    view = await dispatcher.jobs.get(caller.owner, dubbing_id)
    if form != "json":
        answer = await transcript_of(view, dispatcher, language, "srt" if form == "srt" else "vtt")
        text = bytes(answer.body).decode()
        is_srt = form == "srt"
        return Transcripts(transcript_format=form, srt=text if is_srt else None, webvtt=None if is_srt else text)
    lines = lines_of(await manifest_of(view, dispatcher), language)
    utterances: list[dict[str, Any]] = [
        {"text": line.text, "speaker_id": line.speaker, "start_s": line.start_s, "end_s": line.end_s, "words": []}
        for line in lines
    ]
    return Transcripts(transcript_format="json", json=Transcript(language=language, utterances=utterances))
