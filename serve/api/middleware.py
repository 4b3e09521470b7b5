"""Middleware: API keys, request rates and time limits."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from urllib.parse import SplitResult, unquote, urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request, cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.errors import CapacityError
from cluster.storage.keys import SALT
from serve.api.problems import ErrorAnswers
from serve.errors import ForbiddenError, ServiceFullError, UnauthorizedError
from serve.jobs.api_keys import LOCAL, Caller, KeyRing
from serve.settings import ServeSettings, is_loopback
from serve.threads import OWNER

KEY_COOKIE = "raydub_key"
KEY_IN_BODY = frozenset({"/translate", "/detect"})
"""Paths whose clients, LibreTranslate's, send their key in the body. Their routes must call ``admit`` first."""
PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
BUSY_RETRY_S = 5.0
WRONG_KEYS_PER_MIN = 60
"""Requests with a wrong key that one address may send."""


class Guard:
    """Admits requests that have a valid key.

    Where no key is needed, it refuses requests that a web page of another site makes.
    """

    def __init__(
        self, app: ASGIApp, settings: ServeSettings, answers: ErrorAnswers, is_public: Callable[[str, str], bool]
    ) -> None:
        self._app = app
        self._settings = settings
        self._answers = answers
        self._is_public = is_public
        self._rates = Rates()
        self._num_inside: Counter[str] = Counter()

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
            return await self._answers.to_error(error, scope["path"])(scope, receive, send)
        try:
            await self._app(scope, receive, send)
        finally:
            self._leave(scope)

    def _enter(self, scope: Scope, caller: Caller) -> None:
        """Count a request of the caller as being answered. Raises CapacityError if it has too many at a time."""
        limit = caller.limits.max_concurrent_requests
        if self._num_inside[caller.owner] >= limit:
            raise CapacityError(
                f"a key may have {limit} requests answered at a time, open event streams included; end one",
                retry_after_s=BUSY_RETRY_S,
            )
        self._num_inside[caller.owner] += 1
        scope.setdefault("state", {})["caller"] = caller
        OWNER.set(caller.owner)
        if not self._settings.share_results:
            SALT.set(caller.owner)

    def _leave(self, scope: Scope) -> None:
        caller: Caller | None = scope.get("state", {}).get("caller")
        if caller is not None:
            self._num_inside[caller.owner] -= 1
            if not self._num_inside[caller.owner]:
                del self._num_inside[caller.owner]

    async def _admit(self, scope: Scope, headers: Headers, key_in_body: str | None = None) -> None:
        """Raises UnauthorizedError, ForbiddenError, CapacityError."""
        caller = await self._identify(scope, headers, key_in_body)
        self._rates.spend(caller.owner, caller.limits.requests_per_min)
        self._enter(scope, caller)

    async def _identify(self, scope: Scope, headers: Headers, key_in_body: str | None) -> Caller:
        key = (
            given_key(headers) or key_in_body or (key_of_page(headers) if scope["method"] in ("GET", "HEAD") else None)
        )
        key_ring = _key_ring(scope)
        if key is not None and (caller := await key_ring.find(key)) is not None:
            return caller
        # OpenAI's clients insist on a key, so people give them any text where no keys exist.
        if not await self._needs_key(scope, headers) and (key is None or not await key_ring.was_used()):
            return self._local(headers)
        if key is None:
            raise UnauthorizedError("an API key must be given, as `Authorization: Bearer KEY` or `xi-api-key: KEY`")
        client = scope.get("client") or ("unknown", 0)
        self._rates.spend(f"wrong:{client[0]}", WRONG_KEYS_PER_MIN)
        raise UnauthorizedError("the API key must be known to this service and not revoked")

    def _local(self, headers: Headers) -> Caller:
        self._check_local(headers)
        return Caller(owner=LOCAL, limits=self._settings.auth.limits)

    async def _needs_key(self, scope: Scope, headers: Headers) -> bool:
        """True if the request needs a key.

        Nothing in a request proves that it comes from this machine: its socket and its Host may be those of a proxy.
        Headers of a proxy prove the contrary.
        """
        if await _key_ring(scope).needs_key():
            return True
        is_forwarded = any(name in headers for name in PROXY_HEADERS)
        return self._settings.auth.required is None and is_forwarded

    def _check_local(self, headers: Headers) -> None:
        """Raise ForbiddenError if a web page of another site may have made this request.

        Such a page can make a browser call this machine by a host name that it controls, or across sites.
        """
        host = url_parts(f"//{headers.get('host', '')}").hostname or ""
        if not is_loopback(host) and host not in self._settings.allowed_hosts:
            raise ForbiddenError(
                f"without an API key the service must be called as localhost; found {host[:100]!r}; use a key, or "
                "add the host to serve.allowed_hosts"
            )
        origin = headers.get("origin")
        if origin is None or origin in self._settings.cors_origins:
            return
        if url_parts(origin).netloc != headers.get("host"):
            raise ForbiddenError(
                f"the origin of a web page must be in serve.cors_origins to call the service; found {origin[:100]!r}"
            )


def url_parts(url: str) -> SplitResult:
    """The parts of a URL, such as a stranger's header; empty ones if it is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _key_ring(scope: Scope) -> KeyRing:
    key_ring: KeyRing = scope["app"].state.dispatcher.key_ring
    return key_ring


def given_key(headers: Headers) -> str | None:
    kind, _, key = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("xi-api-key") or None


def key_of_page(headers: Headers) -> str | None:
    """The key in the page's cookie. Media elements and links cannot send a header, so they may read with it."""
    return unquote(cookie_parser(headers.get("cookie", "")).get(KEY_COOKIE, "")) or None


def allow_longer(request: Request, more_s: float) -> None:
    """Allow the answer to this request to begin ``more_s`` later than the time limit."""
    request.state.allow_s(more_s)


async def admit(request: Request, key_in_body: str | None) -> None:
    """Check a key that ``Guard`` could not see. Raises UnauthorizedError, ForbiddenError, CapacityError."""
    if hasattr(request.state, "admit"):
        await request.state.admit(key_in_body)


class Deadlines:
    """Time limits: a body must keep arriving, and an answer must begin in time. Once begun, it may take any time."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, answers: ErrorAnswers) -> None:
        self._app = app
        self._settings = settings
        self._answers = answers

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
                raise HTTPException(408, "the request's body must keep arriving; it stopped") from error
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
            await self._answers.to_error(error, scope["path"])(scope, receive, send)


MAX_BUCKETS = 10_000


class Rates:
    """Token buckets that limit the requests of each caller to one dispatcher.

    The callers seen longest ago are forgotten, which refills their buckets.
    """

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Caller → (requests left, the time of that count)."""

    def spend(self, caller: str, per_min: int, now_s: float | None = None) -> None:
        """Count one request. Raises CapacityError with the time until the next one is allowed."""
        now_s = time.monotonic() if now_s is None else now_s
        left, then_s = self._buckets.pop(caller, (float(per_min), now_s))
        left = min(float(per_min), left + (now_s - then_s) * per_min / 60)
        allowed = left >= 1
        self._buckets[caller] = (left - 1 if allowed else left, now_s)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise CapacityError(
                f"at most {per_min} requests a minute are answered; wait", retry_after_s=(1 - left) * 60 / per_min
            )
