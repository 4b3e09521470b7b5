"""Pairs the lines of two dubs of the same speech, and scores them alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cluster.manifest import Manifest, UtteranceRecord
from cluster.quality import Metric

NATURAL_SYLLABLES_PER_S = (4.0, 6.5)
"""Natural range of the pace; within it, no pace is better than another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """The conversion of a metric into a score, and the direction in which it is better."""

    meaning: str
    more_is_better: bool
    if_silent: float | None
    """Score of a line that an arm left in the original: it conveys nothing. None leaves the pair out."""
    score: Callable[[float], float] = lambda value: value


def _off_pace(syllables_per_s: float) -> float:
    slowest, fastest = NATURAL_SYLLABLES_PER_S
    return max(0.0, slowest - syllables_per_s, syllables_per_s - fastest)


SCORINGS: Mapping[Metric, Scoring] = {
    Metric.BACK_CHRF: Scoring(
        meaning="chrF of the line translated back, against what its segment said", more_is_better=True, if_silent=0.0
    ),
    Metric.COSINE: Scoring(meaning="cosine of the line and what its segment said", more_is_better=True, if_silent=0.0),
    Metric.WER: Scoring(
        meaning="share of the line's words heard wrongly, of its sound", more_is_better=False, if_silent=1.0
    ),
    Metric.CER: Scoring(
        meaning="share of the line's letters heard wrongly, of its sound", more_is_better=False, if_silent=1.0
    ),
    Metric.DURATION_RATIO: Scoring(
        meaning="how far from 1 the line's length over its slot's is, |ln|",
        more_is_better=False,
        if_silent=None,
        score=lambda ratio: abs(math.log(max(ratio, 1e-3))),
    ),
    Metric.STRETCH: Scoring(meaning="tempo factor of finished sound", more_is_better=False, if_silent=None),
    Metric.OVERLAP_S: Scoring(
        meaning="seconds in which the same speaker's earlier line still sounds", more_is_better=False, if_silent=None
    ),
    Metric.SYLLABLES_PER_S: Scoring(
        meaning="syllables a second outside the natural pace", more_is_better=False, if_silent=None, score=_off_pace
    ),
    Metric.SILENCE_COVERAGE: Scoring(
        meaning="share of the segment's time in which no dub sounds", more_is_better=False, if_silent=1.0
    ),
}
PRIMARY = Metric.BACK_CHRF
"""No arm optimises it: alignment weighs embeddings (cosine), characters and planned lengths (duration ratio), and
candidates are ranked by cosine and length. Words that moved into the wrong segment cost it in both segments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedLine:
    """One line of a dub by both arms."""

    video: int
    unit: int
    """Its place among the video's units."""
    a: UtteranceRecord
    b: UtteranceRecord
    differs: bool
    """True if any line of its unit differs between the arms."""


def pair_lines(manifests: Sequence[Manifest]) -> list[PairedLine]:
    """Every line of every video; each manifest holds two dubs of one language. The lines are in media order."""
    pairs = []
    for video, manifest in enumerate(manifests):
        dub_a, dub_b = manifest.dubs
        unit_of = {unit.id: index for index, unit in enumerate(manifest.units)}
        lines = list(zip(dub_a.utterances, dub_b.utterances, strict=True))
        differing = {a.unit_id for a, b in lines if _outcome(a) != _outcome(b)}
        for a, b in lines:
            if a.segment_id != b.segment_id:
                raise ValueError(f"arms must dub the same segments; found {a.segment_id} and {b.segment_id}")
            pairs.append(PairedLine(video=video, unit=unit_of[a.unit_id], a=a, b=b, differs=a.unit_id in differing))
    return pairs


def _outcome(line: UtteranceRecord) -> tuple[object, ...]:
    """Everything about a line that can be heard. Its gain is left out: it follows from the voice's earlier lines."""
    return line.text, line.voice, line.start_s, line.end_s, line.rate, line.stretch, line.quality


def score_of(line: UtteranceRecord, metric: Metric) -> float | None:
    """The line's score; None if it was not measured."""
    scoring = SCORINGS[metric]
    if not line.text:
        return scoring.if_silent
    value = line.value_of(metric)
    return None if value is None else scoring.score(value)


def cost_s_of(line: UtteranceRecord) -> float:
    """Seconds of synthesised speech, to which the work of the most expensive stage is proportional."""
    return line.end_s - line.start_s if line.text else 0.0
