from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from actors.embedding._text import MAX_CHARACTERS
from actors.embedding.use_multilingual import LANGUAGES
from actors.engine import make_engine
from actors.host import EngineHost
from actors.types import EmbedRequest, ItemFailure

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


SCRIPTS = [
    "Isto é um teste, com várias palavras: sim.",
    "  ﬁne ﬀ ligatures Ⅷ ½  and\tspaces ",
    "今日は天気がいい。散歩しよう。",
    "สวัสดีครับ ผมไปตลาด",
    "مرحبا بالعالم، كيف حالك؟",
    "e\u0301 \u3000x ㍿ 😀 ok İ",
    "\u200b",
]


def test_tokens_come_with_the_same_vector_and_cover_the_text_in_order(host: EngineHost) -> None:
    read = host.run([EmbedRequest(text=text, with_tokens=True) for text in SCRIPTS]).results
    np.testing.assert_allclose([each.vector for each in read], embed(host, *SCRIPTS), rtol=0.0, atol=1e-5)
    for text, embedding in zip(SCRIPTS, read, strict=True):
        spans, vectors = embedding.tokens.spans, embedding.tokens.vectors
        assert vectors.shape == (len(spans), 512)
        assert (spans[:, 0] < spans[:, 1]).all()
        assert (spans[1:, 0] >= spans[:-1, 1]).all()
        covered = {index for first, end in spans for index in range(first, end)}
        assert not text[-1:].isalnum() or len(text) - 1 in covered
        assert {index for index, each in enumerate(text) if each.isalpha()} <= covered


def test_token_spans_are_the_words_they_say(host: EngineHost) -> None:
    [read] = host.run([EmbedRequest(text="um ﬁm de três", with_tokens=True)]).results
    assert ["um ﬁm de três"[first:end].strip() for first, end in read.tokens.spans] == ["um", "ﬁm", "de", "três"]


def test_a_texts_tokens_do_not_depend_on_its_batch(host: EngineHost) -> None:
    """Over a thousand tokens: more than are read at a time."""
    texts = [text for pair in PAIRS for text in pair] * 20
    together = host.run([EmbedRequest(text=text, with_tokens=True) for text in texts]).results
    for text, embedding in zip(texts[:8], together, strict=False):
        [alone] = host.run([EmbedRequest(text=text, with_tokens=True)]).results
        np.testing.assert_array_equal(alone.tokens.spans, embedding.tokens.spans)
        np.testing.assert_allclose(alone.tokens.vectors, embedding.tokens.vectors, rtol=0.0, atol=1e-4)


def test_only_who_asks_gets_tokens(host: EngineHost) -> None:
    requests = [EmbedRequest(text=text, with_tokens=text != "b") for text in ("a", "b", "c")]
    assert [each.tokens is not None for each in host.run(requests).results] == [True, False, True]


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
