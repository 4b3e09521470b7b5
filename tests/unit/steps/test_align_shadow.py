"""A second strategy beside the configured one: on the sampled units alone, asking no model, scored alike."""

from __future__ import annotations

from typing import Any

import pytest

from actors.types import Candidate
from cluster.alignment.align import Alignment
from cluster.alignment.config import AlignConfig
from cluster.manifest import SecondRecord
from cluster.steps.align import Aligner
from tests.unit.steps.test_align import EMBEDDING, FakePool, embed, translate, unit

SEGMENTS = ("aaaa bbbb", "cccc dddd eeee ffff")
# Three times what the first segment says: by length the break lies too early.
TARGET = "aaaa aaaa aaaa bbbb bbbb bbbb cccc dddd eeee ffff"


async def aligned(texts: tuple[str, ...] = SEGMENTS, target: str = TARGET, **settings: Any) -> tuple[Alignment, int]:
    """The first candidate's alignment, and how many requests it took."""
    config = AlignConfig.model_validate(settings)
    embedding, translation = FakePool(embed), FakePool(translate)
    aligner = Aligner(config, EMBEDDING, embedding, translation, "pt")  # type: ignore[arg-type]
    [alignment] = await aligner.align(unit(*texts), [Candidate(text=target, score=None)], 0.0)
    return alignment, len(embedding.requests) + len(translation.requests)


async def test_its_shares_are_scored_beside_the_spoken_ones() -> None:
    alignment, _ = await aligned(strategy="semantic", second={"strategy": "length", "share": 1.0})
    assert [span.text for span in alignment.spans] == ["aaaa aaaa aaaa bbbb bbbb bbbb", SEGMENTS[1]]
    first, last = alignment.second
    assert f"{first.text} {last.text}" == TARGET
    assert last.text.endswith(SEGMENTS[1])
    assert last.text != SEGMENTS[1]
    assert (first.method, last.method) == ("length", "length")
    assert last.own_cosine > 0.9
    assert last.cosine < last.own_cosine


async def test_it_changes_nothing_that_is_spoken_and_asks_no_model() -> None:
    alone, num_alone = await aligned(strategy="hybrid")
    beside, num_beside = await aligned(strategy="hybrid", second={"strategy": "length", "share": 1.0})
    assert beside.spans == alone.spans
    assert beside.method == alone.method
    assert num_beside == num_alone


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "hybrid"},
        {"strategy": "hybrid", "second": {"strategy": "length", "share": 1e-9}},
        {"strategy": "length", "second": {"strategy": "hybrid", "share": 1.0}},
        {"strategy": "hybrid", "second": {"strategy": "hybrid", "share": 1.0}},
    ],
)
async def test_nothing_is_tried_unasked_unsampled_without_vectors_or_twice(settings: dict[str, Any]) -> None:
    alignment, _ = await aligned(**settings)
    assert alignment.second == ()


async def test_a_unit_of_one_segment_has_nothing_to_try() -> None:
    alignment, _ = await aligned(("aaaa bbbb",), "aaaa bbbb", second={"strategy": "length", "share": 1.0})
    assert alignment.second == ()


async def test_a_segment_left_without_words_scores_nothing() -> None:
    alignment, _ = await aligned((*SEGMENTS, "gggg"), "aaaa bbbb", second={"strategy": "length", "share": 1.0})
    assert len(alignment.second) == 3
    assert (alignment.second[2].text, alignment.second[2].cosine, alignment.second[2].own_cosine) == ("", 0.0, 0.0)


async def test_its_record_survives_the_manifest() -> None:
    alignment, _ = await aligned(strategy="semantic", second={"strategy": "length", "share": 1.0})
    record = SecondRecord.of(alignment.second[1])
    assert SecondRecord.model_validate_json(record.model_dump_json()) == record
    assert record.own_cosine > record.cosine
