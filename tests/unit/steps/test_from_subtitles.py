"""Subtitles in the place of transcription and of translation."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from actors.types import ASR_HZ, Segment, Unit
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.flags import Flag
from cluster.speakers.turns import turns_of_one
from cluster.steps.from_subtitles import SubtitleSource, cue_utterances, cue_windows
from cluster.steps.group import group_units
from cluster.steps.progress import Progress
from cluster.steps.records import HeardUnit, SpokenWindow, Utterance
from cluster.subtitles.cues import SpokenCue

END_S = 20.0


@pytest.fixture
def config() -> Config:
    return load_config("offline", ["ray.mode=inline"])


def cue(start_s: float, end_s: float, text: str, speaker: str | None = None) -> SpokenCue:
    return SpokenCue(start_s=start_s, end_s=end_s, text=text, speaker=speaker)


def ramp() -> list[np.ndarray]:
    """Samples that say where they are, in uneven blocks."""
    samples = np.arange(int(END_S * ASR_HZ), dtype=np.float32)
    return np.array_split(samples, 7)


async def units_of(cues: Sequence[SpokenCue], config: Config) -> list[Unit]:
    async def windows() -> AsyncIterator:
        for window in cue_windows([block * 1e-6 for block in ramp()], cues):
            yield SpokenWindow(window=window, turns=turns_of_one(window.speech))

    listener = SubtitleSource(cues=cues, language="en")
    return [
        heard.unit async for heard in group_units(listener.segments(windows(), Progress(job="test")), config, END_S)
    ]


def test_a_window_holds_exactly_its_cue() -> None:
    cues = [cue(0.5, 1.0, "a"), cue(6.0, 9.5, "b"), cue(8.0, 9.0, "c", "Bob"), cue(19.0, 20.0, "d")]
    windows = list(cue_windows(ramp(), cues))
    for window, line in zip(windows, cues, strict=True):
        assert window.samples[0] == line.start_s * ASR_HZ
        assert len(window.samples) == (line.end_s - line.start_s) * ASR_HZ
    assert [window.next_speech_s for window in windows] == [6.0, 8.0, 19.0, None]


async def test_cues_become_sentences_at_their_own_times(config: Config) -> None:
    cues = [
        cue(1.0, 2.0, "This sentence goes on"),
        cue(2.2, 3.0, "over two cues."),
        cue(3.1, 4.0, "Another one."),
        cue(4.1, 5.0, "And a third, said", "Bob"),
        cue(5.1, 6.0, "by two", "Ann"),
    ]
    units = await units_of(cues, config)
    assert [unit.text for unit in units] == [
        "This sentence goes on over two cues.",
        "Another one.",
        "And a third, said",
        "by two",
    ]
    segments = [segment for unit in units for segment in unit.segments]
    assert [(segment.start_s, segment.end_s) for segment in segments] == [(line.start_s, line.end_s) for line in cues]
    assert [segment.speaker for segment in segments] == ["S1"] * 3 + ["Bob", "Ann"]
    assert [unit.room_end_s for unit in units] == [3.1, 4.1, 5.1, END_S]


def heard_unit(index: int, start_s: float, end_s: float, room_end_s: float) -> HeardUnit:
    segment = Segment(
        id=f"s{index:04d}",
        start_s=start_s,
        end_s=end_s,
        text=f"text {index}",
        language="en",
        speaker="S1",
        words=(),
        mean_log_probability=0.0,
        no_speech_probability=0.0,
    )
    return HeardUnit(
        unit=Unit(id=f"u{index:04d}", segments=(segment,), room_end_s=room_end_s), source_lufs=-20.0 - index
    )


async def speak(cues: Sequence[SpokenCue], units: Sequence[HeardUnit]) -> list[Utterance]:
    async def heard() -> AsyncIterator[HeardUnit]:
        for unit in units:
            yield unit

    progress = Progress(job="test")
    return [line async for line in cue_utterances(heard(), cues, "pt", END_S, progress)]


async def test_every_target_cue_is_said_once_at_its_time_with_what_it_replaces() -> None:
    cues = [cue(0.2, 0.8, "zero"), cue(1.1, 2.0, "um"), cue(2.1, 5.5, "dois"), cue(15.0, 16.0, "fim", "Bob")]
    lines = await speak(cues, [heard_unit(0, 1.0, 3.0, 5.0), heard_unit(1, 5.0, 6.0, 7.0)])
    assert [line.id for line in lines] == ["pt:c0000", "pt:c0001", "pt:c0002", "pt:c0003"]
    assert [(line.slot.start_s, line.slot.end_s) for line in lines] == [(c.start_s, c.end_s) for c in cues]
    assert [line.candidates[0].text for line in lines] == ["zero", "um", "dois", "fim"]
    assert [line.segment.text for line in lines] == ["", "text 0", "text 0 text 1", ""]
    assert [line.unit_id for line in lines] == ["u0000", "u0000", "u0000", "u0001"]
    assert [line.room_end_s for line in lines] == [1.1, 2.1, 15.0, END_S]
    assert [line.source_lufs for line in lines] == [-20.0, -20.0, -20.0, -21.0]
    assert lines[3].segment.speaker == "Bob"


async def test_a_cue_in_the_language_of_the_source_is_said_and_flagged() -> None:
    unit = heard_unit(0, 1.0, 3.0, 5.0)
    said = "The water of the sea is blue and very deep here."
    segments = tuple(dataclasses.replace(segment, text=said, language="en") for segment in unit.unit.segments)
    heard = dataclasses.replace(unit, unit=dataclasses.replace(unit.unit, segments=segments))
    [wrong] = await speak([cue(1.0, 3.0, "The water of the sea is blue and very deep here.")], [heard])
    assert (wrong.flags, wrong.candidates[0].text) == ((Flag.OFF_LANGUAGE,), said)
    assert wrong.doubt is not None
    assert "English" in wrong.doubt
    [right] = await speak([cue(1.0, 3.0, "A água do mar é azul e muito profunda aqui.")], [heard])
    assert (right.flags, right.doubt) == ((), None)


async def test_a_line_leaves_before_later_speech_is_heard() -> None:
    seen: list[str] = []

    async def heard() -> AsyncIterator[HeardUnit]:
        for index in range(3):
            seen.append(f"unit {index}")
            yield heard_unit(index, 5.0 * index, 5.0 * index + 1, 5.0 * index + 5)

    cues = [cue(0.0, 1.0, "um"), cue(5.0, 6.0, "dois")]
    async for line in cue_utterances(heard(), cues, "pt", END_S, Progress(job="test")):
        seen.append(line.id)
    assert seen == ["unit 0", "pt:c0000", "unit 1", "pt:c0001", "unit 2"]


async def test_cues_are_said_even_where_nothing_was_heard() -> None:
    [line] = await speak([cue(1.0, 2.0, "um")], [])
    assert line.candidates[0].text == "um"
    assert line.source_lufs is None
