"""The HTTP API: routes of all kinds on one dispatcher, with or without Ray Serve around it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from fastapi import APIRouter, FastAPI, Response
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from serve import dubbing, elevenlabs, elevenlabs_projects
from serve.dispatcher import Dispatcher, Health
from serve.dub_stream import dub_stream_routes
from serve.errors import RETRY_SOON_S, document_errors, handle_errors
from serve.middleware import Deadlines, Guard, SecureHeaders
from serve.models_api import model_routes
from serve.page import PUBLIC_PREFIX, page_routes, status_routes
from serve.settings import ServeSettings
from serve.streaming import live_routes

FORM_LIMITS = {"max_files": 4, "max_fields": 64, "max_part_size": 64 * 1024}
"""Of a form; its fields are held in memory, its files are not."""

PUBLIC = frozenset({"/", "/healthz", "/readyz", "/docs", "/openapi.json", "/languages"})
"""Answered to anybody: they tell nothing of anybody's."""


class HealthAnswer(BaseModel):
    status: Literal["ok", "loading", "ready", "broken", "draining", "database_unreachable"]


def make_api(settings: ServeSettings, dispatcher: Dispatcher) -> FastAPI:
    """The application; its lifespan is the dispatcher's."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with dispatcher.running():
            yield

    app = FastAPI(
        title="raydub",
        version=importlib.metadata.version("raydub"),
        summary="Dubs video: jobs that stream as they go.",
        lifespan=lifespan,
        docs_url=None,  # page.py has one that asks nothing of elsewhere
        redoc_url=None,
        # Of what is refused before its route is known, too: a smaller one here would answer 413 for 401 and 429.
        max_body_size=max(settings.max_upload_bytes, settings.max_body_bytes),
        form_limits=FORM_LIMITS,  # type: ignore[arg-type]  # a TypedDict that FastAPI keeps to itself
        middleware=_middleware(settings, dispatcher),
    )
    app.state.dispatcher = dispatcher
    handle_errors(app)
    document_errors(app)
    _add_health(app, dispatcher)
    routers = (
        page_routes(),
        dubbing.make_router(settings),
        elevenlabs_projects.make_router(settings),  # a project is no dubbing_id: it comes first
        elevenlabs.make_router(settings),
        live_routes(),
        dub_stream_routes(settings),
        _service_routes(settings, dispatcher),
        model_routes(lambda: dispatcher.inference, settings.max_upload_bytes),
    )
    for router in routers:
        app.include_router(router, max_body_size=settings.max_body_bytes)
    return app


def _service_routes(settings: ServeSettings, dispatcher: Dispatcher) -> APIRouter:
    return status_routes(
        lambda: dispatcher.inference,
        lambda: dispatcher.pools.stats(),
        profiles=settings.profiles,
        max_upload_bytes=settings.max_upload_bytes,
    )


def _is_public(method: str, path: str) -> bool:
    """``POST /`` embeds."""
    return (method, path) != ("POST", "/") and (path in PUBLIC or path.startswith(PUBLIC_PREFIX))


def _middleware(settings: ServeSettings, dispatcher: Dispatcher) -> list[Middleware]:
    """Outermost first."""
    found = [Middleware(SecureHeaders)]
    if settings.cors_origins:
        found.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST", "PATCH", "DELETE"],
                allow_headers=["authorization", "xi-api-key", "idempotency-key", "content-type", "last-event-id"],
            )
        )
    guard = Middleware(Guard, settings=settings, ring=lambda: dispatcher.ring, is_public=_is_public)
    return [*found, guard, Middleware(Deadlines, settings=settings)]


def _add_health(app: FastAPI, dispatcher: Dispatcher) -> None:
    @app.get("/healthz", tags=["health"], responses={503: {"model": HealthAnswer}})
    async def alive(response: Response) -> HealthAnswer:
        """Whether this dispatcher works, loading or not. One that does not is to be restarted."""
        try:
            dispatcher.check()
        except RuntimeError:
            response.status_code = 503
            return HealthAnswer(status="broken")
        return HealthAnswer(status="ok")

    @app.get("/readyz", tags=["health"], responses={503: {"model": HealthAnswer}})
    async def ready(response: Response) -> HealthAnswer:
        """Whether its models are loaded: `loading` becomes ready by itself, `broken` says that they do not load.

        `database_unreachable`, once it has not answered for some seconds: dubs cannot be asked for or looked up.
        """
        readiness = dispatcher.readiness
        if readiness is not Health.READY:
            response.status_code = 503
            response.headers["Retry-After"] = str(round(RETRY_SOON_S))
        return HealthAnswer(status=readiness.value)
