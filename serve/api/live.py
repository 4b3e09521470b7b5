"""HLS streams of dubs that are being made: ``/v1/dubs/{id}/hls/{language}``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse

from cluster.media.hls import MIME
from serve.api.dependencies import SECURITY, CallerDep, DispatcherDep
from serve.api.dubs import DubId, Language
from serve.api.problems import documented
from serve.api.responses import answer_with
from serve.api.results import made_language
from serve.errors import NotFoundError
from serve.live.streams import FILE_PATTERN, live_folder

router = APIRouter(prefix="/v1/dubs", tags=["dubs"], dependencies=SECURITY)
MEDIA: dict[int | str, dict[str, Any]] = {
    200: {"description": "A playlist or a segment.", "content": {"application/octet-stream": {}}}
}


@router.get("/{dub_id}/hls/{language}/{name}", response_class=FileResponse, responses={**documented(404), **MEDIA})
async def live(
    dub_id: DubId,
    language: Language,
    name: Annotated[str, InPath(pattern=FILE_PATTERN, description="master.m3u8, or a file that a playlist names.")],
    caller: CallerDep,
    dispatcher: DispatcherDep,
) -> Response:
    """HLS from the first finished seconds on. The playlist grows until the dub is done."""
    view = await dispatcher.jobs.get(caller.owner, dub_id)
    language = made_language(view, language)
    output = await asyncio.to_thread(dispatcher.files.newest_output, dub_id, view.dub.output)
    path = None if output is None else live_folder(output, language) / name
    mime = MIME[Path(name).suffix]
    found = None if path is None else await answer_with(dispatcher.files, path, media_type=mime)
    if found is None:
        raise NotFoundError(f"{name} must have been made already; it is not there yet; try again in a second")
    return found
