from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from actors.embedding.use_multilingual import LANGUAGES, MAX_CHARACTERS
from actors.engine import make_engine
from actors.errors import ItemError
from actors.host import EngineHost
from actors.types import Embedding, EmbedRequest, ItemFailure

PAIRS = [
    ("The cat sat on the mat.", "O gato sentou no tapete."),
    ("Stocks fell sharply on Monday.", "As ações caíram fortemente na segunda-feira."),
    ("She bought seven oranges.", "Ela comprou sete laranjas."),
    ("The ship arrived from Spain.", "O navio chegou da Espanha."),
]


@pytest.fixture(scope="module")
def host() -> Iterator[EngineHost]:
    host = EngineHost("embedding", "use_multilingual", {})
    host.load()
    yield host
    host.close()


def embed(host: EngineHost, *texts: str) -> npt.NDArray[np.float32]:
    return np.stack([result.vector for result in host.run([EmbedRequest(text=text) for text in texts]).results])


def test_vectors_are_512_wide(host: EngineHost) -> None:
    assert embed(host, "hello").shape == (1, 512)


def test_a_sentence_is_nearest_to_its_own_translation(host: EngineHost) -> None:
    english, portuguese = embed(host, *[a for a, _ in PAIRS]), embed(host, *[b for _, b in PAIRS])
    assert (english @ portuguese.T).argmax(axis=1).tolist() == list(range(len(PAIRS)))


def test_the_longest_text_is_embedded_and_one_longer_refused(host: EngineHost) -> None:
    texts = ["a" * MAX_CHARACTERS, "a" * (MAX_CHARACTERS + 1)]
    longest, longer = host.run([EmbedRequest(text=text) for text in texts]).results
    assert np.isfinite(longest.vector).all()
    assert isinstance(longer, ItemFailure)


def test_who_asks_for_tokens_is_told_that_there_are_none(host: EngineHost) -> None:
    requests = [EmbedRequest(text="hello", with_tokens=True), EmbedRequest(text="hello")]
    failure, embedding = host.run(requests).results
    assert isinstance(failure, ItemFailure)
    assert type(failure.error) is ItemError
    assert "with_tokens" in failure.error.message
    assert isinstance(embedding, Embedding)
    assert embedding.tokens is None


def test_16_languages_and_their_regions() -> None:
    engine = make_engine("embedding", "use_multilingual", {})
    assert len(LANGUAGES) == len(set(LANGUAGES)) == 16
    assert all(engine.supports(tag) for tag in (*LANGUAGES, "pt-BR", "zh-TW", "zh-CN", "en-AU"))
    assert not any(engine.supports(tag) for tag in ("sv", "hi", "und"))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_the_vectors(host: EngineHost, threads: int) -> None:
    other = EngineHost("embedding", "use_multilingual", {"threads": threads})
    other.load()
    texts = [text for pair in PAIRS for text in pair]
    np.testing.assert_allclose(embed(other, *texts), embed(host, *texts), rtol=0.0, atol=1e-5)
