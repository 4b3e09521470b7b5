from __future__ import annotations

import itertools
import re

import pysubs2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.subtitles.config import SubtitleConfig
from cluster.subtitles.layout import WORD_JOINER, Cue, lay_out, render, wrap

CONFIG = SubtitleConfig()
LONG = (
    "The harbour was quiet before the ships arrived, and nobody on the pier would have guessed how much of the town "
    "depended on what they carried that morning, or how long it would take to unload them all."
)

times = st.floats(0, 1000, allow_nan=False).map(lambda value: round(value, 3))
cues = st.builds(
    lambda start_s, length_s, text: Cue(start_s=start_s, end_s=start_s + length_s, text=text),
    times,
    st.floats(0, 20).map(lambda value: round(value, 3)),
    st.text(st.sampled_from("ab cé字\n.-<>{}\\N&"), max_size=120),
)


@given(st.lists(cues, max_size=12))
def test_cues_never_overlap_and_no_text_is_lost(given_cues: list[Cue]) -> None:
    laid_out = lay_out(given_cues)
    for before, after in itertools.pairwise(laid_out):
        assert before.end_s <= after.start_s
    assert all(cue.start_s < cue.end_s for cue in laid_out)
    visible = [cue for cue in given_cues if cue.text.split()]
    if visible and all(cue.end_s - cue.start_s >= 0.001 for cue in visible):
        shown = sorted("".join("".join(cue.text.split()) for cue in laid_out))
        assert shown == sorted("".join("".join(cue.text.split()) for cue in visible))


@given(st.text(st.sampled_from("ab cé字\n.-"), min_size=1, max_size=400).filter(lambda text: text.strip() != ""))
def test_lines_fit_and_keep_every_character(text: str) -> None:
    screens = wrap(text, CONFIG)
    assert "".join("".join(line.split()) for screen in screens for line in screen) == "".join(text.split())
    assert all(1 <= len(screen) <= CONFIG.max_lines for screen in screens)
    columns = [sum(2 if char == "字" else 1 for char in line) for screen in screens for line in screen]
    # A full stop may hang over: East Asian lines do not begin with punctuation.
    assert max(columns) <= CONFIG.max_line_chars + len(re.findall(r"[.\-]", text))


def test_a_long_cue_is_split_in_time_by_length() -> None:
    laid_out = lay_out([Cue(start_s=10.0, end_s=22.0, text=LONG)])
    assert len(laid_out) == 3
    assert laid_out[0].start_s == 10.0
    assert laid_out[-1].end_s == 22.0
    rates = [(cue.end_s - cue.start_s) / len(cue.text) for cue in laid_out]
    assert max(rates) == pytest.approx(min(rates), rel=0.01)
    assert all(len(line) <= 42 for cue in laid_out for line in cue.text.split("\n"))


def test_two_lines_are_balanced() -> None:
    (cue,) = lay_out([Cue(start_s=0.0, end_s=3.0, text="We kept all of the windows closed, and nobody asked why.")])
    first, second = cue.text.split("\n")
    assert abs(len(first) - len(second)) <= 8


def test_an_overlap_ends_the_earlier_cue() -> None:
    laid_out = lay_out([Cue(start_s=2.0, end_s=4.0, text="two"), Cue(start_s=0.0, end_s=3.0, text="one")])
    assert [(cue.start_s, cue.end_s, cue.text) for cue in laid_out] == [(0.0, 2.0, "one"), (2.0, 4.0, "two")]


def test_cues_that_begin_together_are_both_shown() -> None:
    laid_out = lay_out([Cue(start_s=1.0, end_s=4.0, text="one"), Cue(start_s=1.0, end_s=3.0, text="two")])
    assert [cue.text for cue in laid_out] == ["two one"]


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_files_read_back_as_written(form: str) -> None:
    laid_out = lay_out(
        [Cue(start_s=0.5, end_s=2.25, text="Olá, mundo"), Cue(start_s=3661.0, end_s=3662.0, text="字幕")]
    )
    read = pysubs2.SSAFile.from_string(render(laid_out, "srt" if form == "srt" else "vtt"))
    assert [(event.start, event.end, event.plaintext) for event in read] == [
        (500, 2250, "Olá, mundo"),
        (3_661_000, 3_662_000, "字幕"),
    ]


@pytest.mark.parametrize("text", ["<i>x</i>", r"{\an8}top", "a --> b", r"C:\new\Hall", "{curly} & <3", "5 < 6 > 4"])
def test_markup_in_text_is_shown_not_obeyed(text: str) -> None:
    cues = lay_out([Cue(start_s=0.0, end_s=1.0, text=text)])
    subrip, vtt = render(cues, "srt"), render(cues, "vtt")
    shown = subrip.split("\n", 2)[2].strip().replace(WORD_JOINER, "")
    assert shown == text
    assert pysubs2.SSAFile.from_string(subrip)[0].text.replace(WORD_JOINER, "") == text
    assert "<i>" not in vtt
    assert vtt.count("-->") == 1
    assert "{\\an8}" not in subrip


def test_the_empty_file_is_valid() -> None:
    assert render((), "vtt").startswith("WEBVTT")
    assert render((), "srt").strip() == ""
