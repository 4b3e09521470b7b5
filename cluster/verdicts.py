"""Verdicts that people see: the flags of a line whose measures failed, and the verdict on a whole video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from cluster.flags import Flag, needs_look
from cluster.quality import Measure, Metric, QualityConfig, Verdict

FLAG_OF_FAILED: Mapping[Metric, Flag] = {
    Metric.WER: Flag.HEARD_WRONG,
    Metric.CER: Flag.HEARD_WRONG,
    Metric.COSINE: Flag.DRIFTED,
    Metric.BACK_CHRF: Flag.DRIFTED,
    Metric.OVERLAP_S: Flag.DRIFTED,
    Metric.STRETCH: Flag.TOO_FAST,
    Metric.SYLLABLES_PER_S: Flag.TOO_FAST,
}
"""Measures whose failure is a fault of the line. A line that is shorter than its slot is none."""
RETURNED_CHRF = 90.0
"""chrF from which a line that is translated back reads as its source. An embedding that finds the two apart is then
wrong: it knows few set phrases, such as "Com licença." for "Excuse me."."""
FAILS_ABOVE = {Metric.STRETCH, Metric.SYLLABLES_PER_S}
"""Metrics that raise their flag only above their band: slow speech is not too fast."""


class VideoOutcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"


class VideoVerdict(BaseModel):
    """Lines to look at in a whole video, all target languages together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: VideoOutcome
    """Failed if ``flagged_share`` is above ``max_flagged_share``."""
    num_lines: int
    num_flagged: int
    """Lines that a person should look at."""
    flagged_share: float
    """``num_flagged`` of ``num_lines``; 0 without lines."""
    max_flagged_share: float
    """The setting ``quality.max_flagged_share``."""
    flags: dict[Flag, int]
    """Number of lines by flag, most frequent first; a line may have several, and some need no look."""


def flags_of_measures(measures: Iterable[Measure], config: QualityConfig) -> tuple[Flag, ...]:
    """The flags of a line by its failed measures, without doubles."""
    measures = list(measures)
    is_returned = any(measure.metric is Metric.BACK_CHRF and _is_above(measure, RETURNED_CHRF) for measure in measures)
    found = (
        FLAG_OF_FAILED[measure.metric]
        for measure in measures
        if measure.metric in FLAG_OF_FAILED
        and measure.verdict is Verdict.FAIL
        and _is_on_its_side(measure, config)
        and not (is_returned and measure.metric is Metric.COSINE)
    )
    return tuple(dict.fromkeys(found))


def _is_on_its_side(measure: Measure, config: QualityConfig) -> bool:
    if measure.metric not in FAILS_ABOVE:
        return True
    limit = config.band(measure.metric).fail_above
    return limit is not None and _is_above(measure, limit)


def _is_above(measure: Measure, limit: float) -> bool:
    return measure.value is not None and measure.value > limit


def video_verdict(lines: Sequence[Sequence[Flag]], max_flagged_share: float) -> VideoVerdict:
    """The verdict on a video, by the flags of each of its lines."""
    num_flagged = sum(map(needs_look, lines))
    share = num_flagged / len(lines) if lines else 0.0
    counts = Counter(flag for flags in lines for flag in flags)
    return VideoVerdict(
        outcome=VideoOutcome.FAILED if share > max_flagged_share else VideoOutcome.PASSED,
        num_lines=len(lines),
        num_flagged=num_flagged,
        flagged_share=round(share, 4),
        max_flagged_share=max_flagged_share,
        flags=dict(counts.most_common()),
    )
