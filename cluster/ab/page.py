"""Renders ``ab.html``: a comparison on one page, with both arms' sound beside the source's.

The page is self-contained. As in ``report``, text from outside reaches it through autoescaping only.
"""

from __future__ import annotations

import base64
import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jinja2 import Template
from markupsafe import Markup

from actors.types import Span
from cluster.ab.clips import Clips
from cluster.ab.figures import (
    PLOT_HEIGHT,
    PLOT_WIDTH,
    cost_scatter,
    histogram,
    interval_bars,
)
from cluster.ab.result import Comparison
from cluster.ab.scores import PairedLine, score_of
from cluster.quality import Metric
from cluster.report.page import csp_hash, page_template, resource

MAX_UNITS_SHOWN = 500
"""Units that differ most are shown, up to this number: a page of thousands would not open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitView:
    """One unit on which the arms differ."""

    video: int
    video_name: str
    span: Span
    lines: tuple[LineView, ...]
    difference: float | None
    """Mean over its lines of the primary score, a minus b; None if no line has both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineView:
    """One line by both arms, with its primary scores."""

    pair: PairedLine
    score_a: float | None
    score_b: float | None

    @property
    def better(self) -> str | None:
        """The arm with the larger score; None if they are equal or one is missing."""
        if self.score_a is None or self.score_b is None or self.score_a == self.score_b:
            return None
        return "a" if self.score_a > self.score_b else "b"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """A unit on the page, with its sound unless there is no more room for it."""

    unit: UnitView
    clips: Clips | None


def differing_units(comparison: Comparison, pairs: Sequence[PairedLine]) -> list[UnitView]:
    """Units on which the arms differ, the largest difference of the primary score first."""
    by_unit: dict[tuple[int, int], list[PairedLine]] = {}
    for pair in pairs:
        if pair.differs:
            by_unit.setdefault((pair.video, pair.unit), []).append(pair)
    units = [_unit(comparison, lines) for lines in by_unit.values()]
    return sorted(units, key=lambda unit: -abs(unit.difference or 0.0))


def _unit(comparison: Comparison, pairs: Sequence[PairedLine]) -> UnitView:
    primary: Metric = comparison.primary
    lines = [
        LineView(pair=pair, score_a=score_of(pair.a, primary), score_b=score_of(pair.b, primary)) for pair in pairs
    ]
    differences = [
        line.score_a - line.score_b for line in lines if line.score_a is not None and line.score_b is not None
    ]
    sounding = [line for pair in pairs for line in (pair.a, pair.b)]
    return UnitView(
        video=pairs[0].video,
        video_name=comparison.videos[pairs[0].video],
        span=Span(
            start_s=min(line.slot_start_s for line in sounding),
            end_s=max(max(line.end_s, line.slot_end_s) for line in sounding),
        ),
        lines=tuple(lines),
        difference=statistics.fmean(differences) if differences else None,
    )


def render(
    comparison: Comparison, units: Sequence[UnitView], cut: Callable[[UnitView], Clips], max_embed_bytes: int
) -> str:
    """The page as HTML. The sound of the first units, by ``cut``, is embedded as long as ``max_embed_bytes`` allow."""
    shown: list[Shown] = []
    room_bytes = max_embed_bytes
    for unit in units[:MAX_UNITS_SHOWN]:
        clips = cut(unit) if room_bytes > 0 else None
        if clips is not None:
            room_bytes -= clips.num_bytes
            clips = clips if room_bytes >= 0 else None
        shown.append(Shown(unit=unit, clips=clips))
    script = Markup(resource("ab_report.js", "cluster.ab"))  # noqa: S704 -- our own files
    style = Markup(resource("report.css") + resource("ab_report.css", "cluster.ab"))  # noqa: S704
    return _template().render(
        comparison=comparison,
        primary=comparison.metrics[0],
        bars=interval_bars(comparison.metrics),
        bins=histogram(comparison),
        scatters=[cost_scatter(comparison, arm.name) for arm in comparison.arms],
        plot_width=PLOT_WIDTH,
        plot_height=PLOT_HEIGHT,
        shown=shown,
        num_left_out=len(units) - len(shown),
        num_silent=sum(each.clips is None for each in shown),
        max_embed_mb=max_embed_bytes / 1e6,
        script=script,
        script_hash=csp_hash(script),
        style=style,
        style_hash=csp_hash(style),
    )


@functools.cache
def _template() -> Template:
    return page_template("ab_report.html.j2", "cluster.ab", data_uri=_data_uri, difference=_difference, score=_score)


def _data_uri(data: bytes) -> str:
    return f"data:audio/mp4;base64,{base64.b64encode(data).decode('ascii')}"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _difference(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:+.3g}".replace("-", "−") if value else "0"
