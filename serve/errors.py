"""What an error is over HTTP: one table from the error's type to a status, one shape of body (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from actors.errors import (
    CapacityError,
    ConfigError,
    DubbingError,
    EngineError,
    EngineLoadError,
    ItemError,
    MediaError,
    ReplicaLostError,
)
from serve.bucket import BucketError

log = logging.getLogger(__name__)

RETRY_SOON_S = 5.0


class NotFoundError(DubbingError):
    """No such thing, or not the caller's."""


class ConflictError(DubbingError):
    """Not in this state."""


class ServiceFullError(CapacityError):
    """The whole service is full, not one caller's share of it."""


class TooLargeError(DubbingError):
    """A body over its limit."""


class TooSlowError(DubbingError):
    """A body that does not arrive in time."""


class UnauthorizedError(DubbingError):
    """No key, or one that is not known."""


class ForbiddenError(DubbingError):
    """A request that must not be made this way, whoever makes it."""


class Problem(BaseModel):
    """The body of every error."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


STATUS: Mapping[type[Exception], int] = {
    ConfigError: 422,
    MediaError: 422,
    ItemError: 422,
    NotFoundError: 404,
    ConflictError: 409,
    TooLargeError: 413,
    TooSlowError: 408,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    ServiceFullError: 503,
    CapacityError: 429,
    EngineLoadError: 503,
    ReplicaLostError: 503,
    EngineError: 503,
    BucketError: 503,
    # The database: gone for now, or all its connections are taken.
    OperationalError: 503,
    InterfaceError: 503,
    DBAPIError: 503,
    PoolTimeoutError: 503,
    ConnectionError: 503,
    TimeoutError: 503,
}

Shape = Callable[[Problem], Mapping[str, Any]]
"""A problem as the clients of another service expect errors."""

SHAPES: dict[str, Shape] = {}
"""Path prefix → shape; the longest prefix that fits is taken."""


def problem_of(error: Exception) -> Problem:
    """What may be told of it; the rest is logged."""
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    if isinstance(error, DubbingError) and status != 500:
        detail = error.message
    elif status == 503:
        detail = "the service cannot answer at the moment; try again"
    else:
        detail = "unexpected error; the service's log has it"
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)


def headers_of(error: Exception, status: int) -> dict[str, str]:
    if isinstance(error, CapacityError):
        return {"Retry-After": str(max(1, round(error.retry_after_s)))}
    if status == 503:
        return {"Retry-After": str(round(RETRY_SOON_S))}
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {}


def response_to(error: Exception, path: str) -> JSONResponse:
    problem = problem_of(error)
    if problem.status >= 500:
        log.error("request failed path=%s status=%d", path, problem.status, exc_info=error)
    return as_response(problem, path, headers_of(error, problem.status))


def as_response(problem: Problem, path: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    fitting = [prefix for prefix in SHAPES if path.startswith(prefix)]
    if fitting:
        body = SHAPES[max(fitting, key=len)](problem)
        return JSONResponse(body, problem.status, headers)
    return JSONResponse(problem.model_dump(), problem.status, headers, media_type="application/problem+json")


def handle_errors(app: FastAPI) -> None:
    """Have every error of the routes answered by this module."""

    async def known(request: Request, error: Exception) -> JSONResponse:
        return response_to(error, request.url.path)

    async def http(request: Request, error: HTTPException) -> JSONResponse:
        problem = Problem(
            title=HTTPStatus(error.status_code).phrase, status=error.status_code, detail=str(error.detail)
        )
        return as_response(problem, request.url.path, error.headers)

    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = Problem(title="Unprocessable Entity", status=422, detail=f"{where}: {first['msg']}")
        return as_response(problem, request.url.path)

    for kind in STATUS:
        app.add_exception_handler(kind, known)
    app.add_exception_handler(DubbingError, known)
    app.add_exception_handler(HTTPException, http)  # type: ignore[arg-type]  # starlette's types want any Exception
    app.add_exception_handler(RequestValidationError, invalid)  # type: ignore[arg-type]


ANYWHERE = (400, 401, 403, 408, 413, 422, 429, 500, 503)
"""What any request may be answered with, whatever it asks for."""


def document_errors(app: FastAPI) -> None:
    """Have the OpenAPI document name ``ANYWHERE`` at every operation, and 404 where a path names a thing."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        for path, operations in document["paths"].items():
            for operation in operations.values():
                for status in (*ANYWHERE, *([404] if "{" in path else [])):
                    operation["responses"].setdefault(str(status), {"description": HTTPStatus(status).phrase})
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's own documentation has it


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's ``responses``: these errors, and those that any request may meet."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
        }
        for status in sorted({*ANYWHERE, *statuses})
    }
