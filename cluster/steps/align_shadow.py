"""Runs a second alignment strategy beside the configured one on a sampled share of units: scored, never spoken.

In production it tells if another strategy would do better on the videos that are really dubbed. It costs a few
milliseconds of arithmetic on vectors that are there already, and asks no model for anything.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence

import numpy as np

from actors.types import Unit
from cluster.alignment.align import AlignedSpan, Alignment, SecondSpan, align
from cluster.alignment.config import AlignConfig
from cluster.alignment.inputs import AlignTask, Evidence
from cluster.alignment.scores import SemanticScores, source_shares
from cluster.metrics.meters import MetricHistogram
from cluster.quality import is_sampled

log = logging.getLogger(__name__)

COSINES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)

_cosine = MetricHistogram(
    "raydub_alignment_cosine",
    "Cosine of segments and their spans, mean over a unit, where two strategies divided it.",
    COSINES,
    ("strategy", "role"),
)


def try_second(
    unit: Unit, task: AlignTask, evidence: Evidence, chosen: Alignment, config: AlignConfig
) -> tuple[SecondSpan, ...]:
    """One per segment; empty if the unit is not sampled, has one segment, or has no vectors to score by."""
    second = config.second
    if second is None or second.strategy == config.strategy or len(task.segments) == 1:
        return ()
    if evidence.source is None or evidence.target is None or not is_sampled(unit.id, unit.text, second.share):
        return ()
    other = align(task, evidence, config.model_copy(update={"strategy": second.strategy}))
    own_cosines, cosines = (_cosines(task, evidence, alignment.spans) for alignment in (chosen, other))
    own, its = statistics.fmean(own_cosines), statistics.fmean(cosines)
    num_moved = sum(a.first_token != b.first_token for a, b in zip(chosen.spans, other.spans, strict=True))
    log.info(
        "second strategy unit=%s method=%s second=%s breaks_moved=%d cosine=%.4f second_cosine=%.4f",
        *(unit.id, chosen.method, other.method, num_moved, own, its),
    )
    _cosine.observe(own, tags={"strategy": config.strategy, "role": "spoken"})
    _cosine.observe(its, tags={"strategy": second.strategy, "role": "second"})
    return tuple(
        SecondSpan(method=other.method, text=span.text, cosine=cosine, own_cosine=own_cosine)
        for span, cosine, own_cosine in zip(other.spans, cosines, own_cosines, strict=True)
    )


def _cosines(task: AlignTask, evidence: Evidence, spans: Sequence[AlignedSpan]) -> list[float]:
    """Similarity of each segment to its span; 0 for a span without words."""
    assert evidence.source is not None
    assert evidence.target is not None
    scores = SemanticScores(task, source_shares(task, len(spans)), evidence.source, evidence.target)
    return [
        float(scores.cosines(index, np.array([span.first_token]), np.array([span.end_token]))[0, 0])
        if span.text
        else 0.0
        for index, span in enumerate(spans)
    ]
