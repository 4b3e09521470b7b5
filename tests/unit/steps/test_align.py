from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from actors.errors import EngineLoadError, ItemError
from actors.types import (
    Candidate,
    Embedding,
    EmbedRequest,
    Segment,
    TokenVectors,
    TranslateRequest,
    Translation,
    Unit,
)
from cluster.alignment.config import AlignConfig
from cluster.alignment.tokens import token_spans
from cluster.config.schema import StageConfig
from cluster.steps.align import Aligner, rooms_s

EMBEDDING = StageConfig(engine="use_multilingual")
TARGET = Candidate(text="um dois três quatro", score=None)


class FakePool:
    """Answers by a function; what it raises is raised."""

    name = "fake/engine"

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self._answer = answer
        self.requests: list[Any] = []

    async def submit(self, request: Any, *, order: float = 0.0) -> Any:
        self.requests.append((request, order))
        await asyncio.sleep(0)
        return self._answer(request)


def embed(request: EmbedRequest) -> Embedding:
    assert request.with_tokens
    spans = token_spans(request.text)
    rows = [np.random.default_rng(zlib.crc32(request.text[a:b].encode())).normal(size=16) for a, b in spans]
    vectors = TokenVectors(spans=np.array(spans), vectors=np.array(rows, dtype=np.float32))
    return Embedding(vector=np.zeros(16, np.float32), tokens=vectors)


def translate(request: TranslateRequest) -> Translation:
    return Translation(candidates=(Candidate(text=f"[{request.text}]", score=None),))


def failing(error: Exception) -> Callable[[Any], Any]:
    def fail(request: Any) -> Any:
        raise error

    return fail


def unit(*texts: str, language: str = "en") -> Unit:
    segments = tuple(
        Segment(
            id=f"s{at}",
            start_s=2.0 * at,
            end_s=2.0 * at + 1.0,
            text=text,
            language=language,
            speaker="speaker0",
            words=(),
            mean_log_probability=0.0,
            no_speech_probability=0.0,
        )
        for at, text in enumerate(texts)
    )
    return Unit(id="u0", segments=segments, room_end_s=2.0 * len(texts))


def aligner(
    config: AlignConfig,
    embedding: FakePool | None = None,
    translation: FakePool | None = None,
    target: str = "pt",
) -> Aligner:
    return Aligner(config, EMBEDDING, embedding, translation or FakePool(translate), target)  # type: ignore[arg-type]


async def test_source_and_targets_are_read_with_the_units_order() -> None:
    pool = FakePool(embed)
    found = await aligner(AlignConfig(), pool).align(unit("one two", "three four"), [TARGET, TARGET], 7.5)
    assert [(request.text, order) for request, order in pool.requests] == [
        ("one two three four", 7.5),
        ("um dois três quatro", 7.5),
        ("um dois três quatro", 7.5),
    ]
    assert [alignment.method for alignment in found] == ["hybrid", "hybrid"]


async def test_a_unit_of_one_segment_asks_no_model() -> None:
    pool, translation = FakePool(embed), FakePool(translate)
    both = aligner(AlignConfig(segment_translations=True), pool, translation)
    [found] = await both.align(unit("one two three four"), [TARGET], 0.0)
    assert [span.text for span in found.spans] == [TARGET.text]
    assert pool.requests == translation.requests == []


async def test_length_asks_no_model() -> None:
    pool, translation = FakePool(embed), FakePool(translate)
    config = AlignConfig(strategy="length", segment_translations=True)
    [found] = await aligner(config, pool, translation).align(unit("one two", "three four"), [TARGET], 0.0)
    assert found.method == "length"
    assert pool.requests == translation.requests == []


@pytest.mark.parametrize("error", [ItemError("too long"), EngineLoadError("no weights")])
async def test_a_failing_embedder_costs_only_accuracy(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    [found] = await aligner(AlignConfig(), FakePool(failing(error))).align(unit("one two", "three four"), [TARGET], 0.0)
    assert found.method == "length"
    assert "evidence missing" in caplog.text


async def test_a_mistake_of_our_own_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        await aligner(AlignConfig(), FakePool(failing(ZeroDivisionError()))).align(unit("a", "b"), [TARGET], 0.0)


@pytest.mark.parametrize(("source", "target"), [("sv", "pt"), ("en", "sv")])
async def test_languages_the_embedder_does_not_know_are_not_given_to_it(source: str, target: str) -> None:
    pool = FakePool(embed)
    found = await aligner(AlignConfig(), pool, target=target).align(unit("ett", "två", language=source), [TARGET], 0.0)
    assert found[0].method == "length"
    assert pool.requests == []


async def test_segments_are_translated_where_there_are_no_links() -> None:
    translation = FakePool(translate)
    config = AlignConfig(segment_translations=True)
    [found] = await aligner(config, FakePool(embed), translation).align(unit("one,", "two"), [TARGET], 3.0)
    assert [(request.text, order) for request, order in translation.requests] == [("One,", 3.0), ("Two.", 3.0)]
    assert found.method == "hybrid+translations"


async def test_links_make_further_translations_needless() -> None:
    translation = FakePool(translate)
    linked = Candidate(text=TARGET.text, score=None, alignment=((0, 0, 1.0), (1, 3, 1.0)))
    config = AlignConfig(segment_translations=True)
    [found] = await aligner(config, FakePool(embed), translation).align(unit("one", "two"), [linked], 0.0)
    assert found.method == "hybrid+links"
    assert translation.requests == []


async def test_a_failed_segment_translation_leaves_that_evidence_out() -> None:
    def answer(request: TranslateRequest) -> Translation:
        if request.text == "Two.":
            raise ItemError("untranslatable")
        return translate(request)

    config = AlignConfig(segment_translations=True)
    [found] = await aligner(config, FakePool(embed), FakePool(answer)).align(unit("one", "two"), [TARGET], 0.0)
    assert found.method == "hybrid"


async def test_neighbours_in_a_batch_change_nothing() -> None:
    units = [unit("one two", "three four"), unit("three", "four one two"), unit("two", "one", "four three")]
    joint = aligner(AlignConfig(), FakePool(embed))
    together = await asyncio.gather(*(joint.align(each, [TARGET], 0.0) for each in units))
    alone = [await aligner(AlignConfig(), FakePool(embed)).align(each, [TARGET], 0.0) for each in units]
    assert together == alone


def test_a_room_is_the_slot_and_half_the_pause_after_it() -> None:
    assert rooms_s(unit("one", "two")) == (1.5, 1.5)
