"""Flags that follow from measures, and the verdict on a whole video."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config.load import load_config
from cluster.flags import AS_INTENDED, Flag, needs_look
from cluster.quality import Metric, QualityConfig, Verdict, heard_measures, measured, unmeasured
from cluster.steps.grade import graded
from cluster.verdicts import VideoOutcome, flags_of_measures, video_verdict
from tests.unit.manifests import sample_manifest

CONFIG = load_config("offline").quality


@pytest.mark.parametrize(
    ("metric", "value", "flags"),
    [
        (Metric.WER, 0.9, (Flag.HEARD_WRONG,)),
        (Metric.CER, 0.9, (Flag.HEARD_WRONG,)),
        (Metric.COSINE, 0.1, (Flag.DRIFTED,)),
        (Metric.COSINE, 0.9, ()),
        (Metric.OVERLAP_S, 0.5, (Flag.DRIFTED,)),
        (Metric.STRETCH, 1.6, (Flag.TOO_FAST,)),
        (Metric.SYLLABLES_PER_S, 12.0, (Flag.TOO_FAST,)),
        (Metric.SYLLABLES_PER_S, 1.0, ()),
        (Metric.DURATION_RATIO, 0.1, ()),
        (Metric.SILENCE_COVERAGE, 1.0, ()),
    ],
)
def test_a_failed_measure_is_a_flag(metric: Metric, value: float, flags: tuple[Flag, ...]) -> None:
    assert flags_of_measures([measured(metric, value, CONFIG)], CONFIG) == flags


def test_two_failed_measures_of_one_kind_are_one_flag_and_none_without_a_value() -> None:
    failed = [measured(Metric.WER, 1.0, CONFIG), measured(Metric.CER, 1.0, CONFIG), measured(Metric.STRETCH, 2, CONFIG)]
    assert flags_of_measures(failed, CONFIG) == (Flag.HEARD_WRONG, Flag.TOO_FAST)
    assert flags_of_measures([unmeasured(Metric.WER, "no transcription of tlh")], CONFIG) == ()


@pytest.mark.parametrize(("back_chrf", "flags"), [(100.0, ()), (60.0, (Flag.DRIFTED,))])
def test_a_line_that_translates_back_into_its_source_has_not_drifted(back_chrf: float, flags: tuple[Flag, ...]) -> None:
    measures = [measured(Metric.COSINE, 0.2, CONFIG), measured(Metric.BACK_CHRF, back_chrf, CONFIG)]
    assert flags_of_measures(measures, CONFIG) == flags
    over_another = measured(Metric.OVERLAP_S, 0.5, CONFIG)
    assert flags_of_measures([*measures, over_another], CONFIG) == (Flag.DRIFTED,)


def test_slow_speech_below_a_band_is_not_too_fast() -> None:
    config = load_config("offline", ["quality.thresholds.syllables_per_s.fail_below=3"]).quality
    measure = measured(Metric.SYLLABLES_PER_S, 2.0, config)
    assert measure.verdict is Verdict.FAIL
    assert flags_of_measures([measure], config) == ()


def flags_heard(said: str, heard: str, language: str = "pt", config: QualityConfig = CONFIG) -> tuple[Flag, ...]:
    return flags_of_measures(heard_measures(said, heard, language, config), config)


@pytest.mark.parametrize(
    ("said", "heard", "language"),
    [
        ("A maré subiu.", "A maré subio.", "pt"),
        ("Bom dia.", "Bondia.", "pt"),
        ("Obrigado.", "O brigada!", "pt"),
        ("Tchau.", "Ciao.", "pt"),
        ("O comboio parte às 14h30 da estação.", "O comboio parte às catorze e trinta da estação.", "pt"),
        ("Custou 45 euros no dia 3 de maio.", "Custou quarenta e cinco euros no dia três de maio.", "pt"),
        ("We sold twelve of them in 1984, and that was it.", "We sold 12 of them in 1984 and that was it.", "en"),
        ("Weit draußen liegt ein Fischer boot im Hafen.", "Weit draussen liegt ein Fischerboot im Hafen.", "de"),
    ],
)
def test_a_recognisers_slips_are_no_fault_of_the_line(said: str, heard: str, language: str) -> None:
    assert flags_heard(said, heard, language) == ()


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("A maré subiu.", "O gato fugiu."),
        ("Bom dia.", ""),
        ("Sim.", ""),
        ("Sim.", "Boa."),
        ("Obrigado.", "Banana."),
        ("O comboio parte às 14h30 da estação central.", "O cachorro pulou a cerca e correu para longe."),
        ("Nunca mais voltámos àquela casa perto do rio.", "Nunca mais voltámos."),
        ("Sim.", "Sim sim sim sim sim sim."),
    ],
)
def test_other_words_are_heard_wrong(said: str, heard: str) -> None:
    assert flags_heard(said, heard) == (Flag.HEARD_WRONG,)


def test_the_transcribers_own_error_is_not_counted_against_a_line() -> None:
    said, heard = "a b c d e f g h i j", "k l m n o f g h i j"
    strict = load_config("offline", ["quality.transcriber_error.pt=0", "quality.thresholds.cer.fail_above=0.2"]).quality
    lenient = load_config("offline", ["quality.transcriber_error.pt=0.4", "quality.thresholds.cer.fail_above=0.2"])
    assert flags_heard(said, heard, "pt-BR", strict) == (Flag.HEARD_WRONG,)
    assert flags_heard(said, heard, "pt-BR", lenient.quality) == ()
    assert flags_heard(said, heard, "en", lenient.quality) == (Flag.HEARD_WRONG,)


def test_max_wer_is_a_plain_bound_for_every_line() -> None:
    config = load_config("offline", ["quality.max_wer=0.0"]).quality
    assert flags_heard("A maré subiu.", "A maré subio.", "pt", config) == (Flag.HEARD_WRONG,)
    assert flags_heard("A maré subiu.", "a maré subiu", "pt", config) == ()


@given(st.lists(st.lists(st.sampled_from(Flag), max_size=3), max_size=12), st.floats(0, 1))
def test_a_verdict_counts_each_line_once(lines: list[list[Flag]], max_share: float) -> None:
    verdict = video_verdict(lines, max_share)
    assert verdict.num_lines == len(lines)
    assert verdict.num_flagged == sum(not set(flags) <= AS_INTENDED for flags in lines)
    assert sum(verdict.flags.values()) == sum(map(len, lines))
    assert (verdict.outcome is VideoOutcome.FAILED) == (verdict.num_flagged > max_share * len(lines))


def test_a_video_without_lines_passes() -> None:
    assert video_verdict([], 0.0).outcome is VideoOutcome.PASSED


def test_lines_left_on_purpose_need_no_look() -> None:
    assert not needs_look([Flag.NOISE, Flag.ALREADY_IN_TARGET])
    assert needs_look([Flag.NOISE, Flag.HEARD_WRONG])


def test_grading_adds_flags_to_those_a_line_has_and_never_twice() -> None:
    [dub] = sample_manifest(3).dubs
    line = dub.utterances[0].model_copy(update={"flags": (Flag.RETIMED, Flag.HEARD_WRONG)})
    checks = {line.id: [measured(Metric.WER, 1.0, CONFIG), measured(Metric.COSINE, 0.2, CONFIG)]}
    [found], _ = graded([line], "pt", CONFIG, checks)
    assert found.flags[:3] == (Flag.RETIMED, Flag.HEARD_WRONG, Flag.DRIFTED)
    assert len(set(found.flags)) == len(found.flags)
