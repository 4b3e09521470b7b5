"""Scores the similarity of texts across languages: the cosine of their embeddings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from actors.engine import make_engine
from actors.errors import DubbingError
from actors.types import Embedding, EmbedRequest
from cluster.config.schema import Config
from cluster.pools.pool_set import JobPool

log = logging.getLogger(__name__)

COSINE_DIGITS = 3
"""An embedding differs by rounding with its batch; a decision by a cosine must not."""


class SimilarityScorer:
    """Compares texts in the embedding pool."""

    def __init__(self, config: Config, pool: JobPool) -> None:
        self._pool = pool
        self._engine = make_engine(
            "embedding", config.embedding.engine, config.embedding.options
        )  # knows its languages

    def reads(self, *languages: str) -> bool:
        return all(self._engine.supports(language) for language in languages)

    async def cosines(self, source: str, texts: Sequence[str], order: float) -> list[float | None]:
        """Similarity of each text to ``source``; None where one of the two could not be embedded."""
        vectors = await asyncio.gather(*(self._vector(text, order) for text in (source, *texts)))
        return [_cosine(vectors[0], vector) for vector in vectors[1:]]

    async def _vector(self, text: str, order: float) -> npt.NDArray[np.float32] | None:
        try:
            embedding: Embedding = await self._pool.submit(EmbedRequest(text=text), order=order)
        except DubbingError as error:  # without it, candidates keep the translator's order
            log.warning("similarity not scored pool=%s error=%s", self._pool.name, error.message)
            return None
        return embedding.vector


def _cosine(a: npt.NDArray[np.float32] | None, b: npt.NDArray[np.float32] | None) -> float | None:
    return None if a is None or b is None else round(float(a @ b), COSINE_DIGITS)
