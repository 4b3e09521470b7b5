"""A dub to play while it is made: ``/v1/dubs/{id}/hls/{language}``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse

from serve.dubbing import DubId, Language
from serve.errors import NotFoundError, documented
from serve.hls import MIME
from serve.live import FILE_PATTERN, live_folder
from serve.requests import SECURITY, TheCaller, TheDispatcher
from serve.results import made_language
from serve.sending import answer_with


def live_routes() -> APIRouter:
    router = APIRouter(prefix="/v1/dubs", tags=["dubs"], dependencies=SECURITY)
    media: dict[int | str, dict[str, Any]] = {
        200: {"description": "A playlist or a segment.", "content": {"application/octet-stream": {}}}
    }

    @router.get("/{dub_id}/hls/{language}/{name}", response_class=FileResponse, responses={**documented(404), **media})
    async def live(
        dub_id: DubId,
        language: Language,
        name: Annotated[str, InPath(pattern=FILE_PATTERN, description="master.m3u8, or what it names.")],
        caller: TheCaller,
        dispatcher: TheDispatcher,
    ) -> Response:
        """HLS, from its first finished seconds on; the playlist grows until the dub is done."""
        view = await dispatcher.jobs.get(caller.owner, dub_id)
        language = made_language(view, language)
        output = await asyncio.to_thread(dispatcher.files.newest_output, dub_id, view.dub.output)
        path = None if output is None else live_folder(output, language) / name
        mime = MIME[Path(name).suffix]
        found = None if path is None else await answer_with(dispatcher.files, path, media_type=mime)
        if found is None:
            raise NotFoundError(f"{name} must have been made already; it was not yet, ask again in a second")
        return found

    return router
