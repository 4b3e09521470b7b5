"""ASS and SSA: dialogue is said; signs, drawings, comments and karaoke are not."""

from __future__ import annotations

from cluster.subtitles.cues import CueIssue, IssueKind, ShownCue
from cluster.subtitles.substation import substation_cues

HEAD = """[Script Info]
ScriptType: v4.00+

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def read(*events: str) -> tuple[list[str], list[CueIssue]]:
    found = list(substation_cues(HEAD + "\n".join(events)))
    texts = [f"{cue.turns[0].speaker}: {' '.join(cue.turns[0].lines)}" for cue in found if isinstance(cue, ShownCue)]
    return texts, [each for each in found if isinstance(each, CueIssue)]


def event(
    text: str, style: str = "Main", name: str = "", effect: str = "", times: str = "0:00:01.00,0:00:02.00"
) -> str:
    return f"Dialogue: 0,{times},{style},{name},0,0,0,{effect},{text}"


def test_only_dialogue_is_said() -> None:
    texts, issues = read(
        event("Welcome, all of you.", name="Eva"),
        event(r"{\pos(3,4)}BAKERY"),
        event("EXIT", style="Sign_door"),
        event(r"{\p1}m 0 0 l 9 9{\p0}"),
        event(r"{\k10}so{\k20}ra", style="Main"),
        event("lyrics here", style="ED - English"),
        event("a line", effect="fx"),
        event("news of the day", effect="Banner;10"),
        "Comment: 0,0:00:01.00,0:00:02.00,Main,,0,0,0,,a note",
        event("And goodbye."),
    )
    assert texts == ["Eva: Welcome, all of you.", "None: And goodbye."]
    assert [issue.kind for issue in issues] == [
        IssueKind.SIGN,
        IssueKind.SIGN,
        IssueKind.SONG,
        IssueKind.SONG,
        IssueKind.SONG,
        IssueKind.SIGN,
    ]


def test_where_every_line_is_placed_the_place_says_nothing() -> None:
    texts, issues = read(*(event(rf"{{\pos(1,{number})}}Line {number}.") for number in range(4)))
    assert len(texts) == 4
    assert not issues


def test_fields_are_taken_by_the_format_line_and_broken_events_are_named() -> None:
    head = "[Events]\nFormat: Start, End, Name, Text\n"
    found = list(substation_cues(head + "Dialogue: 0:00:01.00,0:00:02.00,Ann,Yes, no.\nDialogue: soon,later,,Lost.\n"))
    assert isinstance(found[0], ShownCue)
    assert (found[0].start_s, found[0].turns[0].speaker, found[0].turns[0].lines) == (1.0, "Ann", ("Yes, no.",))
    assert isinstance(found[1], CueIssue)
    assert found[1].kind is IssueKind.NO_TIME
