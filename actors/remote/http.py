"""Requests to a model server: tried again after transient failures, within bounds of time and bytes.

A server that is overloaded, restarts or answers nonsense costs an item another attempt. Only when the attempts or the
time are spent does the item fail, and it fails alone.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import tenacity
from pydantic import BaseModel, ValidationError

from actors.errors import ItemError

RETRIED_STATUSES = frozenset({408, 425, 429})
"""Statuses below 500 after which another attempt may succeed."""
FIRST_WAIT_S = 0.25
MAX_WAIT_S = 20.0
"""Longest wait between two attempts, also where the server asks for more."""
MAX_QUOTED_CHARACTERS = 200
"""Characters of a server's error that a message repeats."""

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class TransientError(Exception):
    """A failure that another attempt may not have."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The body of a successful answer."""

    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The body of a request: JSON, or a form with files."""

    json: Mapping[str, Any] | None = None
    form: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, tuple[str, bytes, str]] = field(default_factory=dict)
    """Field → (file name, content, media type)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of one request and its attempts."""

    timeout_s: float
    max_attempts: int
    max_answer_bytes: int


class RemoteApi:
    """A model server. Its methods may be called by several threads at a time."""

    def __init__(self, base_url: str, key: str | None, bounds: Bounds) -> None:
        self._base_url = base_url
        self._key = key
        self._bounds = bounds
        # Answers are counted as they come: without compression, so that few bytes cannot become many.
        headers = {"accept-encoding": "identity"} | ({} if key is None else {"authorization": f"Bearer {key}"})
        self._client = httpx.Client(
            headers=headers, limits=httpx.Limits(max_connections=None), timeout=bounds.timeout_s
        )

    def close(self) -> None:
        self._client.close()

    def post(self, path: str, body: Callable[[int], Body], read: Callable[[Answer], T], until_s: float) -> T:
        """Send a request and return the result of ``read``.

        ``body`` makes the request for the number of an attempt, from 0. ``read`` raises TransientError for an answer
        of no use. No attempt goes on past ``until_s``, by ``time.monotonic``. Raises ItemError.
        """

        def attempt(number: int) -> T:
            made = body(number)
            request = self._client.build_request(
                "POST", f"{self._base_url}/{path}", json=made.json, data=made.form or None, files=made.files or None
            )
            return read(self._send(request, until_s))

        return self._retried(attempt, path, until_s, self._bounds.max_attempts)

    def get(self, path: str, read: Callable[[Answer], T], until_s: float) -> T:
        """Ask until there is an answer, at most until ``until_s``; returns the result of ``read``. Raises ItemError."""

        def attempt(number: int) -> T:
            return read(self._send(self._client.build_request("GET", f"{self._base_url}/{path}"), until_s))

        return self._retried(attempt, path, until_s, None)

    def _retried(self, attempt: Callable[[int], T], path: str, until_s: float, max_attempts: int | None) -> T:
        remaining_s = max(0.0, until_s - time.monotonic())
        stop = tenacity.stop_before_delay(remaining_s)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            stop=stop if max_attempts is None else tenacity.stop_any(stop, tenacity.stop_after_attempt(max_attempts)),
            wait=_wait_s,
            reraise=True,
        )
        num_attempts = 0
        try:
            for each in retrying:
                with each:
                    num_attempts += 1
                    return attempt(num_attempts - 1)
        except TransientError as error:
            raise ItemError(
                f"{self._shown(path)} must answer; {error}, after {num_attempts} attempts in "
                f"{remaining_s - max(0.0, until_s - time.monotonic()):.1f} s; look at the server's log, or ask it for "
                "less at a time (options.concurrency)"
            ) from error
        raise AssertionError("unreachable: tenacity returns or raises")

    def _send(self, request: httpx.Request, until_s: float) -> Answer:
        now_s = time.monotonic()
        end_s = min(until_s, now_s + self._bounds.timeout_s)
        if end_s <= now_s:
            raise TransientError("no time was left for it")
        # httpx bounds each step alone, the loop below bounds their sum.
        request.extensions["timeout"] = httpx.Timeout(end_s - now_s).as_dict()
        try:
            response = self._client.send(request, stream=True)
            try:
                content = self._content(response, end_s)
            finally:
                response.close()
        except httpx.TransportError as error:
            raise TransientError(f"{type(error).__name__}: {error}") from error
        if response.is_success:
            return Answer(content=content, media_type=response.headers.get("content-type", ""))
        message = f"it answered {response.status_code}: {self._quoted(content)}"
        if response.status_code in RETRIED_STATUSES or response.is_server_error:
            raise TransientError(message, _retry_after_s(response.headers.get("retry-after", "")))
        raise ItemError(f"{self._shown(request.url.path)} must take the request; {message}")

    def _content(self, response: httpx.Response, end_s: float) -> bytes:
        content = bytearray()
        for part in response.iter_raw():
            content += part
            if len(content) > self._bounds.max_answer_bytes:
                raise TransientError(
                    f"its answer must have at most {self._bounds.max_answer_bytes} bytes (options.max_answer_bytes)"
                )
            if time.monotonic() > end_s:
                raise TransientError("its answer took too long (options.timeout_s)")
        return bytes(content)

    def _shown(self, path: str) -> str:
        url = httpx.URL(self._base_url)
        return f"the server {url.scheme}://{url.netloc.decode().rpartition('@')[2]} ({path})"

    def _quoted(self, content: bytes) -> str:
        """The start of an error's text, on one line and without the key, which some servers repeat."""
        text = content[: 8 * MAX_QUOTED_CHARACTERS].decode(errors="replace")
        text = text.replace(self._key, "…") if self._key else text
        return " ".join(text.split())[:MAX_QUOTED_CHARACTERS] or "(nothing)"


def parsed(model: type[M], content: bytes | str) -> M:
    """JSON from a server as a record. Raises TransientError if it is not of its form."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise TransientError(f"its answer must be well formed; {where}: {first['msg']}") from error


def _wait_s(state: tenacity.RetryCallState) -> float:
    """Seconds before the next attempt: doubled each time, with jitter, or what the server asks for if that is more."""
    own_s = tenacity.wait_exponential_jitter(multiplier=FIRST_WAIT_S, max=MAX_WAIT_S, jitter=FIRST_WAIT_S)(state)
    error = None if state.outcome is None else state.outcome.exception()
    asked_s = error.retry_after_s if isinstance(error, TransientError) else 0.0
    return min(MAX_WAIT_S, max(own_s, asked_s))


def _retry_after_s(header: str) -> float:
    """Seconds from a Retry-After header, a number or a date; 0 if there is none."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
