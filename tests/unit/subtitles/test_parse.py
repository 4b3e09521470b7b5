"""Subtitles that somebody brings: what is read out of them, and what is refused."""

from __future__ import annotations

import contextlib
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.errors import MediaError
from cluster.subtitles.config import SubtitleConfig
from cluster.subtitles.cues import IssueKind, SpokenCue, SubtitleFile
from cluster.subtitles.parse import read_subtitles

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


def read_file(
    tmp_path: Path,
    content: str | bytes,
    name: str = "talk.srt",
    *,
    media_end_s: float = 60.0,
    language: str | None = "en",
    **settings: Any,
) -> SubtitleFile:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_subtitles(path, media_end_s, SubtitleConfig(**settings), language)


def read(tmp_path: Path, content: str | bytes, name: str = "talk.srt", **settings: Any) -> tuple[SpokenCue, ...]:
    return read_file(tmp_path, content, name, **settings).cues


def kinds(file: SubtitleFile) -> list[IssueKind]:
    return [issue.kind for issue in file.issues]


def timed(*lines: str) -> str:
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


def test_line_ends_of_other_systems(tmp_path: Path) -> None:
    assert read(tmp_path, SRT.replace("\n", "\r\n")) == read(tmp_path, SRT)


def test_a_dash_per_speaker_is_not_said(tmp_path: Path) -> None:
    [cue] = read(tmp_path, timed("1 2 - Who?\n- Me."))
    assert cue.text == "Who? Me."


def test_cues_that_touch_are_made_to_follow_each_other(tmp_path: Path) -> None:
    first, second = read(tmp_path, timed("1 2.05 One.", "2 3 Two."))
    assert (first.end_s, second.start_s) == (2.0, 2.0)


def test_a_cue_over_the_end_of_the_media_ends_with_it(tmp_path: Path) -> None:
    [cue] = read(tmp_path, timed("1 9 One."), media_end_s=4.0)
    assert cue.end_s == 4.0


def test_cues_past_the_end_are_left_out_and_named(tmp_path: Path) -> None:
    credits = "2\n100:00:09,000 --> 100:00:12,000\nThe end.\n"
    file = read_file(tmp_path, f"{timed('1 2 One.')}\n{credits}")
    assert [cue.text for cue in file.cues] == ["One."]
    [issue] = [issue for issue in file.issues if issue.kind is IssueKind.PAST_END]
    assert issue.start_s == 360009.0
    assert "The end." in issue.text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "none of them or has no cue"),
        (b"hello", "none of them or has no cue"),
        (b"\x00\x01\xff\xfe" * 100, "none of them or has no cue"),
        (b"WEBVTT\n\n", "(WebVTT) has none"),
        (timed("1 2 [music]").encode(), "(SubRip) has none"),
        (b"1\n00:01:30,000 --> 00:01:40,000\nLate.\n", "the media, which ends at 0:01:00.000"),
    ],
)
def test_a_file_of_which_nothing_can_be_used_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(MediaError, match=re.escape(says)) as caught:
        read(tmp_path, content)
    assert "talk.srt" in caught.value.message


def test_limits(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="max_read_bytes"):
        read(tmp_path, SRT, max_read_bytes=len(SRT) - 1)
    with pytest.raises(MediaError, match="max_read_cues"):
        read(tmp_path, SRT, max_read_cues=1)
    with pytest.raises(MediaError, match="max_read_cues"):
        read(tmp_path, SRT + "00:00:09,000 -->\nUnplaced.\n" * 20, max_read_cues=10)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="No such file"):
        read_subtitles(tmp_path / "none.srt", 60.0, SubtitleConfig(), "en")


# --- times

ODD_TIMES = [
    ("00:00:02 --> 00:00:04,000", (2.0, 4.0)),
    ("00:00:02 --> 0:00:04.000", (2.0, 4.0)),
    ("0:00:02.5 --> 00:00:04.25", (2.5, 4.25)),
    ("00:2,000 --> 00:04,000", (2.0, 4.0)),
    ("00:00:02,0000 --> 00:00:04,000", (2.0, 4.0)),
    ("00: 00: 02, 000 -> 00:00:04,000", (2.0, 4.0)),
    ("-00:00:01,000 --> 00:00:04,000", (0.0, 4.0)),
    ("000:00:02,000 --> 00:00:04,000", (2.0, 4.0)),
    ("00:00:02,000 -- > 00:00:04,000", (2.0, 4.0)),
]


@pytest.mark.parametrize(
    ("form", "times", "expected"),
    [
        (form, times, expected)
        for form in ("srt", "vtt")
        for times, expected in ODD_TIMES
        if form == "srt" or "-->" in times  # to WebVTT a line without its arrow is text
    ],
)
def test_odd_times_are_read_as_players_do_and_named(
    tmp_path: Path, form: str, times: str, expected: tuple[float, float]
) -> None:
    head = "WEBVTT\n\n" if form == "vtt" else ""
    before, after = "00:00.500 --> 00:01.000" if form == "vtt" else "00:00:00,500 --> 00:00:01,000", "Odd."
    file = read_file(tmp_path, f"{head}{before}\nFirst.\n\n{times}\n{after}\n")
    odd = file.cues[-1] if expected[0] else next(cue for cue in file.cues if cue.text.startswith("Odd"))
    assert odd.text == "Odd."
    assert odd.is_retimed
    assert IssueKind.ODD_TIME in kinds(file)
    if expected[0]:
        assert (odd.start_s, odd.end_s) == expected


@pytest.mark.parametrize(
    "times",
    [
        "soon --> 00:00:04,000",
        "00:00:02,000 --> later",
        "00:00:02,000 -->",
        "--> 00:00:04,000",
        "00::02,000 --> 00:00:04,000",
        "00:00:02,000 00:00:04,000",
    ],
)
def test_a_line_that_looks_like_times_is_never_text(tmp_path: Path, times: str) -> None:
    file = read_file(tmp_path, f"{timed('0.5 1 First.')}\n2\n{times}\nUnplaced.\n\n{timed('8 9 Last.')}")
    said = " ".join(cue.text for cue in file.cues)
    if times.startswith("soon"):
        # Not even an attempt at a time stands before the arrow: to SubRip it is text.
        assert "soon" in said
        return
    assert said == "First. Last."
    [issue] = file.issues
    assert (issue.kind, issue.text) == (IssueKind.NO_TIME, times)


def test_an_arrow_in_a_subrip_text_is_text(tmp_path: Path) -> None:
    [cue] = read(tmp_path, timed("1 2 Paris --> Rome"))
    assert cue.text == "Paris --> Rome"


@pytest.mark.parametrize("between", ["\n\n", "\n \n", "\n"])
@pytest.mark.parametrize("numbered", [True, False])
def test_cues_without_numbers_or_blank_lines(tmp_path: Path, between: str, numbered: bool) -> None:
    blocks = [
        f"{f'{number}{chr(10)}' if numbered else ''}00:00:0{number},000 --> 00:00:0{number},900\nLine {word}."
        for number, word in ((1, "one"), (2, "two"), (3, "three"))
    ]
    assert [cue.text for cue in read(tmp_path, between.join(blocks))] == ["Line one.", "Line two.", "Line three."]


def test_a_first_line_of_one_blank_does_not_hide_the_text(tmp_path: Path) -> None:
    [cue] = read(tmp_path, "WEBVTT\n\n00:01.000 --> 00:02.000\n \nHere I am.\n")
    assert cue.text == "Here I am."


def test_an_ass_event_with_a_broken_time_costs_only_itself(tmp_path: Path) -> None:
    file = read_file(tmp_path, ASS.replace("0:00:03.00", "soon"))
    assert [cue.text for cue in file.cues] == ["Good morning, everyone."]
    assert kinds(file) == [IssueKind.NO_TIME]


# --- the kinds of the W3C's parser tests


def webvtt(*blocks: str) -> str:
    return "WEBVTT\n\n" + "\n\n".join(blocks) + "\n"


def test_nulls_in_webvtt(tmp_path: Path) -> None:
    file = read_file(
        tmp_path,
        webvtt("\0 name\n00:01.000 --> 00:02.000 align:\0end\nAfter\0 a null.", "\0\n00:03.000 --> 00:04.000\nMore."),
    )
    assert [cue.text for cue in file.cues] == ["After a null.", "More."]
    assert not file.issues


def test_minutes_and_seconds_from_60_on_are_read_and_named(tmp_path: Path) -> None:
    file = read_file(tmp_path, webvtt("00:00:75.000 --> 00:80.000\nOver a minute."), media_end_s=99.0)
    assert [(cue.start_s, cue.end_s, cue.text) for cue in file.cues] == [(75.0, 80.0, "Over a minute.")]
    assert kinds(file) == [IssueKind.ODD_TIME]


def test_hours_of_one_digit_are_valid_in_webvtt(tmp_path: Path) -> None:
    file = read_file(tmp_path, webvtt("0:00:01.000 --> 00:02.000\nEarly."))
    assert [(cue.start_s, cue.text) for cue in file.cues] == [(1.0, "Early.")]
    assert not file.issues


@pytest.mark.parametrize("blanks", ["", " ", "\t", "  \t", "\f"])
def test_blanks_around_webvtt_times(tmp_path: Path, blanks: str) -> None:
    times = f"{blanks}00:01.000{blanks}-->{blanks}00:02.000{blanks}"
    file = read_file(tmp_path, webvtt(f"{times}\nBlank."))
    assert [(cue.start_s, cue.end_s, cue.text) for cue in file.cues] == [(1.0, 2.0, "Blank.")]
    assert not file.issues


def test_webvtt_arrows_end_a_text_and_never_become_one(tmp_path: Path) -> None:
    first = "-->\n00:01.000 --> 00:02.000\nOne.\nword-->\n00:03.000 --> 00:04.000\nTwo."
    file = read_file(tmp_path, webvtt(f"{first}\n00:05.000 --> 00:06.000\nThree."))
    assert [cue.text for cue in file.cues] == ["One.", "Two.", "Three."]


@pytest.mark.parametrize("end", ["0:0x:04.000", "00:04x.000", "00:00:04.0x0", "0\0:04.000", "00:04\0000"])
def test_a_webvtt_cue_whose_end_is_broken_within_is_left_out_and_named(tmp_path: Path, end: str) -> None:
    file = read_file(tmp_path, webvtt("00:01.000 --> 00:02.000\nHere.", f"00:03.000 --> {end}\nUnplaced."))
    assert [cue.text for cue in file.cues] == ["Here."]
    assert kinds(file) == [IssueKind.NO_TIME]


@pytest.mark.parametrize("behind", ["align:end", ":align", "\0line:0", ", end"])
def test_what_stands_close_behind_a_valid_webvtt_time_costs_nothing_of_it(tmp_path: Path, behind: str) -> None:
    file = read_file(tmp_path, webvtt(f"00:01.000 --> 00:02.345{behind}\nClose."))
    assert [(cue.start_s, cue.end_s, cue.text) for cue in file.cues] == [(1.0, 2.345, "Close.")]
    assert not file.issues


def test_a_cue_without_a_readable_character_is_none(tmp_path: Path) -> None:
    file = read_file(
        tmp_path, webvtt("00:01.000 --> 00:02.000\n\0", "0:3 --> 0:4\n\0 \0", "00:05.000 --> 00:06.000\nOne.")
    )
    assert [cue.text for cue in file.cues] == ["One."]
    assert not file.issues


BELOW_THE_SIGNATURE = """

NOTE nobody says this

intro
00:01.000 --> 00:02.000
One.

NOTE nor this

part 2
00:03.000 --> 00:04.000
Two.
"""


@pytest.mark.parametrize(
    "signature",
    [
        "webvtt",
        "WebVTT - a talk",
        "WEBVTT\f",
        "WEBVTT\u00a0talk",
        "WEBVTT:",
        "\n \nWEBVTT",
        " WEBVTT",
        "\ufeff\ufeffWEBVTT",
    ],
)
def test_names_and_notes_are_not_said_where_the_signature_is_misspelled(tmp_path: Path, signature: str) -> None:
    file = read_file(tmp_path, signature + BELOW_THE_SIGNATURE)
    assert file.form == "WebVTT"
    assert [cue.text for cue in file.cues] == ["One.", "Two."]


@pytest.mark.parametrize("signature", ["", "WEBVT", "00:00.100 --> 00:00.900\nAt once."])
def test_the_name_tells_where_the_signature_is_missing(tmp_path: Path, signature: str) -> None:
    file = read_file(tmp_path, signature + BELOW_THE_SIGNATURE, "talk.VTT")
    assert file.form == "WebVTT"
    assert [cue.text for cue in file.cues if cue.text != "At once."] == ["One.", "Two."]
    assert any(cue.text == "At once." for cue in file.cues) == ("At once." in signature)


def test_subrip_under_the_name_of_webvtt_is_subrip(tmp_path: Path) -> None:
    file = read_file(tmp_path, SRT, "talk.vtt")
    assert file.form == "SubRip"
    assert file.cues == read(tmp_path, SRT)


def test_a_webvtt_time_in_the_signature_is_no_cue(tmp_path: Path) -> None:
    file = read_file(tmp_path, "WEBVTT 00:01.000 --> 00:02.000\nUnsaid.\n\n00:03.000 --> 00:04.000\nSaid.\n")
    assert [cue.text for cue in file.cues] == ["Said."]
    assert not file.issues


def test_a_webvtt_time_in_the_header_is_a_cue(tmp_path: Path) -> None:
    [cue] = read(tmp_path, "WEBVTT\n00:01.000 --> 00:02.000\nAt once.\n")
    assert cue.text == "At once."


# --- overlaps


def test_overlapping_cues_are_all_kept_one_after_the_other(tmp_path: Path) -> None:
    file = read_file(
        tmp_path, timed("1 5 We leave at ten tomorrow morning.", "4 7 At ten?", "9 12 Yes, at ten.", "9 11 No!")
    )
    assert [cue.text for cue in file.cues] == [
        "We leave at ten tomorrow morning.",
        "At ten?",
        "Yes, at ten.",
        "No!",
    ]
    assert all(cue.end_s <= after.start_s for cue, after in pairwise(file.cues))
    assert all(cue.end_s - cue.start_s > 0.3 for cue in file.cues)
    assert kinds(file) == [IssueKind.OVERLAP, IssueKind.OVERLAP]
    assert all(cue.is_retimed for cue in file.cues)


def test_a_long_cue_gives_way_to_those_that_begin_over_it(tmp_path: Path) -> None:
    file = read_file(tmp_path, timed("0 40 On the ferry.", "8 10 Is this seat free?", "12 14 Yes.", "38 45 Thanks."))
    assert [(cue.start_s, cue.end_s) for cue in file.cues] == [(0.0, 8.0), (8.0, 10.0), (12.0, 14.0), (38.0, 45.0)]
    assert [cue.is_retimed for cue in file.cues] == [True, False, False, False]


def test_a_cue_over_another_moves_no_further_than_that_takes_to_say(tmp_path: Path) -> None:
    file = read_file(tmp_path, timed("1 9 We leave at ten tomorrow morning.", "3 10 At ten?"))
    assert [(cue.start_s, cue.end_s) for cue in file.cues] == [(1.0, 4.3), (4.3, 10.0)]


def test_a_cue_without_length_gets_time(tmp_path: Path) -> None:
    file = read_file(tmp_path, timed("2 2 This has no length.", "5 4 Backwards.", "5.5 6 Last."))
    assert [(cue.start_s, cue.end_s > cue.start_s, cue.text) for cue in file.cues] == [
        (2.0, True, "This has no length."),
        (5.0, True, "Backwards."),
        (5.5, True, "Last."),
    ]
    assert kinds(file) == [IssueKind.NO_LENGTH, IssueKind.NO_LENGTH]


def test_doubled_layers_are_said_once(tmp_path: Path) -> None:
    file = read_file(tmp_path, timed("1 3 Twice on screen.", "1 3 Twice on screen.", "4 5 Again.", "5 6 Again."))
    assert [cue.text for cue in file.cues] == ["Twice on screen.", "Again.", "Again."]
    assert kinds(file) == [IssueKind.DOUBLED]


def test_many_cues_at_one_time_never_end_the_reading(tmp_path: Path) -> None:
    file = read_file(tmp_path, timed(*(f"1 2 Number {'x' * number}." for number in range(1, 60))))
    assert all(cue.end_s <= after.start_s for cue, after in pairwise(file.cues))
    assert set(kinds(file)) == {IssueKind.OVERLAP, IssueKind.CROWDED}


# --- rolling captions


def rolling(*phrases: str, seconds: int = 3) -> str:
    blocks = []
    for number, phrase in enumerate(phrases):
        begin, end = number * seconds, (number + 1) * seconds
        before = f"{phrases[number - 1]}\n" if number else " \n"
        words = "".join(f"<00:00:{begin:02d}.500><c> {word}</c>" for word in phrase.split())
        blocks.append(f"00:00:{begin:02d}.000 --> 00:00:{end:02d}.000\n{before}{words}")
        blocks.append(f"00:00:{end:02d}.000 --> 00:00:{end:02d}.010\n{phrase}\n ")
    return "WEBVTT\nKind: captions\n\n" + "\n\n".join(blocks)


def test_each_phrase_of_a_rolling_caption_is_said_once(tmp_path: Path) -> None:
    phrases = ("the boat leaves at six", "bring warm clothes", "and something to eat", "we return at noon")
    file = read_file(tmp_path, rolling(*phrases))
    assert tuple(cue.text for cue in file.cues) == phrases
    assert all(cue.end_s - cue.start_s > 2 for cue in file.cues)
    assert set(kinds(file)) == {IssueKind.ROLLING}


def test_words_that_are_repeated_on_purpose_stay(tmp_path: Path) -> None:
    lines = ["1 2 Go!", "2 3 Go!", "3 4 Go!", "4 5 They went."]
    assert [cue.text for cue in read(tmp_path, timed(*lines))] == ["Go!", "Go!", "Go!", "They went."]


# --- hostile files

HOSTILE = {
    "srt brackets": lambda n: timed("1 2 " + "[(" * (n // 2)),
    "srt tags": lambda n: timed("1 2 " + "<a" * (n // 2)),
    "srt braces": lambda n: timed("1 2 " + "{" * n),
    "srt digits": lambda n: timed("1 2 " + "1" * n) + "\n" + "1" * n + " --> " + "2" * n,
    "srt notes": lambda n: timed("1 2 " + "\u266a#" * (n // 2)),
    "srt arrows": lambda n: "00:00:01,000 --> 00:00:02,000\nHi.\n" + "0 -->\n" * (n // 6),
    "srt dashes": lambda n: timed("1 2 " + "-" * n),
    "srt names": lambda n: timed("1 2 " + "A A:A" * (n // 5)),
    "vtt tags": lambda n: webvtt("00:01.000 --> 00:02.000\nHi " + "<" * n),
    "vtt voices": lambda n: webvtt("00:01.000 --> 00:02.000\nHi " + "<v a" * (n // 4)),
    "vtt entities": lambda n: webvtt("00:01.000 --> 00:02.000\nHi &#" + "9" * n + ";"),
    "vtt blanks": lambda n: webvtt("00:01.000 --> 00:02.000\nHi" + " \t" * (n // 2)),
    "ass braces": lambda n: ASS + "Dialogue: 0,0:00:05.00,0:00:06.00,Default,,0,0,0,,Hi " + "{\\i1}" * (n // 5),
    "ass commas": lambda n: ASS + "Dialogue: " + "," * n,
    "ass sections": lambda n: ASS + "[" * n,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_reading_is_linear(tmp_path: Path, kind: str) -> None:
    def cpu_s(size: int) -> float:
        content = HOSTILE[kind](size)
        begin_s = time.process_time()
        with contextlib.suppress(MediaError):
            read(tmp_path, content, max_read_bytes=50_000_000)
        return time.process_time() - begin_s

    # A quadratic scan takes 64 times as long for eight times the size, a linear one eight times, and what caches miss.
    # A busy machine slows one of the two by a factor at times, and never all pairs.
    pairs = ((cpu_s(125_000), cpu_s(1_000_000)) for _ in range(8))
    assert any(large_s <= 24 * small_s + 0.05 for small_s, large_s in pairs)


@given(
    pieces=st.lists(
        st.one_of(
            st.sampled_from(
                [
                    "WEBVTT",
                    "[Events]",
                    "Dialogue: 0,",
                    "0:00:01.00,",
                    "00:00:01,000",
                    " --> ",
                    "00:02.000",
                    "\n\n",
                    "\n",
                    "1",
                ]
            ),
            st.text(max_size=20),
        ),
        max_size=40,
    ),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-16-le", "cp1251", "gb18030"]),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_the_bytes_only_valid_cues_come_out(tmp_path: Path, pieces: list[str], encoding: str) -> None:
    data = "".join(pieces).encode(encoding, errors="ignore")
    try:
        cues = read(tmp_path, data, language=None)
    except MediaError:
        return
    assert cues
    assert all(0 <= cue.start_s < cue.end_s <= 60.0 and cue.text.strip() for cue in cues)
    assert all(cue.end_s <= after.start_s for cue, after in pairwise(cues))
