"""``/healthz`` and ``/readyz``, for load balancers and Kubernetes."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from serve.api.dependencies import DispatcherDep
from serve.api.problems import RETRY_SOON_S
from serve.dispatch.health import Readiness

router = APIRouter(tags=["health"])


class HealthAnswer(BaseModel):
    status: Literal["ok", "loading", "ready", "broken", "draining", "database_unreachable"]


@router.get("/healthz", responses={503: {"model": HealthAnswer}})
async def alive(response: Response, dispatcher: DispatcherDep) -> HealthAnswer:
    """Liveness: 503 if this dispatcher is broken and must be restarted. Loading models is no failure."""
    try:
        dispatcher.health.check()
    except RuntimeError:
        response.status_code = 503
        return HealthAnswer(status="broken")
    return HealthAnswer(status="ok")


@router.get("/readyz", responses={503: {"model": HealthAnswer}})
async def ready(response: Response, dispatcher: DispatcherDep) -> HealthAnswer:
    """Readiness: 200 once the models are loaded and the database answers.

    `loading` becomes `ready` without help; `broken` means that the models cannot be loaded.
    `database_unreachable` means that the database has not answered for some seconds, so that dubs can neither be
    created nor looked up.
    """
    readiness = dispatcher.health.readiness
    if readiness is not Readiness.READY:
        response.status_code = 503
        response.headers["Retry-After"] = str(round(RETRY_SOON_S))
    return HealthAnswer(status=readiness.value)
