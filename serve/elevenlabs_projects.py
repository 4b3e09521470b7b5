"""ElevenLabs' dubbing API, version 2, on the same dubs: a project is a dub, a language target one of its languages.

Ids of languages are their tags, ids of segments those of utterances.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Query, UploadFile
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from actors import languages
from actors.errors import ConfigError
from cluster.pools import check_languages
from serve.auth import Caller
from serve.dispatcher import Dispatcher
from serve.elevenlabs import PREFIX, LanguageCode, language_or_none, moment
from serve.errors import ConflictError, documented
from serve.files import UTTERANCE_PATTERN
from serve.ids import ID_PATTERN
from serve.jobs import DubView
from serve.requests import SECURITY, TheCaller, TheDispatcher, Wanted, accept, remove
from serve.results import language_of, lines_of, made_language, manifest_of
from serve.settings import ServeSettings
from serve.tables import DubState, Target, TargetState

ProjectId = Annotated[str, InPath(pattern=ID_PATTERN)]
SegmentId = Annotated[str, InPath(pattern=UTTERANCE_PATTERN)]
MAX_SEGMENTS = 500

Status = Literal["queued", "preparing", "processing", "ready", "failed"]
STATUS: dict[DubState, Status] = {
    DubState.QUEUED: "queued",
    DubState.RUNNING: "processing",
    DubState.DONE: "ready",
    DubState.FAILED: "failed",
    DubState.CANCELLED: "failed",
}


class Failure(BaseModel):
    code: str = "dubbing_failed"
    message: str
    retryable: bool = False


class Media(BaseModel):
    filename: str | None
    duration_s: float | None
    mime_type: str | None


class Project(BaseModel):
    project_id: str
    status: Status
    source_language: str | None
    media: Media
    language_ids: list[str]
    revision: int
    error: Failure | None
    created_at: dt.datetime
    updated_at: dt.datetime


class ProjectPage(BaseModel):
    projects: list[Project]
    next_cursor: str | None


class Outputs(BaseModel):
    lossless_audio: str | None
    """Where the sound is; as good as it was made, which is not lossless."""
    subtitles: str | None


class LanguageTarget(BaseModel):
    language_id: str
    project_id: str
    target_language: str
    status: TargetState
    outputs: Outputs | None
    revision: int
    output_revision: int | None
    error: Failure | None
    created_at: dt.datetime
    updated_at: dt.datetime


class LanguagePage(BaseModel):
    languages: list[LanguageTarget]
    next_cursor: str | None = None


class NewLanguage(BaseModel):
    target_language: str = Field(max_length=64)


class Segment(BaseModel):
    id: str
    speaker_id: str
    start_s: float
    end_s: float
    source_text: str
    translation: str | None


class SegmentUpdate(BaseModel):
    translation: str | None = Field(default=None, min_length=1, max_length=2000)


class SegmentUpdates(BaseModel):
    segments: Mapping[str, SegmentUpdate] = Field(max_length=MAX_SEGMENTS)


class TargetTranscript(BaseModel):
    source_language: str | None
    target_language: str
    segments: list[Segment]
    revision: int


class Updated(BaseModel):
    segment: Segment
    revision: int


class AllUpdated(BaseModel):
    segments: list[Segment]
    revision: int


class SourceSegment(BaseModel):
    id: str
    text: str
    speaker_id: str
    start_s: float
    end_s: float


class SourceTranscript(BaseModel):
    language: str | None
    segments: list[SourceSegment]
    revision: int


class Regenerated(BaseModel):
    regenerated_segment_ids: list[str]
    regenerated_seconds: float
    charged_seconds: float = 0.0
    free_regeneration_seconds_remaining: float = 0.0


def make_router(settings: ServeSettings) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/project", tags=["ElevenLabs v2"], dependencies=SECURITY)
    _add_projects(router, settings)
    _add_languages(router)
    _add_transcripts(router)
    return router


def _add_projects(router: APIRouter, settings: ServeSettings) -> None:
    @router.post("", responses=documented(), max_body_size=settings.max_upload_bytes)
    async def create(
        caller: TheCaller,
        dispatcher: TheDispatcher,
        file: Annotated[UploadFile | None, File()] = None,
        source_url: Annotated[str | None, Form(max_length=4000)] = None,
        reference: Annotated[str | None, Form(max_length=1000, description="A name for it.")] = None,
        source_language: Annotated[str | None, Form(max_length=64)] = None,
        target_language: Annotated[str | None, Form(max_length=64)] = None,
    ) -> Project:
        """A file or URL to dub; its speech is first heard when it gets a language."""
        wanted = Wanted(
            targets=(target_language,) if target_language else (),
            min_targets=0,
            file=file,
            source_url=source_url or None,
            name=reference,
            source_language=language_or_none(source_language),
        )
        return _project((await accept(wanted, caller, dispatcher))[0])

    @router.get("", responses=documented())
    async def page(
        caller: TheCaller,
        dispatcher: TheDispatcher,
        cursor: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
        page_size: Annotated[int, Query(ge=1, le=200)] = 100,
    ) -> ProjectPage:
        views, following = await dispatcher.jobs.page(caller.owner, before=cursor, limit=page_size)
        return ProjectPage(projects=[_project(view) for view in views], next_cursor=following)

    @router.get("/{project_id}", responses=documented(404))
    async def get(project_id: ProjectId, caller: TheCaller, dispatcher: TheDispatcher) -> Project:
        return _project(await dispatcher.jobs.get(caller.owner, project_id))

    @router.delete("/{project_id}", status_code=204, responses=documented(404, 409))
    async def delete(project_id: ProjectId, caller: TheCaller, dispatcher: TheDispatcher) -> None:
        await remove(project_id, caller, dispatcher)


def _add_languages(router: APIRouter) -> None:
    @router.get("/{project_id}/language", responses=documented(404))
    async def page(project_id: ProjectId, caller: TheCaller, dispatcher: TheDispatcher) -> LanguagePage:
        view = await dispatcher.jobs.get(caller.owner, project_id)
        return LanguagePage(languages=[_language(view, target) for target in view.targets])

    @router.post("/{project_id}/language", responses=documented(404, 409))
    async def add(
        project_id: ProjectId, new: NewLanguage, caller: TheCaller, dispatcher: TheDispatcher
    ) -> LanguageTarget:
        """Dub it into one more; nothing is heard again."""
        view = await dispatcher.jobs.get(caller.owner, project_id)
        language = languages.normalise(new.target_language)
        if language in [target.language for target in view.targets]:
            raise ConflictError(f"{project_id} must not have the language yet; it has {language}")
        if view.dub.source_language is not None and languages.same(view.dub.source_language, language):
            raise ConfigError(f"a language to dub into must differ from the source's; found {language}")
        check_languages(dispatcher.config, view.dub.source_language, (language,))
        await dispatcher.jobs.check_room(caller.owner, caller.limits)
        view = await dispatcher.jobs.make_again(caller.owner, project_id, languages=[language], limits=caller.limits)
        dispatcher.wake()
        return _language(view, _target(view, language))

    @router.get("/{project_id}/language/{language_id}", responses=documented(404))
    async def get(
        project_id: ProjectId, language_id: LanguageCode, caller: TheCaller, dispatcher: TheDispatcher
    ) -> LanguageTarget:
        view = await dispatcher.jobs.get(caller.owner, project_id)
        return _language(view, _target(view, language_id))

    @router.delete("/{project_id}/language/{language_id}", status_code=204, responses=documented(404, 409))
    async def delete(
        project_id: ProjectId, language_id: LanguageCode, caller: TheCaller, dispatcher: TheDispatcher
    ) -> None:
        made_language(await dispatcher.jobs.get(caller.owner, project_id), language_id)
        await dispatcher.jobs.remove_target(caller.owner, project_id, language_id)


def _add_transcripts(router: APIRouter) -> None:
    @router.get("/{project_id}/transcript", responses=documented(404, 409))
    async def source(project_id: ProjectId, caller: TheCaller, dispatcher: TheDispatcher) -> SourceTranscript:
        view = await dispatcher.jobs.get(caller.owner, project_id)
        made = await manifest_of(view, dispatcher)
        segments = [
            SourceSegment(
                id=segment.id,
                text=segment.text,
                speaker_id=segment.speaker or "",
                start_s=segment.start_s,
                end_s=segment.end_s,
            )
            for segment in made.segments
        ]
        return SourceTranscript(language=made.input.language, segments=segments, revision=view.dub.revision)

    base = "/{project_id}/language/{language_id}/transcript"

    @router.get(base, responses=documented(404, 409))
    async def target(
        project_id: ProjectId, language_id: LanguageCode, caller: TheCaller, dispatcher: TheDispatcher
    ) -> TargetTranscript:
        view = await dispatcher.jobs.get(caller.owner, project_id)
        segments = await _segments(view, language_id, dispatcher)
        return TargetTranscript(
            source_language=view.dub.source_language,
            target_language=language_id,
            segments=segments,
            revision=_target(view, language_id).revision,
        )

    @router.patch(base + "/segment/{segment_id}", responses=documented(404, 409))
    async def update(
        project_id: ProjectId,
        language_id: LanguageCode,
        segment_id: SegmentId,
        wanted: SegmentUpdate,
        caller: TheCaller,
        dispatcher: TheDispatcher,
    ) -> Updated:
        """Say it differently; the language is stale until regenerated."""
        answer = await _update(project_id, language_id, {segment_id: wanted}, caller, dispatcher)
        return Updated(segment=answer.segments[0], revision=answer.revision)

    @router.patch(base + "/segments", responses=documented(404, 409))
    async def update_all(
        project_id: ProjectId,
        language_id: LanguageCode,
        wanted: SegmentUpdates,
        caller: TheCaller,
        dispatcher: TheDispatcher,
    ) -> AllUpdated:
        return await _update(project_id, language_id, wanted.segments, caller, dispatcher)

    @router.post(base + "/regenerate", responses=documented(404, 409))
    async def regenerate(
        project_id: ProjectId, language_id: LanguageCode, caller: TheCaller, dispatcher: TheDispatcher
    ) -> Regenerated:
        view = await dispatcher.jobs.get(caller.owner, project_id)
        edits = {edit.utterance_id for edit in await dispatcher.jobs.edits(project_id)}
        edited = [segment for segment in await _segments(view, language_id, dispatcher) if segment.id in edits]
        await dispatcher.jobs.check_room(caller.owner, caller.limits)
        await dispatcher.jobs.make_again(caller.owner, project_id)
        dispatcher.wake()
        return Regenerated(
            regenerated_segment_ids=[segment.id for segment in edited],
            regenerated_seconds=sum(segment.end_s - segment.start_s for segment in edited),
        )


async def _update(
    project_id: str, language: str, wanted: Mapping[str, SegmentUpdate], caller: Caller, dispatcher: Dispatcher
) -> AllUpdated:
    view = await dispatcher.jobs.get(caller.owner, project_id)
    made = await manifest_of(view, dispatcher)
    for segment_id in wanted:  # all are there before any is changed
        language_of(made, segment_id, language)
    for segment_id, update in wanted.items():
        if update.translation is not None:
            view = await dispatcher.jobs.edit(
                caller.owner, project_id, language, segment_id, text=update.translation, voice=None
            )
    segments = {segment.id: segment for segment in await _segments(view, language, dispatcher)}
    return AllUpdated(
        segments=[segments[segment_id] for segment_id in wanted], revision=_target(view, language).revision
    )


async def _segments(view: DubView, language: str, dispatcher: Dispatcher) -> list[Segment]:
    """As it was said, or is to be said from the next revision on."""
    made = await manifest_of(view, dispatcher)
    made_language(view, language)
    lines_of(made, language)
    edits = {edit.utterance_id: edit.text for edit in await dispatcher.jobs.edits(view.dub.id)}
    [dub] = [dub for dub in made.dubs if dub.language == language]
    return [
        Segment(
            id=line.id,
            speaker_id=line.speaker or "",
            start_s=line.start_s,
            end_s=line.end_s,
            source_text=line.source_text,
            translation=edits.get(line.id) or line.text or None,
        )
        for line in dub.utterances
    ]


def _target(view: DubView, language: str) -> Target:
    made_language(view, language)
    [found] = [target for target in view.targets if target.language == language]
    return found


def _project(view: DubView) -> Project:
    dub = view.dub
    error = dub.error or ("cancelled" if dub.state == DubState.CANCELLED else None)
    return Project(
        project_id=dub.id,
        status=STATUS[DubState(dub.state)],
        source_language=dub.source_language,
        media=Media(filename=dub.name, duration_s=dub.duration_s, mime_type=dub.content_type),
        language_ids=[target.language for target in view.targets],
        revision=dub.revision,
        error=None if error is None else Failure(message=error),
        created_at=moment(dub.created_s),
        updated_at=moment(dub.updated_s),
    )


def _language(view: DubView, target: Target) -> LanguageTarget:
    outputs = None
    if target.revision and view.dub.output is not None:
        base = f"/v1/dubs/{view.dub.id}"
        outputs = Outputs(
            lossless_audio=f"{base}/audio/{target.language}", subtitles=f"{base}/transcripts/{target.language}/srt"
        )
    return LanguageTarget(
        language_id=target.language,
        project_id=view.dub.id,
        target_language=target.language,
        status=TargetState(target.state),
        outputs=outputs,
        revision=target.revision,
        output_revision=target.revision or None,
        error=None if target.error is None else Failure(message=target.error),
        created_at=moment(target.created_s),
        updated_at=moment(view.dub.updated_s),
    )
