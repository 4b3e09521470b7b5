"""What every request passes before it meets a route: who asks, how often, how slowly; and what every answer carries."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request, cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.auth import Caller, KeyRing
from serve.errors import ForbiddenError, ServiceFullError, UnauthorizedError, response_to
from serve.limits import Rates
from serve.settings import ServeSettings, is_loopback

LOCAL = "local"
"""The owner of what is made without a key."""
KEY_COOKIE = "raydub_key"
KEY_IN_BODY = frozenset({"/translate", "/detect"})
"""LibreTranslate's clients send their key there alone: these routes call ``admit`` before anything else."""
PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
WRONG_KEYS_PER_MIN = 60
"""From one address."""

SECURE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Of answers that do not say otherwise."""


class SecureHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_secured if scope["type"] == "http" else send)


class Guard:
    """Lets a request in with a key; without one only where nobody but this machine can ask, and no web page."""

    def __init__(
        self, app: ASGIApp, settings: ServeSettings, ring: Callable[[], KeyRing], is_public: Callable[[str, str], bool]
    ) -> None:
        self._app = app
        self._settings = settings
        self._ring = ring
        self._is_public = is_public
        self._rates = Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            if not self._is_public(scope["method"], scope["path"]):
                headers = Headers(scope=scope)
                if scope["method"] == "POST" and scope["path"] in KEY_IN_BODY and given_key(headers) is None:
                    scope.setdefault("state", {})["admit"] = functools.partial(self._admit, scope, headers)
                else:
                    await self._admit(scope, headers)
        except Exception as error:
            return await response_to(error, scope["path"])(scope, receive, send)
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, headers: Headers, key_in_body: str | None = None) -> None:
        """Raises UnauthorizedError, ForbiddenError, CapacityError."""
        caller = await self._identify(scope, headers, key_in_body)
        self._rates.spend(caller.owner, caller.limits.requests_per_min)
        scope.setdefault("state", {})["caller"] = caller

    async def _identify(self, scope: Scope, headers: Headers, key_in_body: str | None) -> Caller:
        key = (
            given_key(headers) or key_in_body or (key_of_page(headers) if scope["method"] in ("GET", "HEAD") else None)
        )
        if key is not None and (caller := await self._ring().find(key)) is not None:
            return caller
        # OpenAI's clients must be given a key, and people give them any where there are none.
        if not await self._needs_key(scope, headers) and (key is None or await self._ring().is_empty()):
            return self._local(headers)
        if key is None:
            raise UnauthorizedError("an API key must be given, as `Authorization: Bearer KEY` or `xi-api-key: KEY`")
        client = scope.get("client") or ("unknown", 0)
        self._rates.spend(f"wrong:{client[0]}", WRONG_KEYS_PER_MIN)
        raise UnauthorizedError("the API key must be one that is known here and not revoked")

    def _local(self, headers: Headers) -> Caller:
        self._check_local(headers)
        return Caller(owner=LOCAL, limits=self._settings.auth.limits)

    async def _needs_key(self, scope: Scope, headers: Headers) -> bool:
        """By the settings; unless they say that none is needed, also where there are keys, where the socket itself is
        not loopback's, and where a proxy on this machine passes on what came from another.
        """
        if self._settings.auth.required is False:
            return False
        server = scope.get("server")
        reached_from_afar = server is not None and not is_loopback(server[0])
        is_passed_on = any(name in headers for name in PROXY_HEADERS)
        return self._settings.requires_key or reached_from_afar or is_passed_on or not await self._ring().is_empty()

    def _check_local(self, headers: Headers) -> None:
        """A web page of elsewhere can make a browser call this machine: by a name it controls, or across sites."""
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if not is_loopback(host) and host not in self._settings.allowed_hosts:
            raise ForbiddenError(
                f"without an API key the service is called as localhost, not as {host[:100]!r}; use a key, or name the "
                "host in serve.allowed_hosts"
            )
        origin = headers.get("origin")
        if origin is None or origin in self._settings.cors_origins:
            return
        if urlsplit(origin).netloc != headers.get("host"):
            raise ForbiddenError(f"pages of {origin[:100]!r} must be named in serve.cors_origins to call the service")


def given_key(headers: Headers) -> str | None:
    kind, _, key = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("xi-api-key") or None


def key_of_page(headers: Headers) -> str | None:
    """What the page's media elements and links send, to read with: a browser gives them no other way."""
    return unquote(cookie_parser(headers.get("cookie", "")).get(KEY_COOKIE, "")) or None


def allow_longer(request: Request, more_s: float) -> None:
    """The answer to this one may begin so much later than others'."""
    request.state.allow_s(more_s)


async def admit(request: Request, key_in_body: str | None) -> None:
    """Let in whom the guard could not know yet. Raises UnauthorizedError, ForbiddenError, CapacityError."""
    if hasattr(request.state, "admit"):
        await request.state.admit(key_in_body)


class Deadlines:
    """A body must keep coming, and an answer begin in time; what streams after that takes as long as it takes."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        clock = asyncio.get_running_loop().time
        answer_s, end_of_body_s = self._settings.request_timeout_s, clock() + self._settings.upload_max_s
        started = False
        limit = asyncio.timeout_at((end_of_body_s if has_body else clock()) + answer_s)

        def allow_s(more_s: float) -> None:
            if not started:
                limit.reschedule(clock() + answer_s + more_s)

        scope.setdefault("state", {})["allow_s"] = allow_s

        async def receive_in_time() -> Message:
            nonlocal has_body
            if not has_body:
                return await receive()
            try:
                async with asyncio.timeout_at(min(end_of_body_s, clock() + self._settings.upload_idle_s)):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408, "the request's body must keep arriving; it did not") from error
            if message["type"] != "http.request" or not message.get("more_body", False):
                has_body = False
                limit.reschedule(clock() + answer_s)
            return message

        async def send_in_time(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                limit.reschedule(None)
            await send(message)

        try:
            async with limit:
                await self._app(scope, receive_in_time, send_in_time)
        except TimeoutError:
            if started or not limit.expired():
                raise
            error = ServiceFullError(f"an answer must begin within {answer_s:g} s; this one did not; try again", 5.0)
            await response_to(error, scope["path"])(scope, receive, send)
