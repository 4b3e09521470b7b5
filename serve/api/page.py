"""The pages ``/``, ``/dashboard`` and ``/docs``, served as plain files; and the data that ``/`` shows."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Mapping
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from actors import languages
from serve.api.dependencies import SECURITY, DispatcherDep
from serve.errors import NotFoundError
from serve.inference.inference import Inference
from serve.settings import ServeSettings

MIME = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    # Browsers must ask each time: the page changes with the version of the service.
    "Cache-Control": "no-cache",
}
PUBLIC_PREFIX = "/page/"
SWAGGER = ("swagger-ui-bundle.js", "swagger-ui.css")
"""Files of Swagger UI, taken from a package: the content security policy allows none from other sites."""


class LanguageOption(BaseModel):
    code: str
    name: str


class Options(BaseModel):
    """The choices that the page offers for a new dub."""

    targets: list[LanguageOption]
    sources: list[LanguageOption]
    profiles: list[str]
    voices: dict[str, list[str]]
    """By target language; the first is the default. Empty where the engine takes any voice."""
    max_upload_bytes: int


class PoolAnswer(BaseModel):
    """A pool: the replicas of one engine, and the requests that wait for them."""

    name: str
    num_items: int
    num_failed: int
    num_batches: int
    num_lost_replicas: int
    target: int
    """Replicas wanted."""
    num_serving: int
    num_loading: int
    num_pending: int
    """Replicas without a process: it is being started, or no node has room."""
    num_waiting: int
    """Replicas that no node has room for."""
    waiting: str | None
    """In words, what they wait for, and what is free; None if none waits."""
    queue_items: int
    oldest_wait_s: float
    """Age of the oldest request in the queue."""


router = APIRouter(include_in_schema=False)
"""Public: the files are the same for everybody."""
status_router = APIRouter(prefix="/v1", tags=["service"], dependencies=SECURITY)


@router.get("/")
async def index() -> Response:
    return _served("index.html")


@router.get("/dashboard")
async def dashboard() -> Response:
    return _served("dashboard.html")


@router.get("/docs")
async def document() -> Response:
    return _served("docs.html")


@router.get(PUBLIC_PREFIX + "{name}")
async def asset(name: str) -> Response:
    return _served(name)


@functools.cache
def _contents() -> Mapping[str, bytes]:
    contents = {file.name: file.read_bytes() for file in files("serve").joinpath("page").iterdir() if file.is_file()}
    return contents | {name: files("fastapi_offline").joinpath("static", name).read_bytes() for name in SWAGGER}


def _served(name: str) -> Response:
    contents = _contents()
    if name not in contents:
        raise NotFoundError(f"a file of the page must be one of {', '.join(sorted(contents))}; found {name[:60]!r}")
    return Response(contents[name], media_type=MIME["." + name.rpartition(".")[2]], headers=HEADERS)


@status_router.get("/options")
async def options(dispatcher: DispatcherDep) -> Options:
    """Languages, profiles and voices that a dub may ask for."""
    return await asyncio.to_thread(_options, dispatcher.inference, dispatcher.settings)


@status_router.get("/pools")
async def queues(dispatcher: DispatcherDep) -> list[PoolAnswer]:
    """The pools of this dispatcher, with their replicas and queues."""
    return [PoolAnswer.model_validate(stats, from_attributes=True) for stats in dispatcher.pools.stats()]


def _options(models: Inference, settings: ServeSettings) -> Options:
    targets = {pair.target for pair in models.language_pairs}  # a set, because there are many pairs
    translated = {languages.base(target) for target in targets}
    spoken = [tag for tag in models.spoken_languages if languages.base(tag) in translated]
    heard = dict.fromkeys(pair.source for pair in models.language_pairs)
    return Options(
        targets=_named(spoken),
        sources=_named(heard),
        profiles=list(settings.profiles),
        voices={tag: list(models.voices(tag)) for tag in spoken},
        max_upload_bytes=settings.max_upload_bytes,
    )


def _named(tags: Iterable[str]) -> list[LanguageOption]:
    options = [LanguageOption(code=tag, name=languages.display_name(tag)) for tag in tags]
    return sorted(options, key=lambda option: option.name)
