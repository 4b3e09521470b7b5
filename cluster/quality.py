"""Measures of dubbed lines and dubbed videos, and the verdict on each: good, fair or failed.

Pure: texts and times in, numbers and verdicts out. Transcribing, embedding and translating back are up to the
caller; a measure that could not be taken has no value, and says why.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import statistics
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from actors.types import Span  # which imports numpy

UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my", "bo"})
"""Written without spaces between words: compared character by character."""
_MARKS = re.compile(r"[^\w\s]|_")


class Metric(StrEnum):
    WER = "wer"
    """Words of the line that a transcriber hears wrongly, of all its words; may exceed 1."""
    CER = "cer"
    """The same of its letters, without spaces."""
    COSINE = "cosine"
    """Cosine of the embeddings of source segment and line."""
    BACK_CHRF = "back_chrf"
    """chrF, 0 to 100, of the line translated back, against the source segment."""
    DURATION_RATIO = "duration_ratio"
    """Duration of the line over that of the speech it replaces."""
    STRETCH = "stretch"
    """Tempo factor applied to finished audio; 1 leaves it alone."""
    OVERLAP_S = "overlap_s"
    """Seconds in which an earlier line of the same speaker still sounds."""
    SYLLABLES_PER_S = "syllables_per_s"
    SILENCE_COVERAGE = "silence_coverage"
    """Share of the source's speech time in which no dubbed line sounds; for one line, of its own segment's time."""


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
        """The verdict on a value; None if the band has no bounds to judge it by."""
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
    """Lines that are transcribed again, embedded and translated back. Measures of times are taken of all lines."""
    sample_share: float = Field(default=0.1, gt=0, le=1)
    """Share of lines, chosen by a hash of id and text, if ``check`` is sampled."""
    retry: bool = False
    """Speak a line that fails again, in other takes, at other paces and by its other candidates, and keep the best;
    lines wait for their check then."""
    max_retries: int = Field(default=6, ge=1, le=12)
    """Maximum number of times that one line is spoken again."""
    thresholds: Mapping[Metric, Band] = {}
    """A metric without a band has values, but no verdicts."""
    short_words: int = Field(default=5, ge=0)
    """Lines of fewer words are judged by their letters (``cer``) alone: one word that is heard wrongly is much of them.
    Longer lines fail by their words (``wer``) only where their letters do not pass either."""
    short_wrong_letters: int = Field(default=4, ge=0)
    """Wrong letters from which a short line fails, if it has more: of a word that is said alone, the transcriber
    mishears some."""
    transcriber_error: Mapping[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """Share of the words of faultless speech that the transcriber hears wrongly, by language tag without region. It is
    not counted against a line."""
    max_wer: float | None = Field(default=None, ge=0)
    """Highest word error rate of a line, as it is heard. With it, neither ``thresholds`` of ``wer`` and ``cer`` nor
    ``transcriber_error`` count, and short lines are judged by words too."""
    max_flagged_share: float = Field(default=0.25, ge=0, le=1)
    """Share of lines to look at, of all lines of a video, above which the verdict on the video is failed."""
    strict: bool = False
    """End with status 3 if the verdict on a video is failed; its results are written all the same."""

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
    """The reason why there is no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualitySummary:
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
    """The time in which one line sounds, and the time of the speech it replaces."""

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
    """True for a share of lines, the same ones on every run.

    The text is hashed too, as ids count lines and are alike in all videos.
    """
    digest = hashlib.sha256(f"{id}\n{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


# --- texts


def words_of(text: str, language: str) -> list[str]:
    """The words to compare, without case and punctuation, in one Unicode form; characters in unspaced scripts."""
    from actors import languages  # and langcodes with it, which the configuration does not need

    plain = _MARKS.sub(" ", unicodedata.normalize("NFKC", text).lower())
    return list("".join(plain.split())) if languages.base(language) in UNSPACED else plain.split()


@dataclass(frozen=True, slots=True, kw_only=True)
class HearingErrors:
    """Errors of a line as it is heard, of its words and of its letters."""

    num_words: int
    num_letters: int
    wer: float
    cer: float

    @property
    def num_wrong_letters(self) -> int:
        return round(self.cer * self.num_letters)


def hearing_errors(said: str, heard: str, language: str) -> HearingErrors | None:
    """Compare both as they are read aloud, so that "R$ 45" and "quarenta e cinco reais" are the same words.

    Words that sound the same are the same, too: "can not" and "cannot", "à" and "a". None if there was no word to say.
    """
    import jiwer  # slow to import, and the configuration needs this module

    from actors.spoken import spoken_form

    reference, hypothesis = (words_of(spoken_form(text, language), language) for text in (said, heard))
    if not reference:
        return None
    return HearingErrors(
        num_words=len(reference),
        num_letters=len("".join(reference)),
        wer=float(jiwer.wer(" ".join(reference), " ".join(_spelled_as(reference, hypothesis, language)))),
        cer=float(jiwer.cer("".join(reference), "".join(hypothesis))),
    )


def _spelled_as(reference: Sequence[str], hypothesis: Sequence[str], language: str) -> list[str]:
    """The hypothesis in the reference's words where both sound the same: a transcriber's spelling is no error."""
    import jiwer  # as above

    [chunks] = jiwer.process_words(" ".join(reference), " ".join(hypothesis)).alignments
    words: list[str] = []
    for is_equal, run in itertools.groupby(chunks, lambda chunk: chunk.type == "equal"):
        pairs = [
            (reference[each.ref_start_idx : each.ref_end_idx], hypothesis[each.hyp_start_idx : each.hyp_end_idx])
            for each in run
        ]
        said, heard = ([word for pair in pairs for word in pair[side]] for side in (0, 1))
        if is_equal or _sound_alike(said, heard, language):
            words += said
            continue
        for own, other in pairs:
            if own and other:  # words that stand for each other may be alike by themselves
                both = zip(own, other, strict=True)
                words += [word if _sound_alike([word], [found], language) else found for word, found in both]
            else:
                words += other
    return words


def _sound_alike(words: Sequence[str], others: Sequence[str], language: str) -> bool:
    """True for words of the same letters or phonemes, without stress, length and breaks."""
    from actors.errors import ItemError
    from actors.phonemes import sounds

    if "".join(words) == "".join(others):
        return True
    if not words or not others:
        return False
    try:
        return sounds(" ".join(words), language) == sounds(" ".join(others), language)
    except ItemError:  # espeak does not know the language
        return False


def heard_measures(said: str, heard: str, language: str, config: QualityConfig) -> list[Measure]:
    """Judge a line by what was heard of it: a short one by its letters, a longer one by its words and letters."""
    from actors import languages  # as above

    errors = hearing_errors(said, heard, language)
    if errors is None:
        return [unmeasured(metric, "the line has no words") for metric in (Metric.WER, Metric.CER)]
    if config.max_wer is not None:
        by_bound = Verdict.FAIL if errors.wer > config.max_wer else Verdict.GOOD
        return [_with_verdict(Metric.WER, errors.wer, by_bound), _with_verdict(Metric.CER, errors.cer, None)]
    by_letters = config.band(Metric.CER).judge(errors.cer)
    if errors.num_words < config.short_words:
        if by_letters is Verdict.FAIL and errors.cer < 1 and errors.num_wrong_letters < config.short_wrong_letters:
            by_letters = Verdict.FAIR
        return [_with_verdict(Metric.WER, errors.wer, None), _with_verdict(Metric.CER, errors.cer, by_letters)]
    own_error = config.transcriber_error.get(languages.base(language), 0.0)
    by_words = config.band(Metric.WER).judge(max(0.0, errors.wer - own_error))
    if by_words is Verdict.FAIL and by_letters in (Verdict.GOOD, Verdict.FAIR):
        by_words = Verdict.FAIR  # other spellings and breaks of the same sounds
    return [_with_verdict(Metric.WER, errors.wer, by_words), _with_verdict(Metric.CER, errors.cer, None)]


def _with_verdict(metric: Metric, value: float, verdict: Verdict | None) -> Measure:
    return Measure(metric=metric, value=round(value, 4), verdict=verdict)


def chrf(hypothesis: str, reference: str) -> float:
    """Character n-gram F-score (Popović 2015), 0 to 100."""
    from sacrebleu.metrics.chrf import CHRF  # slow to import, too

    return float(CHRF().sentence_score(hypothesis, [reference]).score)


# --- times


def timing_measures(
    lines: Sequence[Sounding], stretches: Sequence[float | None], config: QualityConfig
) -> list[tuple[Measure, ...]]:
    """The measures of time of each line, given in order of start; none of a line that does not sound."""
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
    # The length of both together, less that of the sounds, is the length of speech alone.
    silent_s = _length_s([*speech, *sounds]) - _length_s(sounds)
    return 0.0 if total_s <= 0 else min(1.0, max(0.0, silent_s / total_s))


def _length_s(spans: Iterable[Span]) -> float:
    """Length of the union of the spans."""
    total_s, end_s = 0.0, -math.inf
    for span in sorted(spans, key=lambda span: span.start_s):
        total_s += max(0.0, span.end_s - max(span.start_s, end_s))
        end_s = max(end_s, span.end_s)
    return total_s


# --- a whole dub


def summaries(
    lines: Sequence[Sounding],
    measures: Sequence[Sequence[Measure]],
    config: QualityConfig,
    not_transcribed: Sequence[Span] = (),
) -> tuple[QualitySummary, ...]:
    """One summary for each metric that some line was measured by. Speech without words counts as left silent."""
    found = []
    for metric in Metric:
        taken = [each for line in measures for each in line if each.metric is metric and each.value is not None]
        if not taken:
            continue
        value = statistics.fmean(each.value for each in taken if each.value is not None)
        if metric is Metric.SILENCE_COVERAGE:
            slots = [*(line.slot for line in lines), *not_transcribed]
            value = silent_share(slots, [line.sounds for line in lines if line.sounds])
        found.append(
            QualitySummary(
                metric=metric,
                value=round(value, 4),
                verdict=config.band(metric).judge(value),
                num_measured=len(taken),
                num_good=sum(each.verdict is Verdict.GOOD for each in taken),
                num_fail=sum(each.verdict is Verdict.FAIL for each in taken),
            )
        )
    return tuple(found)
