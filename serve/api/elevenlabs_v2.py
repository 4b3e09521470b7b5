"""ElevenLabs' dubbing API, version 2, for the same dubs: a project is a dub, a language target one of its languages.

The id of a language is its tag, the id of a segment that of its utterance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi import Path as InPath

from actors import languages
from actors.errors import ConfigError
from cluster.pools.routing import check_languages
from serve.api.dependencies import MULTIPART, SECURITY, CallerDep, DispatcherDep, once_each
from serve.api.elevenlabs_v1 import PREFIX, LanguageCode, elevenlabs_error, language_or_none, moment
from serve.api.elevenlabs_v2_models import (
    STATUS,
    AllUpdated,
    Failure,
    LanguagePage,
    LanguageTarget,
    Media,
    NewLanguage,
    Outputs,
    Project,
    ProjectForm,
    ProjectPage,
    ProjectSegment,
    Regenerated,
    SegmentUpdate,
    SegmentUpdates,
    SourceSegment,
    SourceTranscript,
    TargetTranscript,
    Updated,
)
from serve.api.intake import DubRequest, DubUploadRoute, accept, remove
from serve.api.problems import ImitatedRouter, documented
from serve.api.results import language_of, lines_of, made_language, manifest_of
from serve.dispatch.dispatcher import Dispatcher
from serve.errors import ConflictError
from serve.ids import ID_PATTERN
from serve.jobs.api_keys import Caller
from serve.jobs.jobs import DubView
from serve.jobs.tables import DubState, Target, TargetState
from serve.storage.paths import UTTERANCE_PATTERN

ProjectId = Annotated[str, InPath(pattern=ID_PATTERN)]
SegmentId = Annotated[str, InPath(pattern=UTTERANCE_PATTERN)]

router = ImitatedRouter(
    prefix=f"{PREFIX}/project",
    tags=["ElevenLabs v2"],
    dependencies=SECURITY,
    error_paths=(f"{PREFIX}/project",),
    error_body=elevenlabs_error,
)
upload_router = APIRouter(
    prefix=f"{PREFIX}/project", tags=["ElevenLabs v2"], dependencies=SECURITY, route_class=DubUploadRoute
)

LANGUAGES = "/{project_id}/language"
TRANSCRIPT = LANGUAGES + "/{language_id}/transcript"


@upload_router.post("", responses=documented(), dependencies=[Depends(once_each(ProjectForm))])
async def create(caller: CallerDep, dispatcher: DispatcherDep, form: Annotated[ProjectForm, MULTIPART]) -> Project:
    """Create a project from a file or a URL. It is transcribed once a language is added."""
    request = DubRequest(
        targets=(form.target_language,) if form.target_language else (),
        min_targets=0,
        file=form.file,
        source_url=form.source_url or None,
        name=form.reference,
        source_language=language_or_none(form.source_language),
    )
    return _project((await accept(request, caller, dispatcher))[0])


@router.get("", responses=documented())
async def page(
    caller: CallerDep,
    dispatcher: DispatcherDep,
    cursor: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
    page_size: Annotated[int, Query(ge=1, le=200)] = 100,
) -> ProjectPage:
    views, next_cursor = await dispatcher.jobs.page(caller.owner, before=cursor, limit=page_size)
    return ProjectPage(projects=[_project(view) for view in views], next_cursor=next_cursor)


@router.get("/{project_id}", responses=documented(404))
async def get(project_id: ProjectId, caller: CallerDep, dispatcher: DispatcherDep) -> Project:
    return _project(await dispatcher.jobs.get(caller.owner, project_id))


@router.delete("/{project_id}", status_code=204, responses=documented(404, 409))
async def delete(project_id: ProjectId, caller: CallerDep, dispatcher: DispatcherDep) -> None:
    await remove(project_id, caller, dispatcher)


@router.get(LANGUAGES, responses=documented(404))
async def language_page(project_id: ProjectId, caller: CallerDep, dispatcher: DispatcherDep) -> LanguagePage:
    view = await dispatcher.jobs.get(caller.owner, project_id)
    return LanguagePage(languages=[_language(view, target) for target in view.targets])


@router.post(LANGUAGES, responses=documented(404, 409))
async def add_language(
    project_id: ProjectId, new: NewLanguage, caller: CallerDep, dispatcher: DispatcherDep
) -> LanguageTarget:
    """Add a language to dub into. The source is not transcribed again."""
    view = await dispatcher.jobs.get(caller.owner, project_id)
    language = languages.normalise(new.target_language)
    if language in [target.language for target in view.targets]:
        raise ConflictError(f"the language must not be in the project yet; {project_id} has {language} already")
    if view.dub.source_language is not None and languages.same(view.dub.source_language, language):
        raise ConfigError(f"a language to dub into must differ from the source's; found {language}")
    check_languages(dispatcher.config, view.dub.source_language, (language,))
    await dispatcher.jobs.check_room(caller.owner, caller.limits)
    view = await dispatcher.jobs.make_again(caller.owner, project_id, caller.limits, languages=[language])
    dispatcher.runner.wake(view.dub)
    return _language(view, _target(view, language))


@router.get(LANGUAGES + "/{language_id}", responses=documented(404))
async def get_language(
    project_id: ProjectId, language_id: LanguageCode, caller: CallerDep, dispatcher: DispatcherDep
) -> LanguageTarget:
    view = await dispatcher.jobs.get(caller.owner, project_id)
    return _language(view, _target(view, language_id))


@router.delete(LANGUAGES + "/{language_id}", status_code=204, responses=documented(404, 409))
async def delete_language(
    project_id: ProjectId, language_id: LanguageCode, caller: CallerDep, dispatcher: DispatcherDep
) -> None:
    made_language(await dispatcher.jobs.get(caller.owner, project_id), language_id)
    await dispatcher.jobs.remove_target(caller.owner, project_id, language_id)


@router.get("/{project_id}/transcript", responses=documented(404, 409))
async def source(project_id: ProjectId, caller: CallerDep, dispatcher: DispatcherDep) -> SourceTranscript:
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


@router.get(TRANSCRIPT, responses=documented(404, 409))
async def target(
    project_id: ProjectId, language_id: LanguageCode, caller: CallerDep, dispatcher: DispatcherDep
) -> TargetTranscript:
    view = await dispatcher.jobs.get(caller.owner, project_id)
    segments = await _segments(view, language_id, dispatcher)
    return TargetTranscript(
        source_language=view.dub.source_language,
        target_language=language_id,
        segments=segments,
        revision=_target(view, language_id).revision,
    )


@router.patch(TRANSCRIPT + "/segment/{segment_id}", responses=documented(404, 409))
async def update(
    project_id: ProjectId,
    language_id: LanguageCode,
    segment_id: SegmentId,
    wanted: SegmentUpdate,
    caller: CallerDep,
    dispatcher: DispatcherDep,
) -> Updated:
    """Change the translation of a segment. Its language is `stale` until it is regenerated."""
    answer = await _update(project_id, language_id, {segment_id: wanted}, caller, dispatcher)
    return Updated(segment=answer.segments[0], revision=answer.revision)


@router.patch(TRANSCRIPT + "/segments", responses=documented(404, 409))
async def update_all(
    project_id: ProjectId,
    language_id: LanguageCode,
    wanted: SegmentUpdates,
    caller: CallerDep,
    dispatcher: DispatcherDep,
) -> AllUpdated:
    return await _update(project_id, language_id, wanted.segments, caller, dispatcher)


@router.post(TRANSCRIPT + "/regenerate", responses=documented(404, 409))
async def regenerate(
    project_id: ProjectId, language_id: LanguageCode, caller: CallerDep, dispatcher: DispatcherDep
) -> Regenerated:
    view = await dispatcher.jobs.get(caller.owner, project_id)
    edits = {edit.utterance_id for edit in await dispatcher.jobs.edits(project_id)}
    edited = [segment for segment in await _segments(view, language_id, dispatcher) if segment.id in edits]
    await dispatcher.jobs.check_room(caller.owner, caller.limits)
    view = await dispatcher.jobs.make_again(caller.owner, project_id, caller.limits)
    dispatcher.runner.wake(view.dub)
    return Regenerated(
        regenerated_segment_ids=[segment.id for segment in edited],
        regenerated_seconds=sum(segment.end_s - segment.start_s for segment in edited),
    )


async def _update(
    project_id: str, language: str, wanted: Mapping[str, SegmentUpdate], caller: Caller, dispatcher: Dispatcher
) -> AllUpdated:
    view = await dispatcher.jobs.get(caller.owner, project_id)
    made = await manifest_of(view, dispatcher)
    for segment_id in wanted:  # checked before any of them is changed
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


async def _segments(view: DubView, language: str, dispatcher: Dispatcher) -> list[ProjectSegment]:
    """The segments of a language, with the translations that the next revision will use."""
    made = await manifest_of(view, dispatcher)
    made_language(view, language)
    lines_of(made, language)
    edits = {edit.utterance_id: edit.text for edit in await dispatcher.jobs.edits(view.dub.id)}
    [dub] = [dub for dub in made.dubs if dub.language == language]
    return [
        ProjectSegment(
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
