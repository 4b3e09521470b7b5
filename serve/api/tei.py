"""The endpoints of Hugging Face's Text Embeddings Inference, as its clients call them.

https://huggingface.github.io/text-embeddings-inference. Errors are ``{"error": …, "error_type": …}``.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from actors.errors import ItemError
from serve.api.dependencies import SECURITY, InferenceDep
from serve.api.problems import ImitatedRouter, Problem


class EmbedBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inputs: str | list[str]
    normalize: bool = True
    truncate: bool = False
    truncation_direction: Literal["left", "Left", "right", "Right"] = "right"
    prompt_name: None = None


def tei_error(problem: Problem) -> dict[str, Any]:
    """An error as the clients of Text Embeddings Inference expect it."""
    kinds = {413: "validation", 422: "validation", 429: "overloaded", 503: "unhealthy"}
    return {"error": problem.detail, "error_type": kinds.get(problem.status, "backend")}


router = ImitatedRouter(
    tags=["Text Embeddings Inference"],
    dependencies=SECURITY,
    error_paths=("/embed", "/info"),
    error_body=tei_error,
)


@router.post("/", description="The same as `/embed`: `huggingface_hub.InferenceClient` posts to a model's URL.")
@router.post("/embed")
async def embed(body: EmbedBody, inference: InferenceDep) -> Response:
    """Embed texts as vectors of length 1."""
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    if body.truncate:
        texts = [text[: inference.limits.max_text_characters] for text in texts]
    if not body.normalize:
        raise ItemError("normalize must be true: vectors here have length 1")
    if body.truncation_direction.lower() != "right":
        raise ItemError("truncation_direction must be right: texts are cut at their end here")
    inference.check_texts(texts)
    await inference.check_room("embedding")
    return JSONResponse((await inference.embed(texts)).tolist())


@router.get("/info")
async def info(inference: InferenceDep) -> dict[str, Any]:
    """The embedding model and the limits of a request."""
    return {
        "model_id": inference.embedding_name,
        "model_dtype": "float32",
        "model_type": {"embedding": {"pooling": "mean"}},
        "max_client_batch_size": inference.limits.max_texts,
        "max_input_length": inference.limits.max_text_characters,
    }
