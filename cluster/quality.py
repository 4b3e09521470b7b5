"""What a dubbed line and a dubbed video are measured by, and what counts as good or as failed.

Pure: texts and times in, numbers and verdicts out. Who transcribes, embeds and translates back is the
caller's business; a measure that could not be taken has no value, and says why.
"""

from __future__ import annotations

import hashlib
import math
import re
import statistics
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import jiwer
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sacrebleu.metrics.chrf import CHRF

from actors import languages
from actors.types import Span

UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my", "bo"})
"""Written without spaces between words: compared character by character."""
_MARKS = re.compile(r"[^\w\s]|_")


class Metric(StrEnum):
    WER = "wer"
    """Words of the line that a transcriber hears wrongly, of all its words; may exceed 1."""
    COSINE = "cosine"
    """Of the embeddings of source segment and line."""
    BACK_CHRF = "back_chrf"
    """chrF, 0 to 100, of the line translated back, against the source segment."""
    DURATION_RATIO = "duration_ratio"
    """How long the line sounds, of the time of the speech it replaces."""
    STRETCH = "stretch"
    """Tempo factor applied to finished audio; 1 leaves it alone."""
    OVERLAP_S = "overlap_s"
    """Seconds in which an earlier line of the same speaker still sounds."""
    SYLLABLES_PER_S = "syllables_per_s"
    SILENCE_COVERAGE = "silence_coverage"
    """Share of the source's speech time in which no dubbed line sounds. Of a line: of its own segment's time."""


class Verdict(StrEnum):
    GOOD = "good"
    FAIR = "fair"
    FAIL = "fail"


class Band(BaseModel):
    """Good inside [good_from, good_to], failed below ``fail_below`` or above ``fail_above``, fair between."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    good_from: float | None = None
    good_to: float | None = None
    fail_below: float | None = None
    fail_above: float | None = None

    @model_validator(mode="after")
    def _good_does_not_fail(self) -> Band:
        order = [self.fail_below, self.good_from, self.good_to, self.fail_above]
        known = [bound for bound in order if bound is not None]
        if known != sorted(known):
            raise ValueError(f"fail_below ≤ good_from ≤ good_to ≤ fail_above must hold; found {order}")
        return self

    def judge(self, value: float) -> Verdict | None:
        """None if there is nothing to judge by."""
        if (self.fail_below is not None and value < self.fail_below) or (
            self.fail_above is not None and value > self.fail_above
        ):
            return Verdict.FAIL
        if self.good_from is None and self.good_to is None:
            return None
        is_low = self.good_from is not None and value < self.good_from
        is_high = self.good_to is not None and value > self.good_to
        return Verdict.FAIR if is_low or is_high else Verdict.GOOD


class QualityConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    check: Literal["all", "sampled", "none"] = "all"
    """Which lines are heard again, embedded and translated back. What times alone tell is told of all."""
    sample_share: float = Field(default=0.1, gt=0, le=1)
    """Of the lines, chosen by a hash of id and text, if ``check`` is sampled."""
    retry: bool = False
    """Speak a line that fails once more by its next candidate, and keep the better; lines wait for their check then."""
    thresholds: Mapping[Metric, Band] = {}
    """A metric without a band has values, but no verdicts."""

    def band(self, metric: Metric) -> Band:
        return self.thresholds.get(metric, Band())


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    metric: Metric
    value: float | None
    """None if it could not be taken."""
    verdict: Verdict | None
    """None without a value, or without a threshold."""
    why: str | None = None
    """There is no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One metric over the lines of one dub."""

    metric: Metric
    value: float | None
    """Mean of the lines that were measured; for silence coverage, of the whole speech time."""
    verdict: Verdict | None
    num_measured: int
    num_good: int
    num_fail: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sounding:
    """When one line sounds, and the speech it stands for."""

    speaker: str
    slot: Span
    sounds: Span | None
    """None if the original was kept."""


def measured(metric: Metric, value: float, config: QualityConfig) -> Measure:
    value = round(value, 4)
    return Measure(metric=metric, value=value, verdict=config.band(metric).judge(value))


def unmeasured(metric: Metric, why: str) -> Measure:
    return Measure(metric=metric, value=None, verdict=None, why=why)


def is_sampled(id: str, text: str, share: float) -> bool:
    """The same lines on every run. With the text, as ids count lines and are alike in all videos."""
    digest = hashlib.sha256(f"{id}\n{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


# --- texts


def words_of(text: str, language: str) -> list[str]:
    """What is compared: without case and punctuation, in one Unicode form; characters where words have no spaces."""
    plain = _MARKS.sub(" ", unicodedata.normalize("NFKC", text).lower())
    return list("".join(plain.split())) if languages.base(language) in UNSPACED else plain.split()


def word_error_rate(said: str, heard: str, language: str) -> float | None:
    """None if there was no word to say."""
    reference, hypothesis = words_of(said, language), words_of(heard, language)
    if not reference:
        return None
    return float(jiwer.wer(" ".join(reference), " ".join(hypothesis)))


def chrf(hypothesis: str, reference: str) -> float:
    """Character n-gram F-score (Popović 2015), 0 to 100."""
    return float(CHRF().sentence_score(hypothesis, [reference]).score)


# --- times


def timing_measures(
    lines: Sequence[Sounding], stretches: Sequence[float | None], config: QualityConfig
) -> list[tuple[Measure, ...]]:
    """What times alone tell of each line, in order of their start; nothing of one that does not sound."""
    measures: list[tuple[Measure, ...]] = []
    end_s: dict[str, float] = {}
    for line, stretch in zip(lines, stretches, strict=True):
        if line.sounds is None:
            measures.append(())
            continue
        before_s = end_s.get(line.speaker, -math.inf)
        measures.append(_timing_of(line.slot, line.sounds, before_s, stretch, config))
        end_s[line.speaker] = max(before_s, line.sounds.end_s)
    return measures


def _timing_of(
    slot: Span, sounds: Span, before_s: float, stretch: float | None, config: QualityConfig
) -> tuple[Measure, ...]:
    """``before_s`` is where the speaker's earlier lines end."""
    overlap_s = max(0.0, min(sounds.end_s, before_s) - sounds.start_s)
    measures = [measured(Metric.OVERLAP_S, overlap_s, config)]
    if slot.duration_s > 0:
        measures.append(measured(Metric.DURATION_RATIO, sounds.duration_s / slot.duration_s, config))
        measures.append(measured(Metric.SILENCE_COVERAGE, silent_share([slot], [sounds]), config))
    if stretch is not None:
        measures.append(measured(Metric.STRETCH, stretch, config))
    return tuple(measures)


def silent_share(speech: Iterable[Span], sounds: Iterable[Span]) -> float:
    """Share of the time of ``speech`` in which nothing of ``sounds`` is heard; 0 if there is no speech."""
    speech, sounds = list(speech), list(sounds)
    total_s = _length_s(speech)
    # What either holds, less what one of them holds, is what only the other does.
    silent_s = _length_s([*speech, *sounds]) - _length_s(sounds)
    return 0.0 if total_s <= 0 else min(1.0, max(0.0, silent_s / total_s))


def _length_s(spans: Iterable[Span]) -> float:
    """Of their union."""
    total_s, end_s = 0.0, -math.inf
    for span in sorted(spans, key=lambda span: span.start_s):
        total_s += max(0.0, span.end_s - max(span.start_s, end_s))
        end_s = max(end_s, span.end_s)
    return total_s


# --- a whole dub


def summaries(
    lines: Sequence[Sounding], measures: Sequence[Sequence[Measure]], config: QualityConfig
) -> tuple[Summary, ...]:
    """One for each metric that some line was measured by."""
    found = []
    for metric in Metric:
        taken = [each for line in measures for each in line if each.metric is metric and each.value is not None]
        if not taken:
            continue
        value = statistics.fmean(each.value for each in taken if each.value is not None)
        if metric is Metric.SILENCE_COVERAGE:
            value = silent_share([line.slot for line in lines], [line.sounds for line in lines if line.sounds])
        found.append(
            Summary(
                metric=metric,
                value=round(value, 4),
                verdict=config.band(metric).judge(value),
                num_measured=len(taken),
                num_good=sum(each.verdict is Verdict.GOOD for each in taken),
                num_fail=sum(each.verdict is Verdict.FAIL for each in taken),
            )
        )
    return tuple(found)
