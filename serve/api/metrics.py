"""``/metrics``, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from cluster.metrics.meters import exposition

router = APIRouter(include_in_schema=False)
"""For operators, not for the API's clients; it needs a key all the same."""


@router.get("/metrics", response_class=PlainTextResponse)
async def show() -> Response:
    """The metrics of this dispatcher's pools and dubs since it started, in Prometheus's text format.

    Where the service runs on Ray with several dispatchers, each request may be answered by another: scrape Ray's own
    endpoints then, which have all of them under the same names.
    """
    return Response(exposition(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
