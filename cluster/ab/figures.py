"""Plots of a comparison's page, in each plot's own units: intervals, differences, quality against cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.ab.result import Comparison, EstimateRecord, LineRecord, MetricRecord, Side
from cluster.report.figures import Bin, bins_of

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
class Tick:
    """A labelled position on an axis."""

    label: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One line of one arm."""

    x: float
    y: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """A scatter plot: dots and the ticks of both axes."""

    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def interval_bars(metrics: Sequence[MetricRecord]) -> list[IntervalBar]:
    """One bar for each metric that has an interval."""
    return [bar for metric in metrics if (bar := _interval_bar(metric, metric.all)) is not None]


def _interval_bar(metric: MetricRecord, found: EstimateRecord) -> IntervalBar | None:
    if found.low is None or found.high is None:
        return None
    reach = 1.1 * max(abs(found.low), abs(found.high), 1e-12)
    sign = 1 if metric.more_is_better else -1
    low, value, high = (50 + 50 * sign * bound / reach for bound in (found.low, found.value, found.high))
    return IntervalBar(metric=metric, low=min(low, high), value=value, high=max(low, high))


def histogram(comparison: Comparison) -> tuple[tuple[Bin, Side | None], ...]:
    """Histogram of the primary metric's differences over the lines that differ, symmetric about 0.

    Each bin comes with the arm that it favours; None for the bin around 0.
    """
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
    places = range(-reach, reach + 1)
    edges = [(at - 0.5) * width for at in (*places, reach + 1)]
    drawn = bins_of(edges, [bins.count(at) for at in places], left=0.0, width=PLOT_WIDTH, height=PLOT_HEIGHT)
    sides: list[Side | None] = [None if at == 0 else "a" if (at > 0) == more_is_better else "b" for at in places]
    return tuple(zip(drawn, sides, strict=True))


def cost_scatter(comparison: Comparison, side: Side) -> Scatter | None:
    """One dot for each line of an arm: seconds of speech to the right, the primary score up; axes of both arms."""
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
    """Ticks at round distances from ``lowest``, and the value at the axis' end."""
    step = _round_up(max(highest - lowest, 1e-9) / TICKS)
    num = max(1, math.ceil((highest - lowest) / step - 1e-9))
    ticks = tuple(Tick(label=f"{lowest + at * step:.4g}", at=length * at / num) for at in range(num + 1))
    return ticks, lowest + num * step


def _round_up(value: float) -> float:
    """The next 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if value <= step * power * (1 + 1e-9))
