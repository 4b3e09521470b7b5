"""What stands in subtitles and is not said."""

from __future__ import annotations

import pytest

from cluster.subtitles.cues import ShownCue, Turn
from cluster.subtitles.markup import ass_turns, subrip_turns, webvtt_turns
from cluster.subtitles.speech import CueSpeech, names_of, speech_of


def speech(*lines: str, names: frozenset[str] = frozenset()) -> CueSpeech:
    return speech_of(ShownCue(start_s=0.0, end_s=1.0, turns=(Turn(speaker=None, lines=lines),)), names)


def said(*lines: str, names: frozenset[str] = frozenset()) -> list[tuple[str | None, str]]:
    return [(words.speaker, words.text) for words in speech(*lines, names=names).words]


@pytest.mark.parametrize(
    "text",
    [
        "[MUSIC]",
        "(laughs)",
        "(door creaks open)",
        "\u266a",
        "\u266a la la la \u266a",
        "\u266b sung to the end",
        "# Old Man River #",
        "[thunder\nrolls]",
        "Hmmmmm.",
        "Ahhh!",
        "Shh!",
        "ha ha ha ha",
        "\uff08笑\uff09",
        "JOHN: [sighs]",
        "...",
        "- -",
    ],
)
def test_sounds_are_not_said(text: str) -> None:
    assert said(*text.split("\n")) == []


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("[laughs] Come in.", "Come in."),
        ("Come in. (laughs) Sit down.", "Come in. Sit down."),
        ("The WHO (World Health Organization) agrees.", "The WHO World Health Organization agrees."),
        ("In that year (1994) it rained.", "In that year 1994 it rained."),
        ("We're #1 and they're #2.", "We're #1 and they're #2."),
        ("5 < 6 and 7 > 3", "5 < 6 and 7 > 3"),
        ("-5 degrees", "-5 degrees"),
        ("Er.", "Er."),
        ("Remember: be there at 10:30.", "Remember: be there at 10:30."),
        ("It's (unclosed.", "It's unclosed."),
        (">> And now the news.", "And now the news."),
        ("\u2013 Who is it?", "Who is it?"),
        ("1990", "1990"),
    ],
)
def test_words_beside_them_are(text: str, spoken: str) -> None:
    assert said(text) == [(None, spoken)]


@pytest.mark.parametrize("label", ["JOHN:", "- JOHN:", ">> JOHN:", "[JOHN]:", "(JOHN):", "JOHN :"])
def test_a_label_is_the_speaker(label: str) -> None:
    assert said(f"{label} Come in.") == [("JOHN", "Come in.")]
    assert said(label, "Come in.") == [("JOHN", "Come in.")]


def test_two_labels_in_a_cue_are_two_speakers() -> None:
    assert said("- ANN: Who's there?", "- DR. LEE: Me,", "of course.") == [
        ("ANN", "Who's there?"),
        ("DR. LEE", "Me, of course."),
    ]
    assert said("- ANN: Who's there?", "- Me.") == [("ANN", "Who's there?"), (None, "Me.")]
    assert said("- Who's there?", "- Me.") == [(None, "Who's there? Me.")]


def test_a_name_in_small_letters_is_a_label_where_it_returns() -> None:
    lines = ["Maria: Bom dia.", "Note: this is once.", "Maria: Sim.", "Maria: Não."]
    cues = [ShownCue(start_s=0.0, end_s=1.0, turns=(Turn(speaker=None, lines=(line,)),)) for line in lines]
    names = names_of(cues)
    assert names == {"Maria"}
    assert said("Maria: Bom dia.", names=names) == [("Maria", "Bom dia.")]
    assert said("Note: this is once.", names=names) == [(None, "Note: this is once.")]


def test_what_is_not_said_is_named() -> None:
    found = speech("JOHN: [sighs] Well. \u266a la la \u266a")
    assert (found.labels, found.sounds, found.songs) == (("JOHN",), ("[sighs]",), ("\u266a la la \u266a",))


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        (
            subrip_turns('<font color="#fff">Hi</font> <b>there</b>{\\an8}<br>you &amp; me'),
            [(None, "Hi there", "you & me")],
        ),
        (subrip_turns("I <3 you"), [(None, "I <3 you")]),
        (webvtt_turns("<v.loud Bob B.>Tom &amp; <i>J</i></v><v Ann>Hi"), [("Bob B.", "Tom & J"), ("Ann", "Hi")]),
        (webvtt_turns("Hi <00:00:01.000><c.x>you</c> <unclosed"), [(None, "Hi you")]),
        (ass_turns(r"{\i1}Good{\i0}\Nmorning\hall", "Ann"), [("Ann", "Good", "morning all")]),
    ],
)
def test_markup_is_removed(turns: tuple[Turn, ...], expected: list[tuple[str | None, ...]]) -> None:
    assert [(turn.speaker, *turn.lines) for turn in turns] == expected
