"""Turns exceptions into HTTP answers: a status for each type of error, a body for each imitated API."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request
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
from cluster.storage.files import is_full
from serve.errors import (
    FULL,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    ServiceFullError,
    UnauthorizedError,
)
from serve.storage.bucket import BucketError

log = logging.getLogger(__name__)

RETRY_SOON_S = 5.0


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
    UnauthorizedError: 401,
    ForbiddenError: 403,
    ServiceFullError: 503,
    CapacityError: 429,
    EngineLoadError: 503,
    ReplicaLostError: 503,
    EngineError: 503,
    BucketError: 503,
    # The database does not answer, or all its connections are in use.
    OperationalError: 503,
    InterfaceError: 503,
    DBAPIError: 503,
    PoolTimeoutError: 503,
    ConnectionError: 503,
    TimeoutError: 503,
}

ErrorBody = Callable[[Problem], Mapping[str, Any]]
"""Turns a problem into the body that the clients of an imitated API expect."""


class ImitatedRouter(APIRouter):
    """Routes of an imitated API. Errors below ``error_paths`` have the body that its clients expect.

    The body depends on the path and not on the route, because middleware answers before a route is found.
    """

    def __init__(self, *, error_paths: Sequence[str], error_body: ErrorBody, **options: Any) -> None:
        super().__init__(**options)
        self.error_bodies = dict.fromkeys(error_paths, error_body)


class ErrorAnswers:
    """Makes the HTTP answer to an error. The longest path prefix that fits decides on the body."""

    def __init__(self, routers: Iterable[APIRouter] = ()) -> None:
        imitated = [router for router in routers if isinstance(router, ImitatedRouter)]
        self._bodies = {path: body for router in imitated for path, body in router.error_bodies.items()}

    def to_error(self, error: Exception, path: str) -> JSONResponse:
        problem = problem_of(error)
        if problem.status >= 500:
            log.error("request failed path=%s status=%d", path, problem.status, exc_info=error)
        return self.to_problem(problem, path, headers_of(error, problem.status))

    def to_problem(self, problem: Problem, path: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
        fitting = [prefix for prefix in self._bodies if path == prefix or path.startswith(f"{prefix}/")]
        if fitting:
            body = self._bodies[max(fitting, key=len)](problem)
            return JSONResponse(body, problem.status, headers)
        return JSONResponse(problem.model_dump(), problem.status, headers, media_type="application/problem+json")


def problem_of(error: Exception) -> Problem:
    """The problem as the caller may see it. Details of unexpected errors are only logged."""
    status = 503 if is_full(error) else next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    if is_full(error):
        detail = FULL
    elif isinstance(error, DubbingError) and status != 500:
        detail = error.message
    elif status == 503:
        detail = "the service cannot answer at the moment; try again"
    else:
        detail = "unexpected error; its traceback is in the service's log"
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)


def headers_of(error: Exception, status: int) -> dict[str, str]:
    if isinstance(error, CapacityError):
        return {"Retry-After": str(max(1, round(error.retry_after_s)))}
    if status == 503:
        return {"Retry-After": str(round(RETRY_SOON_S))}
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {}


def handle_errors(app: FastAPI, answers: ErrorAnswers) -> None:
    """Let ``answers`` answer every error of the routes."""

    async def known(request: Request, error: Exception) -> JSONResponse:
        return answers.to_error(error, request.url.path)

    async def http(request: Request, error: HTTPException) -> JSONResponse:
        problem = Problem(
            title=HTTPStatus(error.status_code).phrase, status=error.status_code, detail=str(error.detail)
        )
        return answers.to_problem(problem, request.url.path, error.headers)

    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = Problem(title="Unprocessable Entity", status=422, detail=f"{where}: {first['msg']}")
        return answers.to_problem(problem, request.url.path)

    for kind in STATUS:
        app.add_exception_handler(kind, known)
    app.add_exception_handler(DubbingError, known)
    app.add_exception_handler(OSError, known)  # a full disk
    app.add_exception_handler(HTTPException, http)  # type: ignore[arg-type]  # starlette's types want any Exception
    app.add_exception_handler(RequestValidationError, invalid)  # type: ignore[arg-type]


ANYWHERE = (400, 401, 403, 408, 413, 422, 429, 500, 503)
"""Statuses that any request may be answered with."""


def document_errors(app: FastAPI) -> None:
    """Add ``ANYWHERE`` to every operation of the OpenAPI document, and 404 where the path has a parameter."""
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
    """The ``responses`` of a route: these errors, and those that any request may meet."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
        }
        for status in sorted({*ANYWHERE, *statuses})
    }
