"""Divides a translation among the segments of its source.

A unit covers N timed segments; its translation is one text of M tokens. The breaks 0 = b0 < … < bN = M
that cost least are found exactly, by dynamic programming within a window. ``costs`` has the terms: meaning,
words that correspond, length, time, and the plausibility of a pause.

All weights were fitted at once, so that exp(−cost) behaves as a probability: the confidence of a break comes
from the same sums over all divisions of the text.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.alignment.config import AlignConfig
from cluster.alignment.costs import build_terms
from cluster.alignment.inputs import AlignTask, Evidence
from cluster.alignment.search import best_division, windows
from cluster.alignment.tokens import tokenise


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedSpan:
    """One segment's share of the translation."""

    text: str
    first_token: int
    end_token: int
    confidence: float | None
    """Probability of the break it begins at, given that the model is right; None for the first and for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondSpan:
    """A segment's share by the second strategy, and the similarity of both strategies' shares to the segment."""

    method: str
    text: str
    cosine: float
    """Similarity of the segment and ``text``, pooled from the vectors of their tokens."""
    own_cosine: float
    """Similarity of the segment and its share by the configured strategy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """One translation, divided among the segments of its unit."""

    spans: tuple[AlignedSpan, ...]
    """One per segment, in order; together they are the whole target."""
    method: str
    """The evidence that was used: length, semantic, hybrid, hybrid+links, hybrid+translations."""
    second: tuple[SecondSpan, ...] = ()
    """One per segment, where the unit was sampled for a second strategy."""


def align(task: AlignTask, evidence: Evidence, config: AlignConfig) -> Alignment:
    """Divide the target among the segments. Falls back to length where the strategy's evidence is missing.

    A target with fewer tokens than there are segments leaves the last spans empty.
    """
    tokens = tokenise(task.target)
    num_spans = min(len(task.segments), max(1, len(tokens)))
    if num_spans == 1:
        return Alignment(spans=_spans(task, tokens, [], []), method=config.strategy)
    terms, method = build_terms(task, tokens, num_spans, evidence, config)
    found = best_division(terms, windows(terms.expected_breaks, len(tokens), config.window_tokens))
    return Alignment(spans=_spans(task, tokens, found.breaks, found.confidences), method=method)


def _spans(
    task: AlignTask, tokens: Sequence[str], breaks: Sequence[int], confidences: Sequence[float]
) -> tuple[AlignedSpan, ...]:
    num_empty = len(task.segments) - len(breaks) - 1
    bounds = [0, *breaks, len(tokens), *[len(tokens)] * num_empty]
    sure: list[float | None] = [None, *confidences, *[None] * num_empty]
    return tuple(
        AlignedSpan(text="".join(tokens[first:end]).strip(), first_token=first, end_token=end, confidence=confidence)
        for (first, end), confidence in zip(itertools.pairwise(bounds), sure, strict=True)
    )
