"""What a comparison's page draws, in each plot's own units: intervals, differences, quality against cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.ab_result import Comparison, EstimateRecord, LineRecord, MetricRecord, Side

# The plots' areas: width and height inside the margins that the template adds.
PLOT_WIDTH, PLOT_HEIGHT = 300.0, 150.0
MAX_HALF_BINS = 8
TICKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalBar:
    """One metric's interval on a scale of its own, 0 in the middle; to the right a is better. In percent."""

    metric: MetricRecord
    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    from_value: float
    to_value: float
    num_lines: int
    side: Side | None
    """Whom a difference in this bin favours; None for the bin around 0."""
    x: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    label: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    x: float
    y: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def interval_bars(metrics: Sequence[MetricRecord]) -> list[IntervalBar]:
    """Of those that have an interval."""
    return [bar for metric in metrics if (bar := _interval_bar(metric, metric.all)) is not None]


def _interval_bar(metric: MetricRecord, found: EstimateRecord) -> IntervalBar | None:
    if found.low is None or found.high is None:
        return None
    reach = 1.1 * max(abs(found.low), abs(found.high), 1e-12)
    sign = 1 if metric.more_is_better else -1
    low, value, high = (50 + 50 * sign * bound / reach for bound in (found.low, found.value, found.high))
    return IntervalBar(metric=metric, low=min(low, high), value=value, high=max(low, high))


def histogram(comparison: Comparison) -> tuple[Bin, ...]:
    """Of the primary metric's differences over the lines that differ, in bins that are even about 0."""
    primary = comparison.primary
    more_is_better = comparison.metrics[0].more_is_better
    values = [
        line.a[primary] - line.b[primary]
        for line in comparison.lines
        if line.differs and primary in line.a and primary in line.b
    ]
    if not any(values):
        return ()
    width = _round_up(max(map(abs, values)) / (MAX_HALF_BINS - 0.5))
    bins = [round(value / width) for value in values]
    reach = max(map(abs, bins))
    counts = [bins.count(at) for at in range(-reach, reach + 1)]
    bar = PLOT_WIDTH / len(counts)
    return tuple(
        Bin(
            from_value=(at - 0.5) * width,
            to_value=(at + 0.5) * width,
            num_lines=count,
            side=None if at == 0 else "a" if (at > 0) == more_is_better else "b",
            x=(at + reach) * bar,
            width=bar,
            height=PLOT_HEIGHT * count / max(counts),
        )
        for at, count in zip(range(-reach, reach + 1), counts, strict=True)
    )


def cost_scatter(comparison: Comparison, side: Side) -> Scatter | None:
    """Each line of an arm: seconds of speech to the right, the primary score up; both arms on the same axes."""
    both = [point for arm in ("a", "b") for point in _points(comparison.lines, arm, comparison)]
    if not both:
        return None
    own = _points(comparison.lines, side, comparison)
    x_ticks, x_reach = _ticks(0.0, max(x for x, _, _ in both), PLOT_WIDTH)
    lowest = min(0.0, *(y for _, y, _ in both))
    y_ticks, y_reach = _ticks(lowest, max(y for _, y, _ in both), PLOT_HEIGHT)
    dots = tuple(
        Dot(x=PLOT_WIDTH * x / x_reach, y=PLOT_HEIGHT * (1 - (y - lowest) / (y_reach - lowest)), title=title)
        for x, y, title in own
    )
    y_ticks = tuple(Tick(label=tick.label, at=PLOT_HEIGHT - tick.at) for tick in y_ticks)
    return Scatter(dots=dots, x_ticks=x_ticks, y_ticks=y_ticks)


def _points(lines: Sequence[LineRecord], side: str, comparison: Comparison) -> list[tuple[float, float, str]]:
    points = []
    for line in lines:
        scores, cost_s = (line.a, line.cost_a_s) if side == "a" else (line.b, line.cost_b_s)
        if comparison.primary in scores:
            score = scores[comparison.primary]
            points.append((cost_s, score, f"{line.video} {line.utterance_id}: {cost_s:.1f} s, {score:.3g}"))
    return points


def _ticks(lowest: float, highest: float, length: float) -> tuple[tuple[Tick, ...], float]:
    """Round numbers from ``lowest``, and where the axis ends."""
    step = _round_up(max(highest - lowest, 1e-9) / TICKS)
    num = max(1, math.ceil((highest - lowest) / step - 1e-9))
    ticks = tuple(Tick(label=f"{lowest + at * step:.4g}", at=length * at / num) for at in range(num + 1))
    return ticks, lowest + num * step


def _round_up(value: float) -> float:
    """To 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if value <= step * power * (1 + 1e-9))
