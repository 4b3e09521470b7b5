"""The dubbing API of raydub itself: ``/v1/dubs``."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Response, UploadFile
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from sse_starlette import EventSourceResponse, ServerSentEvent

from actors.errors import ConfigError
from cluster.casting.voices import check_line_voice
from cluster.manifest import Manifest
from cluster.verdicts import VideoVerdict
from serve import metrics
from serve.api.dependencies import MULTIPART, SECURITY, CallerDep, DispatcherDep, once_each
from serve.api.intake import DubRequest, DubUploadRoute, accept, remove
from serve.api.problems import documented
from serve.api.responses import answer_with
from serve.api.results import download, language_of, manifest_of, one_track, output_of, transcript_of
from serve.dispatch.attempt import with_voices
from serve.errors import NotFoundError
from serve.ids import CAST_PATTERN, ID_PATTERN
from serve.jobs.following import FINAL, follow
from serve.jobs.jobs import DubOptions, DubView
from serve.jobs.tables import DubState, Event, TargetState
from serve.settings import config_for
from serve.storage.paths import UTTERANCE_PATTERN

MEDIA: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file; ranges are served.", "content": {"application/octet-stream": {}}}
}
LANGUAGE_PATTERN = r"^[A-Za-z0-9-]{1,35}$"

DubId = Annotated[str, InPath(pattern=ID_PATTERN)]
UtteranceId = Annotated[str, InPath(pattern=UTTERANCE_PATTERN)]
Language = Annotated[str, InPath(pattern=LANGUAGE_PATTERN)]


class TargetAnswer(BaseModel):
    language: str
    state: TargetState
    revision: int
    """Number of times this language was made."""
    error: str | None


class DubAnswer(BaseModel):
    id: str
    name: str
    state: DubState
    source_url: str | None
    source_language: str | None
    """The language given, or the one detected."""
    targets: list[TargetAnswer]
    duration_s: float | None
    profile: str | None
    created_s: float
    updated_s: float
    revision: int
    progress: dict[str, Any]
    """Share of the media that each stage has processed, by language."""
    verdict: VideoVerdict | None
    """The lines to look at, once the dub is done; its outcome is `failed` if they are too many."""
    error: str | None


class DubForm(BaseModel):
    to: list[Annotated[str, Field(max_length=400)]] = Field(
        max_length=16, description="Languages to dub into, BCP-47: repeated, or separated by commas."
    )
    file: UploadFile | None = Field(default=None, description="Video or audio; or give `source_url`.")
    source_url: str | None = Field(default=None, max_length=4000)
    name: str | None = Field(default=None, max_length=1000)
    source: str | None = Field(default=None, max_length=64, description="Spoken language; detected if not given.")
    profile: str | None = Field(default=None, max_length=64, description="quality, balanced or speed.")
    voices: str | None = Field(default=None, max_length=8000, description='JSON: {"pt": "voice"}.')
    audio_track: int | None = Field(default=None, ge=0, le=999, description="Number of the audio track, from 0.")
    speakers: str | None = Field(default=None, max_length=16, description="Number of speakers, or `auto`.")
    cast: str | None = Field(
        default=None, pattern=CAST_PATTERN, description="Name of the cast that keeps the voices of a series' speakers."
    )
    webhook_url: str | None = Field(default=None, max_length=4000, description="Called when the dub has ended.")


class LineEdit(BaseModel):
    text: str | None = Field(default=None, min_length=1, max_length=2000)
    voice: str | None = Field(default=None, min_length=1, max_length=120)


class DubPage(BaseModel):
    dubs: list[DubAnswer]
    next_cursor: str | None
    """The ``cursor`` of the next page; null on the last page."""


def answer(view: DubView) -> DubAnswer:
    dub = view.dub
    return DubAnswer(
        id=dub.id,
        name=dub.name,
        state=DubState(dub.state),
        source_url=dub.source_url,
        source_language=dub.source_language,
        targets=[
            TargetAnswer(
                language=made.language, state=TargetState(made.state), revision=made.revision, error=made.error
            )
            for made in view.targets
        ],
        duration_s=dub.duration_s,
        profile=dub.options.get("profile"),
        created_s=dub.created_s,
        updated_s=dub.updated_s,
        revision=dub.revision,
        progress=dub.progress,
        verdict=None if dub.verdict is None else VideoVerdict.model_validate(dub.verdict),
        error=dub.error,
    )


router = APIRouter(prefix="/v1/dubs", tags=["dubs"], dependencies=SECURITY)
upload_router = APIRouter(prefix="/v1/dubs", tags=["dubs"], dependencies=SECURITY, route_class=DubUploadRoute)


@upload_router.post("", status_code=201, responses=documented(409), dependencies=[Depends(once_each(DubForm, "to"))])
async def create(
    response: Response,
    caller: CallerDep,
    dispatcher: DispatcherDep,
    form: Annotated[DubForm, MULTIPART],
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> DubAnswer:
    """Dub a file or a URL.

    If the same request is sent again with the same `Idempotency-Key`, the answer is the first dub, with status 200.
    """
    request = DubRequest(
        targets=tuple(tag.strip() for tag in ",".join(form.to).split(",") if tag.strip()),
        file=form.file,
        source_url=form.source_url or None,
        webhook_url=form.webhook_url or None,
        name=form.name,
        source_language=form.source or None,
        profile=form.profile or None,
        voices=_voices(form.voices),
        audio_track=form.audio_track,
        speakers=form.speakers,
        cast=form.cast,
        idempotency_key=idempotency_key,
    )
    view, is_new = await accept(request, caller, dispatcher)
    response.headers["Location"] = f"/v1/dubs/{view.dub.id}"
    if not is_new:
        response.status_code = 200
    return answer(view)


def _voices(given: str | None) -> dict[str, str]:
    if not given:
        return {}
    try:
        voices = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f'voices must be JSON such as {{"pt": "voice"}}; {error}') from error
    if not isinstance(voices, dict) or not all(isinstance(voice, str) for voice in voices.values()):
        raise ConfigError('voices must be a JSON object that maps languages to voices, such as {"pt": "voice"}')
    return voices


@router.get("", responses=documented())
async def page(
    caller: CallerDep,
    dispatcher: DispatcherDep,
    cursor: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    state: Annotated[list[DubState] | None, Query(max_length=5)] = None,
) -> DubPage:
    """Your dubs, newest first."""
    views, next_cursor = await dispatcher.jobs.page(caller.owner, before=cursor, limit=limit, states=state or ())
    return DubPage(dubs=[answer(view) for view in views], next_cursor=next_cursor)


@router.get("/{dub_id}", responses=documented(404))
async def get(dub_id: DubId, caller: CallerDep, dispatcher: DispatcherDep) -> DubAnswer:
    return answer(await dispatcher.jobs.get(caller.owner, dub_id))


@router.post("/{dub_id}/cancel", responses=documented(404))
async def cancel(dub_id: DubId, caller: CallerDep, dispatcher: DispatcherDep) -> DubAnswer:
    """Stop a dub; one that has ended is left as it is.

    Its state stays `running` until the dispatcher that works on it has stopped.
    """
    view = await dispatcher.jobs.cancel(caller.owner, dub_id)
    dispatcher.runner.cancel(dub_id)
    dispatcher.feed.notify(dub_id)
    return answer(view)


@router.delete("/{dub_id}", status_code=204, responses=documented(404, 409))
async def delete(dub_id: DubId, caller: CallerDep, dispatcher: DispatcherDep) -> None:
    """Delete a dub and all its media. Cancel it first if it is running."""
    await remove(dub_id, caller, dispatcher)


@router.patch("/{dub_id}/lines/{utterance_id}", responses=documented(404, 409))
async def edit(
    dub_id: DubId, utterance_id: UtteranceId, wanted: LineEdit, caller: CallerDep, dispatcher: DispatcherDep
) -> DubAnswer:
    """Change the text or the voice of a line. Its language is `stale` until the dub is regenerated."""
    view = await dispatcher.jobs.get(caller.owner, dub_id)
    language = language_of(await manifest_of(view, dispatcher), utterance_id)
    if wanted.voice is not None:
        options = DubOptions.model_validate(view.dub.options)
        config = with_voices(config_for(dispatcher.configs, options.profile), options.voices)
        check_line_voice(config, language, wanted.voice, f"voice of {utterance_id}")
    edit = {"text": wanted.text, "voice": wanted.voice}
    return answer(await dispatcher.jobs.edit(caller.owner, dub_id, language, utterance_id, **edit))


@router.post("/{dub_id}/regenerate", status_code=202, responses=documented(404, 409))
async def regenerate(dub_id: DubId, caller: CallerDep, dispatcher: DispatcherDep) -> DubAnswer:
    """Make a dub again, with its edits or because it failed. Unchanged parts are not computed again."""
    await dispatcher.jobs.check_room(caller.owner, caller.limits)
    view = await dispatcher.jobs.make_again(caller.owner, dub_id, caller.limits)
    dispatcher.runner.wake(view.dub)
    return answer(view)


@router.get(
    "/{dub_id}/events",
    response_class=EventSourceResponse,
    responses={
        **documented(404),
        200: {"description": "Events, until the dub ends.", "content": {"text/event-stream": {}}},
        204: {"description": "The dub has ended, and no event follows the last one received."},
    },
)
async def events(
    dub_id: DubId,
    caller: CallerDep,
    dispatcher: DispatcherDep,
    last_event_id: Annotated[int | None, Header(ge=0, le=2**53, description="Resume after this event.")] = None,
) -> Response:
    """Server-sent events: started, segment, translation, utterance (with its clip), progress, kpi.

    The last event is done, failed or cancelled. If a dispatcher dies, another one sends `started` again, and then
    lines with the same ids.
    """
    view = await dispatcher.jobs.get(caller.owner, dub_id)
    after = last_event_id or 0
    if view.dub.state in FINAL and not await dispatcher.jobs.events_after(dub_id, after, limit=1):
        return Response(status_code=204)
    found = follow(dispatcher.jobs, dispatcher.feed, caller.owner, dub_id, after, lambda: dispatcher.health.is_leaving)
    return EventSourceResponse(_as_sse(found), ping=15, sep="\n", headers={"Cache-Control": "no-store"})


async def _as_sse(found: AsyncGenerator[Event]) -> AsyncIterator[ServerSentEvent]:
    start_s = time.time()
    with metrics.following():
        async with aclosing(found):
            async for event in found:
                if event.created_s >= start_s:  # earlier ones are read again, however old
                    metrics.note_event(time.time() - event.created_s)
                data = json.dumps(event.data, ensure_ascii=False)
                yield ServerSentEvent(data=data, event=event.kind, id=str(event.number))


# --- results


@router.get("/{dub_id}/manifest", responses=documented(404, 409))
async def manifest(dub_id: DubId, caller: CallerDep, dispatcher: DispatcherDep) -> Manifest:
    """The record of a dub: segments, utterances, choices and flags; not the service's own settings and machines."""
    view = await dispatcher.jobs.get(caller.owner, dub_id)
    made = await manifest_of(view, dispatcher)
    hidden = {
        "input": made.input.model_copy(update={"name": view.dub.name, "path": ""}),
        "config": {},
        "versions": {},
        "timings": made.timings.model_copy(update={"driver": "", "driver_peak_bytes": 0, "pools": ()}),
    }
    return made.model_copy(update=hidden)


@router.get("/{dub_id}/media", response_class=FileResponse, responses={**documented(404, 409), **MEDIA})
async def whole(dub_id: DubId, caller: CallerDep, dispatcher: DispatcherDep) -> Response:
    """The finished file, with all its audio tracks and subtitles."""
    view = await dispatcher.jobs.get(caller.owner, dub_id)
    made = await manifest_of(view, dispatcher)
    return await download(output_of(view, dispatcher) / made.media_file, view, dispatcher)


@router.get("/{dub_id}/clips/{utterance_id}", response_class=FileResponse, responses={**documented(404), **MEDIA})
async def clip(dub_id: DubId, utterance_id: UtteranceId, caller: CallerDep, dispatcher: DispatcherDep) -> Response:
    """The speech of one line, available once its `utterance` event is sent."""
    await dispatcher.jobs.get(caller.owner, dub_id)
    path = dispatcher.files.paths.clip(dub_id, utterance_id)
    found = await answer_with(dispatcher.files, path, media_type="audio/wav")
    if found is None:
        raise NotFoundError(f"{utterance_id} must have been spoken already; it has no clip")
    return found


@router.get("/{dub_id}/{kind}/{language}", response_class=FileResponse, responses={**documented(404, 409), **MEDIA})
async def one_language(
    dub_id: DubId, kind: Literal["audio", "video"], language: Language, caller: CallerDep, dispatcher: DispatcherDep
) -> Response:
    """One language of a dub: its audio alone, or the video with it."""
    return await one_track(await dispatcher.jobs.get(caller.owner, dub_id), language, dispatcher, kind)


@router.get(
    "/{dub_id}/transcripts/{language}/{form}",
    responses={
        **documented(404, 409),
        200: {
            "description": "The text of a dub, or of the original.",
            "content": {"application/x-subrip": {}, "text/vtt": {}, "application/json": {}},
        },
    },
)
async def transcript(
    dub_id: DubId,
    language: Language,
    form: Literal["srt", "vtt", "json"],
    caller: CallerDep,
    dispatcher: DispatcherDep,
) -> Response:
    view = await dispatcher.jobs.get(caller.owner, dub_id)
    return await transcript_of(view, dispatcher, language, form)
