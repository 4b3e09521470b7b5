"""The endpoints of Hugging Face's Text Embeddings Inference, as its clients call them.

https://huggingface.github.io/text-embeddings-inference: errors are ``{"error": …, "error_type": …}``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from actors.errors import ItemError
from serve.errors import Problem
from serve.inference import Inference


class EmbedBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inputs: str | list[str]
    normalize: bool = True
    truncate: bool = False
    truncation_direction: Literal["left", "Left", "right", "Right"] = "right"
    prompt_name: None = None


def tei_problem(problem: Problem) -> dict[str, Any]:
    """An error as the clients of Text Embeddings Inference read it."""
    kinds = {413: "validation", 422: "validation", 429: "overloaded", 503: "unhealthy"}
    return {"error": problem.detail, "error_type": kinds.get(problem.status, "backend")}


def tei_routes(inference: Callable[[], Inference]) -> APIRouter:
    router = APIRouter(tags=["Text Embeddings Inference"])

    @router.post("/", description="As `/embed`: where `huggingface_hub.InferenceClient` calls a model by its URL.")
    @router.post("/embed")
    async def embed(body: EmbedBody) -> Response:
        """Vectors of texts, of length 1."""
        models = inference()
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        if body.truncate:
            texts = [text[: models.limits.max_text_characters] for text in texts]
        if not body.normalize:
            raise ItemError("normalize must be true: vectors here have length 1")
        if body.truncation_direction.lower() != "right":
            raise ItemError("truncation_direction must be right: texts are cut at their end here")
        models.check_texts(texts)
        await models.check_room("embedding")
        return JSONResponse((await models.embed(texts)).tolist())

    @router.get("/info")
    async def info() -> dict[str, Any]:
        """Which model embeds, and what a request may hold."""
        models = inference()
        return {
            "model_id": models.embedding_name,
            "model_dtype": "float32",
            "model_type": {"embedding": {"pooling": "mean"}},
            "max_client_batch_size": models.limits.max_texts,
            "max_input_length": models.limits.max_text_characters,
        }

    return router
