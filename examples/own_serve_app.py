"""A Ray Serve application of your own with a dubber inside: each replica holds one set of models.

``serve run examples.own_serve_app:app`` answers ``GET /lines?source=talk.mp4&to=pt`` with the lines of the dub, one
JSON object per line, each as soon as it is spoken. For a complete service use ``raydub serve``.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from ray import serve

import raydub


def app(arguments: dict[str, str]) -> serve.Application:
    """``serve run examples.own_serve_app:app config=gpu out=/shared/out``"""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        # Inside a Serve replica Ray runs already: the dubber uses it, and leaves it running.
        async with raydub.Dubber(arguments.get("config", "offline")) as api.state.dubber:
            yield

    api = FastAPI(lifespan=lifespan)

    @api.get("/lines")
    async def lines(source: str, to: str) -> StreamingResponse:
        spoken = lines_of(api.state.dubber, source, to, arguments.get("out", "out"))
        return StreamingResponse(spoken, media_type="application/x-ndjson")

    @serve.deployment(max_ongoing_requests=16)
    @serve.ingress(api)
    class Lines:
        pass

    return Lines.bind()


async def lines_of(dubber: raydub.Dubber, source: str, to: str, out: str) -> AsyncIterator[str]:
    try:
        async for event in dubber.stream(source, to=to, out=out):
            if isinstance(event, raydub.UtteranceSpoken):
                yield json_line(id=event.id, start_s=event.start_s, text=event.text)
            elif isinstance(event, raydub.DubFinished):
                yield json_line(status=event.result.status, media=str(event.result.media))
    except raydub.DubbingError as error:
        yield json_line(error=error.message)


def json_line(**fields: Any) -> str:
    return json.dumps(fields, ensure_ascii=False) + "\n"
