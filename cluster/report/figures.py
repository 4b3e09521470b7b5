"""Figures of a report: outcomes of the fitting, speaking rates, and offsets from the slots."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from cluster.flags import Flag
from cluster.manifest import UtteranceRecord
from cluster.timing.fit import Rung

BIN_RATE = 0.05
MAX_BINS = 16
# The bars' area, in the histogram's own units.
PLOT_LEFT, PLOT_WIDTH, PLOT_BOTTOM, PLOT_HEIGHT = 8.0, 304.0, 92.0, 72.0


class FitOutcome(StrEnum):
    """The fitting's outcome for a line, best first: its rung, unless it was cut or never spoken."""

    NATURAL = "natural"
    OVERFLOW = "overflow"
    FASTER = "faster"
    STRETCHED = "stretched"
    CUT = "cut"
    KEPT = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    outcome: FitOutcome
    num_lines: int
    percent: float
    left_percent: float
    """Sum of the shares before it: the start of its piece of the bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One bar of a histogram; lengths in the plot's own units."""

    from_value: float
    to_value: float
    num_lines: int
    x: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RateMark:
    """A configured limit, drawn across the histogram."""

    label: str
    rate: float
    x: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    bins: tuple[Bin, ...]
    marks: tuple[RateMark, ...]
    bottom: float = PLOT_BOTTOM
    left: float = PLOT_LEFT
    right: float = PLOT_LEFT + PLOT_WIDTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Quantiles over the spoken lines, by nearest rank."""

    median: float
    p95: float
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    num_lines: int
    num_spoken: int
    num_flagged: int
    shares: tuple[Share, ...]
    """One for each outcome that occurs."""
    rates: Histogram | None
    """None if nothing was spoken."""
    start_offset_ms: Spread | None
    """Distance of a line's start from its slot's start, in either direction."""
    overflow_s: Spread | None
    """Time by which a line passes its slot's end; 0 if it ends inside."""


def outcome_of(utterance: UtteranceRecord) -> FitOutcome:
    """The outcome of a line. One that lost words is CUT, whatever rung its remainder reached."""
    if not utterance.text or utterance.rung is None or utterance.rung == Rung.NO_ROOM:
        return FitOutcome.KEPT
    if Flag.CUT in utterance.flags:
        return FitOutcome.CUT
    return FitOutcome(utterance.rung)


def figures_of(utterances: Sequence[UtteranceRecord], ordinary_rate: float | None, max_rate: float | None) -> Figures:
    """The figures of one dub. ``ordinary_rate`` and ``max_rate`` are marked in the histogram unless None."""
    spoken = [utterance for utterance in utterances if outcome_of(utterance) is not FitOutcome.KEPT]
    rates = [utterance.rate for utterance in spoken if utterance.rate is not None]
    limits = [(label, rate) for label, rate in (("ordinary", ordinary_rate), ("highest", max_rate)) if rate is not None]
    return Figures(
        num_lines=len(utterances),
        num_spoken=len(spoken),
        num_flagged=sum(utterance.needs_look for utterance in utterances),
        shares=_shares(utterances),
        rates=_histogram(rates, limits) if rates else None,
        start_offset_ms=_spread([abs(line.start_s - line.slot_start_s) * 1000 for line in spoken]),
        overflow_s=_spread([max(0.0, line.end_s - line.slot_end_s) for line in spoken]),
    )


def _shares(utterances: Sequence[UtteranceRecord]) -> tuple[Share, ...]:
    counts = Counter(outcome_of(utterance) for utterance in utterances)
    shares, num_before = [], 0
    for outcome in FitOutcome:
        if counts[outcome]:
            shares.append(
                Share(
                    outcome=outcome,
                    num_lines=counts[outcome],
                    percent=100 * counts[outcome] / len(utterances),
                    left_percent=100 * num_before / len(utterances),
                )
            )
            num_before += counts[outcome]
    return tuple(shares)


def _histogram(rates: Sequence[float], limits: Sequence[tuple[str, float]]) -> Histogram:
    """A histogram of at least one rate, over a range that includes 1.0 and the limits."""
    shown = [*rates, 1.0, *(rate for _, rate in limits)]
    width = BIN_RATE
    while _bin_of(max(shown), width) - _bin_of(min(shown), width) >= MAX_BINS:
        width *= 2
    first, last = _bin_of(min(shown), width), _bin_of(max(shown), width)
    counts = Counter(_bin_of(rate, width) for rate in rates)
    bin_width = PLOT_WIDTH / (last - first + 1)
    edges = [index * width for index in range(first, last + 2)]
    num_lines = [counts[index] for index in range(first, last + 1)]
    return Histogram(
        bins=bins_of(edges, num_lines, left=PLOT_LEFT, width=PLOT_WIDTH, height=PLOT_HEIGHT),
        marks=tuple(
            RateMark(label=label, rate=rate, x=PLOT_LEFT + (rate / width - first) * bin_width) for label, rate in limits
        ),
    )


def bins_of(
    edges: Sequence[float], counts: Sequence[int], *, left: float, width: float, height: float
) -> tuple[Bin, ...]:
    """Bars of equal width side by side from ``left``, the highest as high as the plot; one edge more than counts."""
    bin_width, most = width / len(counts), max(counts)
    return tuple(
        Bin(
            from_value=edges[index],
            to_value=edges[index + 1],
            num_lines=count,
            x=left + index * bin_width,
            width=bin_width,
            height=height * count / most,
        )
        for index, count in enumerate(counts)
    )


def _bin_of(rate: float, width: float) -> int:
    # 1.15 / 0.05 is a hair under 23, and belongs to the bin that starts there.
    return math.floor(rate / width + 1e-6)


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    ranked = sorted(values)

    def at(share: float) -> float:
        return ranked[math.ceil(share * len(ranked)) - 1]

    return Spread(median=at(0.5), p95=at(0.95), largest=ranked[-1])
