"""The single models over HTTP, in the shapes that existing clients speak."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter

from serve.errors import SHAPES
from serve.inference import Inference
from serve.libretranslate_api import libretranslate_problem, libretranslate_routes
from serve.openai_api import openai_problem, openai_routes
from serve.requests import SECURITY
from serve.tei_api import tei_problem, tei_routes

SHAPES |= dict.fromkeys(("/v1/audio", "/v1/embeddings", "/v1/models"), openai_problem)
SHAPES |= dict.fromkeys(("/translate", "/detect", "/languages"), libretranslate_problem)
SHAPES |= dict.fromkeys(("/embed", "/info"), tei_problem)


def model_routes(inference: Callable[[], Inference], max_upload_bytes: int) -> APIRouter:
    """``inference`` is asked at each request: the pools are there only once the service has started."""
    router = APIRouter(dependencies=SECURITY)
    router.include_router(openai_routes(inference, max_upload_bytes))
    router.include_router(libretranslate_routes(inference))
    router.include_router(tei_routes(inference))
    return router
