"""RTTM files are read strictly, as tools write them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from actors.errors import ConfigError
from actors.types import SpeakerTurn
from cluster.speakers.rttm import read_rttm

TURNS = [
    SpeakerTurn(start_s=0.5, end_s=2.25, speaker="Ana"),
    SpeakerTurn(start_s=2.0, end_s=4.0, speaker="Rui"),
    SpeakerTurn(start_s=7.125, end_s=9.0, speaker="Ana"),
]


def render_rttm(turns: Iterable[SpeakerTurn], recording: str) -> str:
    """The turns as a file about ``recording``; names are written with underscores for their spaces."""
    name = "_".join(recording.split()) or "recording"
    return "".join(
        f"SPEAKER {name} 1 {turn.start_s:.3f} {turn.end_s - turn.start_s:.3f} <NA> <NA> "
        f"{'_'.join(turn.speaker.split())} <NA> <NA>\n"
        for turn in turns
    )


def written(folder: Path, text: str) -> Path:
    path = folder / "talk.rttm"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_rttm(written(tmp_path, render_rttm(TURNS, "a talk"))) == TURNS


def test_lines_come_in_order_of_time_and_comments_are_left_out(tmp_path: Path) -> None:
    text = (
        ";; made by hand\n\nSPKR-INFO talk 1 <NA> <NA> <NA> adult_female Ana <NA> <NA>\n"
        "SPEAKER talk 1 7.125 1.875 <NA> <NA> Ana <NA> <NA>\nSPEAKER talk 1 0.5 1.75 <NA> <NA> Ana\n"
    )
    assert read_rttm(written(tmp_path, text)) == [TURNS[0], TURNS[2]]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("SPEAKER talk 1 x 1.0 <NA> <NA> Ana <NA> <NA>", "line 2 .* in seconds"),
        ("SPEAKER talk 1 -1 1.0 <NA> <NA> Ana <NA> <NA>", "line 2 .* 0 or later"),
        ("SPEAKER talk 1 1 -1 <NA> <NA> Ana <NA> <NA>", "line 2 .* 0 or more"),
        ("SPEAKER talk 1 1 nan <NA> <NA> Ana <NA> <NA>", "line 2 .* 0 or more"),
        ("SPEAKER talk 1 1", "line 2 .* must read SPEAKER"),
        ("1 00:00:01,000 --> 00:00:02,000", "line 2 .* must read SPEAKER"),
        ("SPEAKER other 1 1 1 <NA> <NA> Ana <NA> <NA>", "about one recording"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    path = written(tmp_path, f"SPEAKER talk 1 0 1 <NA> <NA> Ana <NA> <NA>\n{line}\n")
    with pytest.raises(ConfigError, match=problem):
        read_rttm(path)


def test_a_turn_of_no_length_is_none(tmp_path: Path) -> None:
    lines = "SPEAKER talk 1 0 1 <NA> <NA> Ana <NA> <NA>\nSPEAKER talk 1 1 0.000 <NA> <NA> Rui <NA> <NA>\n"
    assert [turn.speaker for turn in read_rttm(written(tmp_path, lines))] == ["Ana"]


def test_a_file_without_turns_or_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SPEAKER lines"):
        read_rttm(written(tmp_path, ";; nothing\n"))
    with pytest.raises(ConfigError, match="readable"):
        read_rttm(tmp_path / "none.rttm")
