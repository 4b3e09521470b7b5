"""Grades a dub: the measures of each line and of the whole, for the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from actors import phonemes
from actors.errors import ItemError
from actors.types import Span
from cluster.manifest import MeasureRecord, SummaryRecord, UtteranceRecord
from cluster.quality import (
    Measure,
    Metric,
    QualityConfig,
    Sounding,
    measured,
    summaries,
    timing_measures,
    unmeasured,
)
from cluster.verdicts import flags_of_measures


def graded(
    utterances: Sequence[UtteranceRecord],
    target: str,
    config: QualityConfig,
    checks: Mapping[str, Sequence[Measure]] = {},
    not_transcribed: Sequence[Span] = (),
) -> tuple[tuple[UtteranceRecord, ...], tuple[SummaryRecord, ...]]:
    """Utterances with their measures and the flags that follow, and the summary of the dub into ``target``.

    ``checks`` has measures that were taken before, by utterance id. Speech that was not transcribed is left silent
    in the dub as a whole.
    """
    lines = [_sounding(utterance) for utterance in utterances]
    timings = timing_measures(lines, [utterance.stretch for utterance in utterances], config)
    measures = [
        # In one order, whatever check ended first.
        sorted((*checks.get(utterance.id, ()), *timing, *_pace(utterance, target, config)), key=_place)
        for utterance, timing in zip(utterances, timings, strict=True)
    ]
    return (
        tuple(
            utterance.model_copy(
                update={
                    "quality": tuple(MeasureRecord.of(measure) for measure in own),
                    "flags": tuple(dict.fromkeys((*utterance.flags, *flags_of_measures(own, config)))),
                }
            )
            for utterance, own in zip(utterances, measures, strict=True)
        ),
        tuple(SummaryRecord.of(summary) for summary in summaries(lines, measures, config, not_transcribed)),
    )


def _place(measure: Measure) -> int:
    return list(Metric).index(measure.metric)


def _sounding(utterance: UtteranceRecord) -> Sounding:
    return Sounding(
        speaker=utterance.speaker,
        slot=Span(start_s=utterance.slot_start_s, end_s=utterance.slot_end_s),
        sounds=Span(start_s=utterance.start_s, end_s=utterance.end_s) if utterance.text else None,
    )


def _pace(utterance: UtteranceRecord, target: str, config: QualityConfig) -> tuple[Measure, ...]:
    duration_s = utterance.end_s - utterance.start_s
    if not utterance.text or duration_s <= 0:
        return ()
    try:
        num_syllables = phonemes.num_syllables(utterance.text, target)
    except ItemError as error:
        return (unmeasured(Metric.SYLLABLES_PER_S, error.message),)
    if num_syllables == 0:
        return (unmeasured(Metric.SYLLABLES_PER_S, "no vowel was found in the text"),)
    return (measured(Metric.SYLLABLES_PER_S, num_syllables / duration_s, config),)
