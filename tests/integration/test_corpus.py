"""A sample of the corpus of odd media: each input is dubbed, or refused, as its table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.media.config import MediaConfig
from tests.corpus.cases import Case, all_cases
from tests.corpus.expected import expected_outcomes
from tests.corpus.run import matches, run
from tests.corpus.write import Talk, UnmakeableError

CASES = {(case.group, case.name): case for case in all_cases()}
SAMPLE = [
    ("containers", "phone.3gp"),
    ("containers", "film.wmv"),
    ("containers", "film.nut"),
    ("sound codecs", "voice.amr"),
    ("sound codecs", "sound.tta"),
    ("sound codecs", "codec2.c2"),
    ("rates, formats, channels", "s64le.nut"),
    ("rates, formats, channels", "7.1_aac.mp4"),
    ("rates, formats, channels", "22.2_pcm_s16le.wav"),
    ("pictures", "rotated_raw.mkv"),
    ("pictures", "full_raw.mkv"),
    ("pictures", "raw_rgb.avi"),
    ("pictures", "10_bit.mkv"),
    ("pictures", "slides.mkv"),
    ("pictures", "pixels_unknown.mov"),
    ("times", "both_late.mkv"),
    ("half files", "half_film.avi"),
    ("half files", "half_film.wmv"),
    ("half files", "half_last.mp4"),
    ("joined files", "twice_film.mkv"),
    ("brought along", "chapters.mp4"),
    ("brought along", "klv.ts"),
    ("bombs", "hours_of_nothing.mkv"),
    ("not media", "playlist.m3u8"),
    ("names", "new\nline.mp4"),
    ("names", "bytes\udcff\udcfe.mp4"),
]


@pytest.fixture(scope="module")
def slice_of_talk(tmp_path_factory: pytest.TempPathFactory) -> Talk:
    return Talk.made_in(tmp_path_factory.mktemp("talk"))


@pytest.mark.parametrize("key", SAMPLE, ids=ascii)
def test_it_comes_out_as_expected(tmp_path: Path, slice_of_talk: Talk, key: tuple[str, str]) -> None:
    case = CASES[key]
    try:
        path = case.make(tmp_path / case.name, slice_of_talk)
    except UnmakeableError as error:
        pytest.skip(str(error))
    result = run(path, MediaConfig())
    assert matches(result.outcome, case.expected)


def test_every_input_has_one_outcome_and_no_other_is_named() -> None:
    cases: list[Case] = all_cases()
    keys = [(case.group, case.name) for case in cases]
    assert len(set(keys)) == len(keys)
    assert set(keys) == set(expected_outcomes())


def test_nothing_is_lost_by_expectation() -> None:
    assert not [key for key, outcome in expected_outcomes().items() if "; lost " in outcome]


def test_a_refusal_may_leave_out_words() -> None:
    assert matches("refused: FILE is hls, of 3 bytes; give the file", "refused: … hls … give the file")
    assert not matches("refused: FILE is hls", "refused: … hls … give the file")
    assert not matches("mp4: h264, aac; flagged damaged", "mp4: h264, aac")
