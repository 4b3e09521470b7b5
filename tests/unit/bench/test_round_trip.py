"""The round trip's sentences, times and bounds."""

from __future__ import annotations

import dataclasses

import pytest

from bench.bench_round_trip import Row, bounds, halves, sentences, stamp

OFF = Row(
    direction="en to pt",
    arm="off",
    num_lines=200,
    median_wer=0.0,
    mean_wer=0.05,
    num_failing=9,
    naturalness=4.0,
    fit_share=0.95,
)


@pytest.mark.parametrize("language", ["en", "pt"])
def test_each_language_has_two_hundred_sentences(language: str) -> None:
    found = sentences(language)
    assert len(set(found)) == len(found) >= 200
    assert all(text == text.strip() and text[-1] in ".?!" for text in found)


def test_a_time_is_written_as_subtitles_have_it() -> None:
    assert [stamp(0.5), stamp(59.9996), stamp(3725.25)] == ["00:00:00,500", "00:01:00,000", "01:02:05,250"]


@pytest.mark.parametrize(("num_failing", "holds"), [(4, True), (5, False)])
def test_half_of_the_failing_lines_may_still_fail(num_failing: int, holds: bool) -> None:
    on = dataclasses.replace(OFF, arm="on", num_failing=num_failing)
    back = [dataclasses.replace(row, direction="pt to en", num_failing=0) for row in (OFF, on)]
    assert halves([OFF, on, *back]) is holds


def test_former_voices_must_not_be_better() -> None:
    on = dataclasses.replace(OFF, arm="on", num_failing=0)
    former = dataclasses.replace(OFF, arm="former voices", mean_wer=0.04, naturalness=4.1)
    found = bounds([OFF, on, former])
    assert [bound for bound, holds in found.items() if not holds] == ["mean WER", "naturalness"]
    assert all(bounds([OFF, on]).values())
