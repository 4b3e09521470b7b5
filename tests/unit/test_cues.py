"""Subtitles that somebody brings: what is read out of them, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from actors.errors import MediaError
from cluster.cues import SpokenCue, read_cues
from cluster.subtitles import SubtitleConfig

SRT = """1
00:00:01,000 --> 00:00:02,500
Good <i>morning</i>,
everyone.

2
00:00:03,000 --> 00:00:04,000
The year was
1990

3
00:00:05,000 --> 00:00:06,000
[door slams]
"""

VTT = """WEBVTT - a talk

STYLE
::cue { color: red }

NOTE nobody says this
nor this

intro
00:01.000 --> 00:02.500 align:start
<v Ann>Good <b>morning</b>,
everyone.

NOTE nor this

00:03.000 --> 00:04.000
<v.loud Bob Brown>Tom &amp; Jerry in
1990
"""

ASS = r"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,20,&H00FFFFFF,&H000000FF,&H00000000,&H00000000,0,0,0,0,100,100,0,0,1,2,2,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:03.00,0:00:04.00,Default,Bob,0,0,0,,Second, with a comma
Comment: 0,0:00:03.20,0:00:04.00,Default,,0,0,0,,nobody says this
Dialogue: 0,0:00:01.00,0:00:02.50,Default,Ann,0,0,0,,{\i1}Good{\i0} morning,\Neveryone.
Dialogue: 0,0:00:00.00,0:00:09.00,Default,,0,0,0,,{\p1}m 0 0 l 100 0 100 100{\p0}
"""  # noqa: E501


def read(tmp_path: Path, content: str | bytes, name: str = "talk.srt", **limits: int) -> tuple[SpokenCue, ...]:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_cues(path, 60.0, SubtitleConfig(**limits))


def timed(*lines: str, speakers: bool = False) -> str:
    """SubRip of lines "1.0 2.0 text"."""
    blocks = []
    for number, line in enumerate(lines, 1):
        start_s, end_s, text = line.split(" ", 2)
        times = [f"00:00:{float(value):06.3f}".replace(".", ",") for value in (start_s, end_s)]
        blocks.append(f"{number}\n{times[0]} --> {times[1]}\n{text}\n")
    return "\n".join(blocks)


def test_subrip(tmp_path: Path) -> None:
    assert read(tmp_path, SRT) == (
        SpokenCue(start_s=1.0, end_s=2.5, text="Good morning, everyone.", speaker=None),
        SpokenCue(start_s=3.0, end_s=4.0, text="The year was 1990", speaker=None),
    )


def test_webvtt_keeps_voices_and_drops_what_is_no_cue(tmp_path: Path) -> None:
    assert read(tmp_path, VTT) == (
        SpokenCue(start_s=1.0, end_s=2.5, text="Good morning, everyone.", speaker="Ann"),
        SpokenCue(start_s=3.0, end_s=4.0, text="Tom & Jerry in 1990", speaker="Bob Brown"),
    )


def test_ass_keeps_names_in_order_of_time_without_comments_and_drawings(tmp_path: Path) -> None:
    assert read(tmp_path, ASS) == (
        SpokenCue(start_s=1.0, end_s=2.5, text="Good morning, everyone.", speaker="Ann"),
        SpokenCue(start_s=3.0, end_s=4.0, text="Second, with a comma", speaker="Bob"),
    )


def test_the_content_says_which_format_it_is(tmp_path: Path) -> None:
    assert read(tmp_path, VTT, "talk.srt") == read(tmp_path, VTT, "talk.vtt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    [cue] = read(tmp_path, timed("1 2 Olá, você não é são.").encode(encoding))
    assert cue.text == "Olá, você não é são."


def test_line_ends_of_other_systems(tmp_path: Path) -> None:
    assert read(tmp_path, SRT.replace("\n", "\r\n")) == read(tmp_path, SRT)


def test_a_dash_per_speaker_is_not_said(tmp_path: Path) -> None:
    [cue] = read(tmp_path, timed("1 2 - Who?\n- Me."))
    assert cue.text == "Who? Me."


def test_cues_that_touch_are_made_to_follow_each_other(tmp_path: Path) -> None:
    first, second = read(tmp_path, timed("1 2.05 One.", "2 3 Two."))
    assert (first.end_s, second.start_s) == (2.0, 2.0)


def test_a_cue_past_the_end_of_the_media_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "talk.srt"
    path.write_text(timed("1 9 One."))
    [cue] = read_cues(path, 4.0, SubtitleConfig())
    assert cue.end_s == 4.0


def test_two_speakers_may_talk_at_once(tmp_path: Path) -> None:
    text = "WEBVTT\n\n00:01.000 --> 00:03.000\n<v Ann>One.\n\n00:02.000 --> 00:04.000\n<v Bob>Two.\n"
    assert [cue.end_s for cue in read(tmp_path, text)] == [3.0, 4.0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "none of them or has no cue"),
        (b"hello", "none of them or has no cue"),
        (b"\x00\x01\xff\xfe" * 100, "none of them or has no cue"),
        (b"WEBVTT\n\n", "(WebVTT) has none"),
        (timed("1 2 [music]").encode(), "(SubRip) has none"),
        (timed("2 1 Backwards.").encode(), "0:00:02.000 --> 0:00:01.000"),
        (timed("1 3 One.", "2 4 Two.").encode(), "0:00:01.000 --> 0:00:03.000 and 0:00:02.000 --> 0:00:04.000"),
        (b"1\n00:01:30,000 --> 00:01:40,000\nLate.\n", "the media, which ends at 0:01:00.000"),
        (ASS.replace("0:00:03.00", "soon").encode(), "must be valid ASS"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(MediaError, match=re.escape(says)) as caught:
        read(tmp_path, content)
    assert "talk.srt" in caught.value.message


def test_limits(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="max_read_bytes"):
        read(tmp_path, SRT, max_read_bytes=len(SRT) - 1)
    with pytest.raises(MediaError, match="max_read_cues"):
        read(tmp_path, SRT, max_read_cues=1)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="No such file"):
        read_cues(tmp_path / "none.srt", 60.0, SubtitleConfig())
