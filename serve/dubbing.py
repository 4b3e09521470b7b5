"""The dubbing API of raydub itself: ``/v1/dubs``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Header, Query, Response, UploadFile
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from sse_starlette import EventSourceResponse, ServerSentEvent

from actors.errors import ConfigError
from cluster.manifest import Manifest
from serve.errors import NotFoundError, documented
from serve.events import FINAL, follow
from serve.files import UTTERANCE_PATTERN
from serve.ids import ID_PATTERN
from serve.jobs import DubView
from serve.requests import SECURITY, TheCaller, TheDispatcher, Wanted, accept, remove
from serve.results import download, language_of, manifest_of, one_track, output_of, transcript_of
from serve.sending import answer_with
from serve.settings import ServeSettings
from serve.tables import DubState, TargetState

LANGUAGE_PATTERN = r"^[A-Za-z0-9-]{1,35}$"

DubId = Annotated[str, InPath(pattern=ID_PATTERN)]
UtteranceId = Annotated[str, InPath(pattern=UTTERANCE_PATTERN)]
Language = Annotated[str, InPath(pattern=LANGUAGE_PATTERN)]


class TargetAnswer(BaseModel):
    language: str
    state: TargetState
    revision: int
    """How many times it was made."""
    error: str | None


class DubAnswer(BaseModel):
    id: str
    name: str
    state: DubState
    source_url: str | None
    source_language: str | None
    """As given, or as heard."""
    targets: list[TargetAnswer]
    duration_s: float | None
    profile: str | None
    created_s: float
    updated_s: float
    revision: int
    progress: dict[str, Any]
    """Share of the media that each stage has done, by language."""
    error: str | None


class LineEdit(BaseModel):
    text: str | None = Field(default=None, min_length=1, max_length=2000)
    voice: str | None = Field(default=None, min_length=1, max_length=120)


class DubPage(BaseModel):
    dubs: list[DubAnswer]
    next_cursor: str | None
    """Give it as ``cursor`` for the next page; null at the end."""


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
        error=dub.error,
    )


def make_router(settings: ServeSettings) -> APIRouter:
    router = APIRouter(prefix="/v1/dubs", tags=["dubs"], dependencies=SECURITY)
    _add_creation(router, settings)
    _add_state(router)
    _add_results(router)
    return router


def _add_creation(router: APIRouter, settings: ServeSettings) -> None:
    @router.post("", status_code=201, responses=documented(409), max_body_size=settings.max_upload_bytes)
    async def create(
        response: Response,
        caller: TheCaller,
        dispatcher: TheDispatcher,
        to: Annotated[str, Form(max_length=400, description="Languages to dub into, BCP-47, separated by commas.")],
        file: Annotated[UploadFile | None, File(description="Video or audio; or give `source_url`.")] = None,
        source_url: Annotated[str | None, Form(max_length=4000)] = None,
        name: Annotated[str | None, Form(max_length=1000)] = None,
        source: Annotated[str | None, Form(max_length=64, description="Language spoken; heard if not given.")] = None,
        profile: Annotated[str | None, Form(max_length=64, description="quality, balanced or speed.")] = None,
        voices: Annotated[str | None, Form(max_length=8000, description='JSON: {"pt": "voice"}.')] = None,
        audio_track: Annotated[int | None, Form(ge=0, le=999, description="Which audio track, from 0.")] = None,
        webhook_url: Annotated[str | None, Form(max_length=4000, description="Called when it has ended.")] = None,
        idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
    ) -> DubAnswer:
        """Dub a file or a URL. With an `Idempotency-Key`, the same request again finds the same dub (status 200)."""
        wanted = Wanted(
            targets=tuple(tag.strip() for tag in to.split(",") if tag.strip()),
            file=file,
            source_url=source_url or None,
            webhook_url=webhook_url or None,
            name=name,
            source_language=source or None,
            profile=profile or None,
            voices=_voices(voices),
            audio_track=audio_track,
            idempotency_key=idempotency_key,
        )
        view, is_new = await accept(wanted, caller, dispatcher)
        response.headers["Location"] = f"/v1/dubs/{view.dub.id}"
        if not is_new:
            response.status_code = 200
        return answer(view)


def _voices(given: str | None) -> dict[str, str]:
    if not given:
        return {}
    try:
        voices = json.loads(given)
    except ValueError as error:
        raise ConfigError(f'voices must be JSON such as {{"pt": "voice"}}; {error}') from error
    if not isinstance(voices, dict) or not all(isinstance(voice, str) for voice in voices.values()):
        raise ConfigError('voices must be a JSON object of language → voice, such as {"pt": "voice"}')
    return voices


def _add_state(router: APIRouter) -> None:
    @router.get("", responses=documented())
    async def page(
        caller: TheCaller,
        dispatcher: TheDispatcher,
        cursor: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        state: Annotated[list[DubState] | None, Query(max_length=5)] = None,
    ) -> DubPage:
        """Your dubs, newest first."""
        views, following = await dispatcher.jobs.page(caller.owner, before=cursor, limit=limit, states=state or ())
        return DubPage(dubs=[answer(view) for view in views], next_cursor=following)

    @router.get("/{dub_id}", responses=documented(404))
    async def get(dub_id: DubId, caller: TheCaller, dispatcher: TheDispatcher) -> DubAnswer:
        return answer(await dispatcher.jobs.get(caller.owner, dub_id))

    @router.post("/{dub_id}/cancel", responses=documented(404))
    async def cancel(dub_id: DubId, caller: TheCaller, dispatcher: TheDispatcher) -> DubAnswer:
        """Stop it; one that has ended stays as it is. It is `running` until its dispatcher has heard."""
        view = await dispatcher.jobs.cancel(caller.owner, dub_id)
        dispatcher.stop(dub_id)
        dispatcher.bells.ring(dub_id)
        return answer(view)

    @router.delete("/{dub_id}", status_code=204, responses=documented(404, 409))
    async def delete(dub_id: DubId, caller: TheCaller, dispatcher: TheDispatcher) -> None:
        """Remove it and all its media. One that is running must be cancelled first."""
        await remove(dub_id, caller, dispatcher)

    @router.patch("/{dub_id}/lines/{utterance_id}", responses=documented(404, 409))
    async def edit(
        dub_id: DubId, utterance_id: UtteranceId, wanted: LineEdit, caller: TheCaller, dispatcher: TheDispatcher
    ) -> DubAnswer:
        """Say a line differently, or in another voice; its language is `stale` until the dub is regenerated."""
        view = await dispatcher.jobs.get(caller.owner, dub_id)
        language = language_of(await manifest_of(view, dispatcher), utterance_id)
        edit = {"text": wanted.text, "voice": wanted.voice}
        return answer(await dispatcher.jobs.edit(caller.owner, dub_id, language, utterance_id, **edit))

    @router.post("/{dub_id}/regenerate", status_code=202, responses=documented(404, 409))
    async def regenerate(dub_id: DubId, caller: TheCaller, dispatcher: TheDispatcher) -> DubAnswer:
        """Make it again with its edits, or because it failed; what did not change is not computed again."""
        await dispatcher.jobs.check_room(caller.owner, caller.limits)
        view = await dispatcher.jobs.make_again(caller.owner, dub_id)
        dispatcher.wake()
        return answer(view)

    @router.get(
        "/{dub_id}/events",
        response_class=EventSourceResponse,
        responses={
            **documented(404),
            200: {"description": "Events, until the dub ends.", "content": {"text/event-stream": {}}},
            204: {"description": "It has ended, and you have all its events."},
        },
    )
    async def events(
        dub_id: DubId,
        caller: TheCaller,
        dispatcher: TheDispatcher,
        last_event_id: Annotated[int | None, Header(ge=0, le=2**53, description="Resumes behind this one.")] = None,
    ) -> Response:
        """Server-sent events: started, segment, translation, utterance (with its clip), progress, kpi; last of all
        done, failed or cancelled. After a dispatcher's death `started` comes again, and lines with the same ids."""
        view = await dispatcher.jobs.get(caller.owner, dub_id)
        after = last_event_id or 0
        if view.dub.state in FINAL and not await dispatcher.jobs.events_after(dub_id, after, limit=1):
            return Response(status_code=204)
        told = follow(dispatcher.jobs, dispatcher.bells, caller.owner, dub_id, after, lambda: dispatcher.is_leaving)
        return EventSourceResponse(_as_sse(told), ping=15, headers={"Cache-Control": "no-store"})


async def _as_sse(told: AsyncIterator[Any]) -> AsyncIterator[ServerSentEvent]:
    async for event in told:
        yield ServerSentEvent(data=json.dumps(event.data, ensure_ascii=False), event=event.kind, id=str(event.number))


def _add_results(router: APIRouter) -> None:
    @router.get("/{dub_id}/manifest", responses=documented(404, 409))
    async def manifest(dub_id: DubId, caller: TheCaller, dispatcher: TheDispatcher) -> Manifest:
        """Everything heard, said, chosen and flagged."""
        view = await dispatcher.jobs.get(caller.owner, dub_id)
        made = await manifest_of(view, dispatcher)
        return made.model_copy(update={"input": made.input.model_copy(update={"name": view.dub.name, "path": ""})})

    media: dict[int | str, dict[str, Any]] = {
        200: {"description": "The file; ranges are served.", "content": {"application/octet-stream": {}}}
    }

    @router.get("/{dub_id}/media", response_class=FileResponse, responses={**documented(404, 409), **media})
    async def whole(dub_id: DubId, caller: TheCaller, dispatcher: TheDispatcher) -> Response:
        """The finished file, with all its audio tracks and subtitles."""
        view = await dispatcher.jobs.get(caller.owner, dub_id)
        made = await manifest_of(view, dispatcher)
        return await download(output_of(view, dispatcher) / made.media_file, view, dispatcher)

    @router.get("/{dub_id}/clips/{utterance_id}", response_class=FileResponse, responses={**documented(404), **media})
    async def clip(
        dub_id: DubId,
        utterance_id: UtteranceId,
        caller: TheCaller,
        dispatcher: TheDispatcher,
    ) -> Response:
        """One line as it was spoken, from the moment its event says so."""
        await dispatcher.jobs.get(caller.owner, dub_id)
        path = dispatcher.files.clip(dub_id, utterance_id)
        found = await answer_with(dispatcher.files, path, media_type="audio/wav")
        if found is None:
            raise NotFoundError(f"{utterance_id} must have been spoken already; it has no clip")
        return found

    @router.get("/{dub_id}/{kind}/{language}", response_class=FileResponse, responses={**documented(404, 409), **media})
    async def one_language(
        dub_id: DubId, kind: Literal["audio", "video"], language: Language, caller: TheCaller, dispatcher: TheDispatcher
    ) -> Response:
        """The sound in one language, or the picture with it."""
        return await one_track(await dispatcher.jobs.get(caller.owner, dub_id), language, dispatcher, kind)

    @router.get(
        "/{dub_id}/transcripts/{language}/{form}",
        responses={
            **documented(404, 409),
            200: {
                "description": "Of what is said in a dub, or in the original.",
                "content": {"application/x-subrip": {}, "text/vtt": {}, "application/json": {}},
            },
        },
    )
    async def transcript(
        dub_id: DubId,
        language: Language,
        form: Literal["srt", "vtt", "json"],
        caller: TheCaller,
        dispatcher: TheDispatcher,
    ) -> Response:
        view = await dispatcher.jobs.get(caller.owner, dub_id)
        return await transcript_of(view, dispatcher, language, form)
