"""The HTTP API: all routes on one dispatcher, with or without Ray Serve."""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from cluster.media import sandbox
from serve.api import (
    casts,
    dashboard,
    dub_stream,
    dubs,
    elevenlabs_recordings,
    elevenlabs_speech,
    elevenlabs_v1,
    elevenlabs_v2,
    elevenlabs_voices,
    health,
    libretranslate,
    lines,
    live,
    metrics,
    openai,
    openai_recordings,
    page,
    tei,
)
from serve.api.conventions import (
    EXPOSED_HEADERS,
    METHODS,
    CrossOrigin,
    IgnoredFields,
    OneErrorShape,
    SecureHeaders,
    WebMethods,
)
from serve.api.middleware import Deadlines, Guard
from serve.api.problems import ErrorAnswers, document_errors, handle_errors
from serve.api.request_meter import RequestMeter
from serve.api.tracing import JoinTrace
from serve.dispatch.dispatcher import DispatcherSetup, open_dispatcher
from serve.settings import ServeSettings

FORM_LIMITS = {"max_files": 4, "max_fields": 64, "max_part_size": 64 * 1024}
"""Limits of a form, whose fields are held in memory. Files are not."""

PUBLIC = frozenset({"/", "/dashboard", "/healthz", "/readyz", "/docs", "/openapi.json", *libretranslate.PUBLIC})
"""Paths that need no key: they show nothing that belongs to a caller."""


ROUTERS = (
    page.router,
    page.status_router,
    dashboard.router,
    health.router,
    metrics.router,
    dubs.router,
    lines.router,
    casts.router,
    elevenlabs_v2.router,  # before v1, which would take "project" for a dubbing id
    elevenlabs_v1.router,
    elevenlabs_speech.router,
    elevenlabs_voices.router,
    elevenlabs_recordings.router,
    live.router,
    openai.router,
    libretranslate.router,
    tei.router,
)
UPLOAD_ROUTERS = (
    dubs.upload_router,
    elevenlabs_v2.upload_router,
    elevenlabs_v1.upload_router,
    elevenlabs_recordings.upload_router,
    dub_stream.upload_router,
    openai_recordings.upload_router,
)
"""Routes that take a file, so that their bodies may be larger."""


def make_api(setup: DispatcherSetup) -> FastAPI:
    """The application. Its lifespan opens the dispatcher, which is ``app.state.dispatcher`` then."""
    settings = setup.settings

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sandbox.start()  # before there are threads, and ready when the first file comes
        async with open_dispatcher(setup) as dispatcher:
            app.state.dispatcher = dispatcher
            yield

    answers = ErrorAnswers((*ROUTERS, *UPLOAD_ROUTERS))
    app = FastAPI(
        title="raydub",
        version=importlib.metadata.version("raydub"),
        summary="Dubs video: jobs that stream their results.",
        lifespan=lifespan,
        docs_url=None,  # page.py serves one that loads nothing from other sites
        redoc_url=None,
        form_limits=FORM_LIMITS,  # type: ignore[arg-type]  # a TypedDict that FastAPI does not export
        middleware=_middleware(settings, answers),
    )
    app.state.correlations = dashboard.Correlations()
    app.state.stream_slots = dub_stream.StreamSlots(settings.max_streamed_dubs)
    handle_errors(app, answers)
    document_errors(app)
    for router in ROUTERS:
        app.include_router(router, max_body_size=settings.max_body_bytes)
    for router in UPLOAD_ROUTERS:
        app.include_router(router, max_body_size=settings.max_upload_bytes)
    return app


def _is_public(method: str, path: str) -> bool:
    if (method, path) == ("POST", "/"):  # embeds texts, see tei.py
        return False
    return path in PUBLIC or path.startswith(page.PUBLIC_PREFIX)


def _middleware(settings: ServeSettings, answers: ErrorAnswers) -> list[Middleware]:
    """The middleware, outermost first."""
    found = [Middleware(SecureHeaders, origins=settings.cors_origins)]
    if settings.cors_origins:
        found.append(
            Middleware(
                CrossOrigin,
                allow_origins=settings.cors_origins,
                allow_methods=[*METHODS, "HEAD", "OPTIONS"],
                # The clients of imitated APIs send headers of their own. A key is a header, not a cookie.
                allow_headers=["*"],
                expose_headers=EXPOSED_HEADERS,
            )
        )
    # Also limits requests that are refused before their route is known. A smaller limit would answer 413 where 401
    # or 429 is due.
    max_bytes = max(settings.max_upload_bytes, settings.max_body_bytes)
    return [
        *found,
        Middleware(JoinTrace),
        Middleware(OneErrorShape, answers=answers),
        Middleware(IgnoredFields),
        Middleware(WebMethods),
        Middleware(RequestMeter),  # inside WebMethods, which gives HEAD a scope of its own
        Middleware(RequestBodyLimitMiddleware, max_body_size=max_bytes),
        Middleware(Guard, settings=settings, answers=answers, is_public=_is_public),
        Middleware(Deadlines, settings=settings, answers=answers),
    ]
