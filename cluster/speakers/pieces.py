"""Divides speech into pieces, each short enough to be of one speaker."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from actors.types import MAX_PIECE_S, Span

HOP_S = 0.75
"""Greatest distance of two neighbouring pieces in one stretch of speech."""
MIN_PIECE_S = 0.1
"""Shorter stretches of speech are breaths and clicks."""


def pieces_of(speech: Iterable[Span]) -> Iterator[Span]:
    """Overlapping pieces that cover each stretch of speech evenly."""
    for span in speech:
        if span.duration_s < MIN_PIECE_S:
            continue
        spare_s = max(0.0, span.duration_s - MAX_PIECE_S)
        num_hops = math.ceil(spare_s / HOP_S)
        for index in range(num_hops + 1):
            start_s = span.start_s + (spare_s * index / num_hops if num_hops else 0.0)
            yield Span(start_s=start_s, end_s=min(start_s + MAX_PIECE_S, span.end_s))
