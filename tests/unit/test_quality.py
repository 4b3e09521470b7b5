"""Metrics: known values, bounds that always hold, verdicts as configured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.types import Span
from cluster.config.load import load_config
from cluster.quality import (
    Band,
    Metric,
    Sounding,
    Verdict,
    chrf,
    heard_measures,
    hearing_errors,
    is_sampled,
    silent_share,
    timing_measures,
)
from cluster.steps.grade import graded
from tests.unit.manifests import sample_manifest

CONFIG = load_config("offline").quality
times = st.floats(0, 100)
spans = st.builds(lambda start, length: Span(start_s=start, end_s=start + length), times, st.floats(0, 10))


def line(start_s: float, end_s: float, slot_end_s: float | None = None, speaker: str = "a") -> Sounding:
    slot = Span(start_s=start_s, end_s=end_s if slot_end_s is None else slot_end_s)
    return Sounding(speaker=speaker, slot=slot, sounds=Span(start_s=start_s, end_s=end_s))


@pytest.mark.parametrize(
    ("metric", "value", "verdict"),
    [
        (Metric.WER, 0.1, Verdict.GOOD),
        (Metric.WER, 0.11, Verdict.FAIR),
        (Metric.WER, 0.31, Verdict.FAIL),
        (Metric.CER, 0.25, Verdict.FAIR),
        (Metric.CER, 0.26, Verdict.FAIL),
        (Metric.COSINE, 0.79, Verdict.GOOD),
        (Metric.COSINE, 0.49, Verdict.FAIL),
        (Metric.DURATION_RATIO, 1.0, Verdict.GOOD),
        (Metric.DURATION_RATIO, 1.4, Verdict.FAIR),
        (Metric.DURATION_RATIO, 0.69, Verdict.FAIL),
        (Metric.OVERLAP_S, 0.05, Verdict.GOOD),
        (Metric.OVERLAP_S, 0.21, Verdict.FAIL),
        (Metric.SYLLABLES_PER_S, 3.9, Verdict.FAIR),
        (Metric.SYLLABLES_PER_S, 8.1, Verdict.FAIL),
        (Metric.SILENCE_COVERAGE, 0.1, Verdict.GOOD),
        (Metric.SILENCE_COVERAGE, 0.26, Verdict.FAIL),
        (Metric.BACK_CHRF, 12.0, None),
    ],
)
def test_default_thresholds(metric: Metric, value: float, verdict: Verdict | None) -> None:
    assert CONFIG.band(metric).judge(value) is verdict


def test_thresholds_merge_with_the_defaults() -> None:
    config = load_config("offline", ["quality.thresholds.wer.good_to=0.2"]).quality
    assert config.band(Metric.WER) == Band(good_to=0.2, fail_above=0.3)
    assert config.band(Metric.COSINE) == CONFIG.band(Metric.COSINE)


def test_a_band_that_fails_what_is_good_is_refused() -> None:
    with pytest.raises(ValueError, match="fail_below ≤ good_from"):
        Band(good_to=0.5, fail_above=0.4)


@pytest.mark.parametrize(
    ("said", "heard", "language", "rate"),
    [
        ("Olá, mundo!", "olá mundo", "pt", 0.0),
        ("o gato dorme agora", "o rato dorme", "pt", 0.5),
        ("sim", "sim sim sim", "pt", 2.0),
        ("Ação", "Ac\u0327a\u0303o", "pt", 0.0),
        ("今天天气好", "今天天汽好。", "zh", 0.2),
        ("dois", "", "pt", 1.0),
        ("It can not go", "It cannot go.", "en", 0.0),
        ("a new email", "a new e-mail", "en", 0.0),
        ("It can not go up", "It cannot go on", "en", 0.2),
        ("A que horas fecha à noite?", "Aqui horas fecha a noite.", "pt", 0.0),
        ("É a noite", "E a noite", "pt", 1 / 3),
        ("A cadeira junto à lareira", "Acadeira junto a lareira", "pt", 0.0),
        ("Ele trabalha à noite", "Eles trabalham a noite", "pt", 0.5),
        ("Their house", "There house", "en", 0.0),
        ("天気がいい", "天汽がいい", "ja", 0.2),
    ],
)
def test_word_error_rate(said: str, heard: str, language: str, rate: float) -> None:
    errors = hearing_errors(said, heard, language)
    assert errors is not None
    assert errors.wer == pytest.approx(rate)


def test_nothing_to_say_has_no_error_rate() -> None:
    assert hearing_errors("…", "hum", "pt") is None
    assert {(measure.value, measure.verdict) for measure in heard_measures("…", "hum", "pt", CONFIG)} == {(None, None)}


def test_chrf_tells_near_from_far() -> None:
    assert chrf("the tide is late", "the tide is late") == pytest.approx(100)
    assert chrf("the tide is late", "the tide was late") > chrf("bread and tea", "the tide was late")


def test_overlap_is_with_the_same_speaker_only() -> None:
    lines = [line(0, 2.0), line(1.0, 1.5, speaker="b"), line(1.9, 3.0), line(5.0, 6.0)]
    measures = timing_measures(lines, [1.0] * 4, CONFIG)
    overlaps = [{each.metric: each.value for each in own}[Metric.OVERLAP_S] for own in measures]
    assert overlaps == pytest.approx([0, 0, 0.1, 0])


def test_a_line_that_does_not_sound_has_no_timing() -> None:
    kept = Sounding(speaker="a", slot=Span(start_s=0, end_s=1), sounds=None)
    assert timing_measures([kept], [None], CONFIG) == [()]


def test_silence_is_speech_that_nothing_covers() -> None:
    speech = [Span(start_s=0, end_s=4), Span(start_s=6, end_s=8)]
    assert silent_share(speech, [Span(start_s=0, end_s=3), Span(start_s=2, end_s=7)]) == pytest.approx(1 / 6)
    assert silent_share([], [Span(start_s=0, end_s=3)]) == 0


@given(st.lists(spans, max_size=6), st.lists(spans, max_size=6), spans)
def test_more_sound_never_leaves_more_silence(speech: list[Span], sounds: list[Span], another: Span) -> None:
    before, after = silent_share(speech, sounds), silent_share(speech, [*sounds, another])
    assert 0 <= after <= before + 1e-9
    assert before <= 1
    assert silent_share(speech, speech) == pytest.approx(0, abs=1e-9)


@given(st.text(), st.text(), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_larger_sample_holds_the_smaller_one(id: str, text: str, a: float, b: float) -> None:
    smaller, larger = sorted((a, b))
    assert is_sampled(id, text, larger) or not is_sampled(id, text, smaller)
    assert is_sampled(id, text, 1.0)


def test_sampling_takes_about_its_share() -> None:
    assert 70 <= sum(is_sampled(f"pt:u{index:04d}", "text", 0.1) for index in range(1000)) <= 130


def test_a_dub_is_graded_line_by_line_and_as_a_whole() -> None:
    [dub] = sample_manifest(20).dubs
    utterances, summary = graded(dub.utterances, "pt", CONFIG)
    spoken = [utterance for utterance in utterances if utterance.text]
    assert {measure.metric for measure in spoken[0].quality} == {
        Metric.OVERLAP_S,
        Metric.DURATION_RATIO,
        Metric.SILENCE_COVERAGE,
        Metric.STRETCH,
        Metric.SYLLABLES_PER_S,
    }
    assert all(utterance.quality == () for utterance in utterances if not utterance.text)
    [ratio] = [each for each in summary if each.metric is Metric.DURATION_RATIO]
    assert ratio.num_measured == len(spoken)
    values = [utterance.value_of(Metric.DURATION_RATIO) for utterance in spoken]
    assert ratio.value == pytest.approx(sum(value or 0 for value in values) / len(values), abs=1e-3)
    assert ratio.num_fail == sum(value is not None and not 0.7 <= value <= 1.4 for value in values)


def test_a_language_nobody_can_read_aloud_says_why() -> None:
    [dub] = sample_manifest(3).dubs
    utterances, _ = graded(dub.utterances, "tlh", CONFIG)
    [pace] = [measure for measure in utterances[0].quality if measure.metric is Metric.SYLLABLES_PER_S]
    assert pace.value is None
    assert "tlh" in (pace.why or "")


@pytest.mark.parametrize(
    ("said", "heard", "language"),
    [
        ("Custa R$ 45,30 às 14h30.", "custa quarenta e cinco reais e trinta centavos às catorze e trinta", "pt"),
        ("São vinte por cento.", "São 20%.", "pt"),
        ("Call Dr. Smith in 1984.", "call Doctor Smith in nineteen eighty-four", "en"),
    ],
)
def test_a_number_heard_as_it_was_said_is_no_error(said: str, heard: str, language: str) -> None:
    errors = hearing_errors(said, heard, language)
    assert errors is not None
    assert (errors.wer, errors.cer) == (0.0, 0.0)
