"""The single models over HTTP, in the shapes that existing clients speak."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter

from serve.errors import SHAPES
from serve.inference import Inference
from serve.libretranslate_api import libretranslate_problem, libretranslate_routes
from serve.openai_api import openai_problem, openai_routes
from serve.tei_api import tei_problem, tei_routes

SHAPES |= dict.fromkeys(("/v1/audio", "/v1/embeddings", "/v1/models"), openai_problem)
SHAPES |= dict.fromkeys(("/translate", "/detect", "/languages"), libretranslate_problem)
SHAPES |= dict.fromkeys(("/embed", "/info"), tei_problem)


def model_routes(inference: Callable[[], Inference]) -> APIRouter:
    """``inference`` is asked at each request: the pools are there only once the service has started."""
    router = APIRouter()
    for routes in (openai_routes, libretranslate_routes, tei_routes):
        router.include_router(routes(inference))
    return router
