"""Middleware that measures requests, for Prometheus."""

from __future__ import annotations

import time
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.metrics import NO_ROUTE, count_request, open_request


class RequestMeter:
    """Counts each request by its route, and the time until its answer begins: streams may last for hours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        start_s = time.monotonic()
        is_counted = False

        def count(status: int) -> None:
            nonlocal is_counted
            if not is_counted:
                is_counted = True
                # Routers put the route into the scope, so that it is known once the answer begins.
                route = getattr(scope.get("route"), "path", NO_ROUTE)
                count_request(route, scope["method"], status, time.monotonic() - start_s)

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        with open_request():
            try:
                await self._app(scope, receive, send_counted)
            except Exception:
                count(HTTPStatus.INTERNAL_SERVER_ERROR)
                raise
