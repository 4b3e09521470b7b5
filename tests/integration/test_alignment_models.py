from __future__ import annotations

import pytest

from actors.types import Candidate, Segment, Unit
from cluster.alignment.config import AlignConfig
from cluster.config.load import load_config
from cluster.pools.pool_set import PoolSet
from cluster.steps.align import Aligner

SOURCE = ("The lighthouse keeper climbed the stairs", "because the lamp had gone out", "during the storm")
TARGET = ("O faroleiro subiu as escadas", "porque a lâmpada tinha se apagado", "durante a tempestade.")


def unit() -> Unit:
    segments = tuple(
        Segment(
            id=f"s{at}",
            start_s=2.0 * at,
            end_s=2.0 * at + 1.9,
            text=text,
            language="en",
            speaker="speaker0",
            words=(),
            mean_log_probability=0.0,
            no_speech_probability=0.0,
        )
        for at, text in enumerate(SOURCE)
    )
    return Unit(id="u0", segments=segments, room_end_s=6.0)


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({}, "hybrid"),
        ({"segment_translations": True}, "hybrid+translations"),
        ({"strategy": "semantic"}, "semantic"),
    ],
)
async def test_real_models_divide_a_translation_where_its_segments_do(settings: dict[str, object], method: str) -> None:
    config = load_config("offline", ["ray.mode=inline", "store.url=none"])
    async with PoolSet(config) as pools:
        embedding = await pools.get("embedding", config.embedding)
        translation = await pools.get("translation", config.translation)
        aligner = Aligner(AlignConfig.model_validate(settings), config.embedding, embedding, translation, "pt")
        [found] = await aligner.align(unit(), [Candidate(text=" ".join(TARGET), score=None)], 0.0)
    assert tuple(span.text for span in found.spans) == TARGET
    assert found.method == method
    assert all(span.confidence is not None and span.confidence > 0.5 for span in found.spans[1:])
