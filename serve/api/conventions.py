"""HEAD, OPTIONS, cross-origin requests and errors, the same on every route."""

from __future__ import annotations

from http import HTTPStatus

import anyio
from fastapi import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.dependencies import IGNORED
from serve.api.middleware import url_parts
from serve.api.problems import ErrorAnswers, Problem

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
EXPOSED_HEADERS = (
    *("Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "ETag", "Last-Modified", "Location"),
    *("Retry-After", "Warning", "WWW-Authenticate"),
)
"""Headers that scripts of other origins may read."""
MAX_IGNORED = 20
"""Ignored fields that the header ``Warning`` names."""
SECURE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Headers of every answer that does not set its own."""


class SecureHeaders:
    """Adds ``SECURE_HEADERS``, and lets only pages of the configured origins embed an answer."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...] = ()) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURE_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cross-Origin-Resource-Policy", self._resource_policy(Headers(scope=scope)))
            await send(message)

        await self._app(scope, receive, send_secured if scope["type"] == "http" else send)

    def _resource_policy(self, headers: Headers) -> str:
        # A media element without `crossorigin` sends no Origin, only a Referer.
        found = url_parts(headers.get("referer", ""))
        allowed = {"*", headers.get("origin"), f"{found.scheme}://{found.netloc}"} & self._origins
        return "cross-origin" if allowed else "same-origin"


class CrossOrigin(CORSMiddleware):
    """CORS whose refusals are problems too."""

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code < HTTPStatus.BAD_REQUEST:
            return answer
        detail = (
            "the origin of a web page must be in serve.cors_origins, and the method must be allowed; found "
            f"{request_headers['origin'][:100]!r} and {request_headers['access-control-request-method'][:20]!r}"
        )
        problem = Problem(title="Bad Request", status=400, detail=detail)
        kept = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        return Response(problem.model_dump_json(), 400, kept, media_type="application/problem+json")


class WebMethods:
    """Answers HEAD as GET without the body, and OPTIONS with the methods of the path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if scope["method"] == "HEAD":
            return await self._head(scope, receive, send)
        if scope["method"] == "OPTIONS" and (allowed := allowed_methods(scope)):
            return await Response(status_code=204, headers={"Allow": allowed})(scope, receive, send)
        await self._app(scope, receive, _with_allow(scope, send))

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The answer is made no further than its headers: its body may be large, or an endless stream of events.
        with anyio.CancelScope() as answering:

            async def send_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await send(message)
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    answering.cancel()

            await self._app({**scope, "method": "GET"}, receive, _with_allow(scope, send_headers))


def _with_allow(scope: Scope, send: Send) -> Send:
    async def send_with_allow(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == HTTPStatus.METHOD_NOT_ALLOWED:
            MutableHeaders(scope=message)["Allow"] = allowed_methods(scope)
        await send(message)

    return send_with_allow


def allowed_methods(scope: Scope) -> str:
    """The methods of all routes at a path, as the header ``Allow`` lists them; empty if there is no route."""
    found = [
        method
        for method in METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in scope["app"].routes)
    ]
    return ", ".join([*found, *(["HEAD"] if "GET" in found else []), "OPTIONS"]) if found else ""


class IgnoredFields:
    """Names the fields that a route has ignored in the header ``Warning``; see ``note_ignored``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        state = scope.setdefault("state", {})

        async def send_with_warning(message: Message) -> None:
            if message["type"] == "http.response.start" and (ignored := state.get(IGNORED)):
                MutableHeaders(scope=message)["Warning"] = f'299 raydub "ignored here: {_quotable(ignored)}"'
            await send(message)

        await self._app(scope, receive, send_with_warning)


def _quotable(names: list[str]) -> str:
    """Names as they may stand between quotes in a header; the sender may have chosen any characters."""
    shown = ", ".join(names[:MAX_IGNORED])
    return "".join(char if char.isascii() and char.isprintable() and char not in '"\\' else "?" for char in shown)


class OneErrorShape:
    """Turns the errors that no handler sees into the body that a path's clients expect.

    These are bodies past their limit, which Starlette answers in plain text, and unexpected exceptions.
    """

    def __init__(self, app: ASGIApp, answers: ErrorAnswers) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started, too_large = False, False

        async def send_in_shape(message: Message) -> None:
            nonlocal started, too_large
            if message["type"] == "http.response.start":
                started = True
                if message["status"] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                    too_large = True
                    return await self._refuse_body(scope, receive, send)
            if not too_large:
                await send(message)

        try:
            await self._app(scope, receive, send_in_shape)
        except Exception as error:
            if started:
                raise
            await self._answers.to_error(error, scope["path"])(scope, receive, send)

    async def _refuse_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = scope.get(MAX_BODY_SIZE_SCOPE_KEY)
        found = Headers(scope=scope).get("content-length", "more")
        problem = Problem(
            title="Content Too Large",
            status=413,
            detail=f"a request to this path must have at most {limit} bytes; found {found[:20]}; send a smaller one",
        )
        await self._answers.to_problem(problem, scope["path"])(scope, receive, send)
