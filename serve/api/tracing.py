"""Middleware: each request belongs to the trace that its caller names, or to a new one."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.logs import log_context
from cluster.tracing.spans import TraceParent, in_trace, root_span
from cluster.tracing.tracer import Tracer

HEADER = "traceparent"
"""See https://www.w3.org/TR/trace-context."""


class JoinTrace:
    """Records the request, where the service is traced, and makes its jobs and log records part of its trace."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        caller = TraceParent.read(Headers(scope=scope).get(HEADER))
        own, tracer = TraceParent.inside(caller), _tracer(scope)
        with (
            log_context(trace=own.trace_id),
            in_trace(own),
            root_span(tracer.sink, own, caller, track="HTTP", name=f"{scope['method']} request"),
        ):
            return await self._app(scope, receive, send)


def _tracer(scope: Scope) -> Tracer:
    tracer: Tracer = scope["app"].state.dispatcher.pools.tracer
    return tracer
