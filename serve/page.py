"""The page at ``/``, and the API's at ``/docs``: their files as they are, no build; and what choices there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from actors import languages
from actors.engine import make_engine
from cluster.pool_stats import PoolStats
from cluster.pools import speech_stage
from serve.errors import NotFoundError
from serve.inference import Inference
from serve.requests import SECURITY

MIME = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    # Asked again each time: a new version of the service is a new version of the page.
    "Cache-Control": "no-cache",
}
PUBLIC_PREFIX = "/page/"
SWAGGER = ("swagger-ui-bundle.js", "swagger-ui.css")
"""From a package: neither a closed network nor our own policy lets a browser have them from elsewhere."""


class LanguageOption(BaseModel):
    code: str
    name: str


class Options(BaseModel):
    """What a dub may ask for here."""

    targets: list[LanguageOption]
    sources: list[LanguageOption]
    profiles: list[str]
    voices: dict[str, list[str]]
    """By target language; the first is spoken by default. None are listed where the engine takes any."""
    max_upload_bytes: int


class PoolAnswer(BaseModel):
    """One engine's replicas, and what waits for them."""

    name: str
    num_items: int
    num_failed: int
    num_batches: int
    num_lost_replicas: int
    num_serving: int
    num_loading: int
    num_pending: int
    """Replicas that wait for a place in the cluster."""
    queue_items: int


def page_routes() -> APIRouter:
    """For anybody: the files hold nothing of anyone's."""
    contents = {file.name: file.read_bytes() for file in files("serve").joinpath("page").iterdir() if file.is_file()}
    contents |= {name: files("fastapi_offline").joinpath("static", name).read_bytes() for name in SWAGGER}
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def index() -> Response:
        return _served("index.html", contents["index.html"])

    @router.get("/docs")
    async def document() -> Response:
        return _served("docs.html", contents["docs.html"])

    @router.get(PUBLIC_PREFIX + "{name}")
    async def asset(name: str) -> Response:
        if name not in contents:
            raise NotFoundError(f"a file of the page must be one of {', '.join(sorted(contents))}; found {name[:60]!r}")
        return _served(name, contents[name])

    return router


def _served(name: str, content: bytes) -> Response:
    return Response(content, media_type=MIME["." + name.rpartition(".")[2]], headers=HEADERS)


def status_routes(
    inference: Callable[[], Inference],
    pools: Callable[[], Sequence[PoolStats]],
    *,
    profiles: Sequence[str],
    max_upload_bytes: int,
) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["service"], dependencies=SECURITY)

    @router.get("/options")
    async def options() -> Options:
        """Languages, profiles and voices to choose from."""
        return await asyncio.to_thread(_options, inference(), profiles, max_upload_bytes)

    @router.get("/pools")
    async def queues() -> list[PoolAnswer]:
        """What this dispatcher's pools do."""
        return [PoolAnswer.model_validate(stats, from_attributes=True) for stats in pools()]

    return router


def _options(models: Inference, profiles: Sequence[str], max_upload_bytes: int) -> Options:
    targets = {pair.target for pair in models.language_pairs}  # few, and pairs are many
    translated = {languages.base(target) for target in targets}
    spoken = [tag for tag in models.spoken_languages if languages.base(tag) in translated]
    heard = dict.fromkeys(pair.source for pair in models.language_pairs)
    return Options(
        targets=_named(spoken),
        sources=_named(heard),
        profiles=list(profiles),
        voices={tag: _voices(models, tag) for tag in spoken},
        max_upload_bytes=max_upload_bytes,
    )


def _named(tags: Sequence[str] | dict[str, None]) -> list[LanguageOption]:
    options = [LanguageOption(code=tag, name=languages.display_name(tag)) for tag in tags]
    return sorted(options, key=lambda option: option.name)


def _voices(models: Inference, tag: str) -> list[str]:
    stage = speech_stage(models.config, tag)
    voices = getattr(make_engine("speech", stage.engine, stage.options), "voices", ())
    return [voice.name for voice in voices if languages.best_match(tag, voice.languages) is not None]
