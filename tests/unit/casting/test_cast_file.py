"""A cast keeps the names and voices of speakers over the files of a series."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from actors.errors import ConfigError
from actors.types import Span, VoicePrints
from cluster.casting import cast_file
from cluster.casting.cast_file import CastFile, KnownSpeaker, encoded, merged, read_cast, remember
from cluster.speakers.config import SpeakersConfig
from cluster.speakers.prints import Print, matched
from cluster.speakers.tracker import SpeakerTracker

MODEL = "an engine"
ANA, RUI, EVA = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
LIKE_ANA = (0.9, 0.436, 0.0)


def test_the_most_alike_are_matched_first_and_nobody_twice() -> None:
    known = {"C1": ANA, "C2": RUI}
    assert matched({"S1": LIKE_ANA, "S2": ANA}, known, 0.4) == {"S2": "C1", "S1": "C2"}
    assert matched({"S1": LIKE_ANA, "S2": ANA}, known, 0.75) == {"S2": "C1"}
    assert matched({"S1": EVA}, known, 0.75) == {}
    assert matched({}, known, 0.75) == matched({"S1": ANA}, {}, 0.75) == {}


def test_a_cast_grows_and_keeps_its_voices(tmp_path: Path) -> None:
    path = tmp_path / "series" / "show.json"
    assert read_cast(path, MODEL).speakers == ()
    remember(path, MODEL, {"S1": ANA, "S2": RUI}, {"S1": ["pf_dora"], "S2": ["pm_alex"]}, 0.75)
    first = read_cast(path, MODEL)
    assert first.voices == {"C1": ("pf_dora",), "C2": ("pm_alex",)}
    # The second file: a new speaker speaks first, a known one was known while it was dubbed, another only at its end.
    heard: dict[str, Print] = {"S1": EVA, "C2": RUI, "S3": LIKE_ANA}
    remember(path, MODEL, heard, {"S1": ["pm_santa"], "C2": ["pm_alex", "em_alex"], "S3": ["jm_kumo"]}, 0.75)
    second = read_cast(path, MODEL)
    assert second.voices == {"C1": ("pf_dora", "jm_kumo"), "C2": ("pm_alex", "em_alex"), "C3": ("pm_santa",)}
    assert second.prints["C1"] == ANA
    assert [speaker.num_files for speaker in second.speakers] == [2, 2, 1]


def test_names_may_be_edited(tmp_path: Path) -> None:
    path = tmp_path / "show.json"
    remember(path, MODEL, {"S1": ANA}, {"S1": ["pf_dora"]}, 0.75)
    path.write_text(path.read_text("utf-8").replace("C1", "Ana"), encoding="utf-8")
    remember(path, MODEL, {"Ana": ANA, "S2": RUI}, {}, 0.75)
    assert [speaker.name for speaker in read_cast(path).speakers] == ["Ana", "C1"]


def test_a_file_that_is_no_cast_or_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "show.json"
    remember(path, MODEL, {"S1": ANA}, {}, 0.75)
    with pytest.raises(ConfigError, match="voice model another; found an engine; use another one"):
        read_cast(path, "another")
    for wrong in ("[]", "{", json.dumps({"model": MODEL, "speakers": [{"name": "Ana"}]})):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(ConfigError, match="must be a cast that --cast wrote"):
            read_cast(path)


def cast_of(*speakers: tuple[str, Print, tuple[str, ...], int]) -> CastFile:
    made = (KnownSpeaker(name=name, print=own, voices=voices, num_files=num) for name, own, voices, num in speakers)
    return CastFile(model=MODEL, speakers=tuple(made))


def test_two_dubs_at_a_time_neither_lose_nor_double_speakers() -> None:
    """Each took a copy of a cast with Ana. One hears Ana and Rui; the other Eva and, hardly different, Rui."""
    before = cast_of(("C1", ANA, ("pf_dora",), 1))
    rui = (0.0, 0.999, 0.0447)
    one = cast_of(("C1", ANA, ("pf_dora", "ef_dora"), 2), ("C2", RUI, ("pm_alex",), 1))
    other = cast_of(("C1", ANA, ("pf_dora",), 1), ("C2", EVA, ("jf_alpha",), 1), ("C3", rui, ("pm_santa",), 1))
    assert merged(before, before, one, 0.75) == one
    both = merged(one, before, other, 0.75)
    assert both == cast_of(
        ("C1", ANA, ("pf_dora", "ef_dora"), 2),
        ("C2", RUI, ("pm_alex", "pm_santa"), 2),
        ("C3", EVA, ("jf_alpha",), 1),
    )
    assert merged(both, before, before, 0.75) == both


def test_a_speaker_who_was_renamed_meanwhile_is_known_by_likeness() -> None:
    before = cast_of(("C1", ANA, ("pf_dora",), 1))
    after = cast_of(("C1", ANA, ("pf_dora", "ef_dora"), 2))
    renamed = cast_of(("Ana", ANA, ("pf_dora",), 1), ("C1", RUI, ("pm_alex",), 1))
    assert merged(renamed, before, after, 0.75) == cast_of(
        ("Ana", ANA, ("pf_dora", "ef_dora"), 2), ("C1", RUI, ("pm_alex",), 1)
    )


@pytest.mark.parametrize(
    ("speakers", "problem"),
    [
        ([("C1", [1e300])], "less than or equal to 1"),
        ([("C1", [])], "at least 1 item"),
        ([("C1", [1.0]), ("C1", [1.0])], "names of their own; found 1 for 2"),
        ([("C1", [1.0]), ("C2", [1.0, 0.0])], r"one length; found \[1, 2\]"),
    ],
)
def test_prints_that_cannot_be_compared_are_refused(
    speakers: list[tuple[str, list[float]]], problem: str, tmp_path: Path
) -> None:
    rows = [{"name": name, "print": own, "voices": [], "num_files": 1} for name, own in speakers]
    (tmp_path / "show.json").write_text(json.dumps({"model": MODEL, "speakers": rows}), encoding="utf-8")
    with pytest.raises(ConfigError, match=problem):
        read_cast(tmp_path / "show.json")


def test_prints_of_another_length_are_nobodys() -> None:
    assert matched({"S1": (1.0, 0.0)}, {"C1": ANA}, 0.1) == {}


def test_a_cast_is_never_written_larger_than_it_may_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "show.json"
    remember(path, MODEL, {"S1": ANA}, {}, 0.75)
    monkeypatch.setattr(cast_file, "MAX_BYTES", path.stat().st_size)
    assert len(encoded(read_cast(path))) == path.stat().st_size
    with pytest.raises(ConfigError, match="remove some speakers"):
        remember(path, MODEL, {"S1": RUI}, {}, 0.75)
    assert read_cast(path, MODEL).prints == {"C1": ANA}


def tracked(known: dict[str, Print] | None, *voices: Print) -> SpeakerTracker:
    """A tracker that has heard three seconds of each voice."""
    tracker = SpeakerTracker(SpeakersConfig(), known)
    for number, voice in enumerate(voices):
        pieces = [Span(start_s=5 * number + start, end_s=5 * number + start + 1.5) for start in (0.0, 1.5)]
        prints = VoicePrints(vectors=np.array([voice, voice], np.float32), pitches_hz=np.array([200.0, 200.0]))
        numbers = tracker.hear(pieces, prints)
        tracker.turns(numbers, is_all=False)
    return tracker


def test_known_speakers_have_their_names_and_others_those_of_the_file() -> None:
    assert tracked({"Rui": RUI}, ANA, RUI, EVA).pitches_hz().keys() == {"S1", "Rui", "S3"}
    assert tracked({}, ANA, RUI).prints() == {"S1": ANA, "S2": RUI}
    assert tracked({"Rui": RUI}, ANA, RUI).prints() == {"S1": ANA, "Rui": RUI}
    assert tracked(None, ANA, RUI).prints() == {}
