"""Windows get their turns: told apart, given, or of one speaker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.diarization import campplus
from actors.errors import ConfigError, EngineLoadError, ItemError
from actors.types import ASR_HZ, Span, SpeakerTurn, VoicePrints, VoiceRequest, Window
from cluster.casting.cast import cast_of, known_cast, remember_cast
from cluster.casting.voices import speech_stage
from cluster.config.load import load_config
from cluster.pools.pool_set import PoolSet
from cluster.speakers.config import SpeakersConfig
from cluster.speakers.tracker import SpeakerTracker
from cluster.steps.diarize import spoken_windows, with_turns
from cluster.steps.progress import Progress
from cluster.steps.records import SpokenWindow
from cluster.steps.source import DubContext
from tests.standins.tells_apart import Engine, EngineConfig

LENGTH_S = 6.0


def window(index: int, *tones: tuple[float, float, float]) -> Window:
    """Six seconds with tones: (start, end, frequency), relative to the window."""
    start_s = index * LENGTH_S
    samples = np.zeros(round(LENGTH_S * ASR_HZ), np.float32)
    for begin_s, end_s, hz in tones:
        time_s = np.arange(round(begin_s * ASR_HZ), round(end_s * ASR_HZ)) / ASR_HZ
        samples[round(begin_s * ASR_HZ) : round(end_s * ASR_HZ)] = 0.3 * np.sin(2 * np.pi * hz * time_s)
    speech = tuple(Span(start_s=start_s + begin_s, end_s=start_s + end_s) for begin_s, end_s, _ in tones)
    return Window(index=index, start_s=start_s, samples=samples, speech=speech, next_speech_s=start_s + LENGTH_S)


LOW, HIGH = 120.0, 700.0
TALK = [
    window(0, (0.0, 2.0, LOW), (2.5, 5.0, LOW)),
    window(1, (0.0, 3.0, HIGH), (3.2, 5.0, LOW)),
    window(2, (0.0, 5.0, HIGH)),
]


async def stream(windows: Sequence[Window]) -> AsyncIterator[Window]:
    for each in windows:
        yield each


class Voices:
    """The stand-in, asked as a pool is; it fails for one window."""

    def __init__(self, failing: int | None = None) -> None:
        self._engine = Engine(EngineConfig())
        self._failing = failing
        self.asked: list[float] = []

    async def describe(self, request: VoiceRequest, start_s: float) -> VoicePrints:
        self.asked.append(start_s)
        if self._failing is not None and start_s == self._failing * LENGTH_S:
            raise ItemError("broken")
        [prints] = self._engine.run([request])
        assert isinstance(prints, VoicePrints)
        return prints


async def told_apart(windows: Sequence[Window], voices: Voices, **settings: Any) -> list[SpokenWindow]:
    config = SpeakersConfig.model_validate({"count": "auto", **settings})
    return [each async for each in with_turns(stream(windows), voices.describe, SpeakerTracker(config), config)]


def speakers(spoken: SpokenWindow) -> list[str]:
    return [turn.speaker for turn in spoken.turns]


async def test_each_window_has_its_turns_and_pitches() -> None:
    first, second, third = await told_apart(TALK, Voices())
    assert [each.window.index for each in (first, second, third)] == [0, 1, 2]
    assert (speakers(first), speakers(second), speakers(third)) == (["S1", "S1"], ["S2", "S1"], ["S2"])
    assert second.turns[0] == SpeakerTurn(start_s=6.0, end_s=9.0, speaker="S2")
    assert second.turns[1] == SpeakerTurn(start_s=9.2, end_s=11.0, speaker="S1")
    assert third.pitches_hz["S1"] == pytest.approx(LOW, abs=1)
    assert third.pitches_hz["S2"] == pytest.approx(HIGH, abs=1)


async def test_a_window_waits_for_the_lookahead_and_no_longer() -> None:
    config = SpeakersConfig(count="auto", lookahead_s=6.0)
    voices, left = Voices(), []
    async for each in with_turns(stream(TALK * 4), voices.describe, SpeakerTracker(config), config):
        left.append(each.window.index)
        if len(left) == 1:
            assert voices.asked[:2] == [0.0, 6.0]
    assert left == [0, 1, 2] * 4


class Counting(SpeakerTracker):
    """Counts the windows that were heard before each was settled."""

    def __init__(self, config: SpeakersConfig) -> None:
        super().__init__(config)
        self.num_heard = 0
        self.num_heard_before: list[int] = []

    def hear(self, pieces: Sequence[Span], prints: VoicePrints) -> range:
        self.num_heard += 1
        return super().hear(pieces, prints)

    def turns(self, numbers: range, *, is_all: bool) -> list[SpeakerTurn]:
        self.num_heard_before.append(self.num_heard)
        return super().turns(numbers, is_all=is_all)


async def test_the_first_windows_wait_for_less() -> None:
    config = SpeakersConfig(count="auto", lookahead_s=18.0, first_lookahead_s=6.0)
    tracker, windows = Counting(config), [window(index, (0.0, 5.0, LOW)) for index in range(8)]
    spoken = [each async for each in with_turns(stream(windows), Voices().describe, tracker, config)]
    assert [each.window.index for each in spoken] == list(range(8))
    assert tracker.num_heard_before == [2, 4, 6, 7, 8, 8, 8, 8]


async def test_a_speaker_keeps_the_name_that_the_first_windows_had() -> None:
    windows = [window(index, (0.0, 5.0, LOW if index < 3 else HIGH)) for index in range(9)]
    config = SpeakersConfig(count="auto", lookahead_s=12.0, first_lookahead_s=0.0)
    spoken = [each async for each in with_turns(stream(windows), Voices().describe, SpeakerTracker(config), config)]
    assert [speakers(each) for each in spoken] == [["S1"]] * 3 + [["S2"]] * 6


async def test_a_window_whose_voices_cannot_be_described_costs_itself_alone() -> None:
    first, second, third = await told_apart(TALK, Voices(failing=0))
    assert speakers(first) == ["S1", "S1"]
    assert speakers(second)[0] == speakers(third)[0]


async def spoken(*assignments: str) -> list[SpokenWindow]:
    config = load_config(
        "offline",
        ["ray.mode=inline", "store.url=null", "diarization.engine=tests.standins.tells_apart", *assignments],
    )
    async with PoolSet(config) as pools:
        context = DubContext(config=config, pools=pools, progress=Progress(job="test"))
        return [each async for each in spoken_windows(stream(TALK), context)]


async def test_one_speaker_needs_no_engine() -> None:
    found = await spoken("speakers.count=1", "diarization.engine=no_such_engine_is_asked_for")
    assert [set(speakers(each)) for each in found] == [{"S1"}] * 3
    assert [(turn.start_s, turn.end_s) for turn in found[1].turns] == [(6.0, 9.0), (9.2, 11.0)]


async def test_voices_are_told_apart_in_a_pool() -> None:
    found = await spoken()
    assert [speakers(each) for each in found] == [["S1", "S1"], ["S2", "S1"], ["S2"]]


async def test_a_series_knows_its_speakers_again(tmp_path: Path) -> None:
    settings = [f"speakers.cast={tmp_path / 'show.json'}", "diarization.engine=tests.standins.tells_apart"]
    found = await spoken(*settings)
    assert speakers(found[1]) == ["S2", "S1"]
    config = load_config("offline", settings)
    remember_cast(config, found[-1].prints, {"S1": ["pm_santa"], "S2": ["pm_alex"]})
    again = await spoken(*settings)
    assert [speakers(each) for each in again] == [["C1", "C1"], ["C2", "C1"], ["C2"]]
    cast = cast_of(config, "pt", speech_stage(config, "pt"))
    assert [cast.voice_of(speaker, 220.0) for speaker in ("C2", "C1", "S3")] == ["pm_alex", "pm_santa", "pf_dora"]


def test_a_cast_that_cannot_be_written_is_refused_before_the_dub_and_told_after_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ["diarization.engine=tests.standins.tells_apart"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--cast must be a file that can be written"):
        known_cast(load_config("offline", [*settings, f"speakers.cast={tmp_path / 'file' / 'show.json'}"]))
    path = tmp_path / "show.json"
    config = load_config("offline", [*settings, f"speakers.cast={path}"])
    assert known_cast(config).speakers == ()
    path.write_text("meanwhile something else")
    remember_cast(config, {"S1": (1.0, 0.0)}, {"S1": ["pm_santa"]})
    assert "cast not updated" in caplog.text
    assert path.read_text() == "meanwhile something else"


async def test_without_the_model_all_have_one_voice_unless_speakers_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The real engine, on a node without its weights and without a network."""
    monkeypatch.setenv("RAYDUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    campplus._problem.cache_clear()
    try:
        found = await spoken("diarization.engine=campplus")
        assert [set(speakers(each)) for each in found] == [{"S1"}] * 3
        assert "speakers are not told apart" in caplog.text
        for asked in ("speakers.required=true", "speakers.count=2"):
            with pytest.raises(EngineLoadError, match="must be on this node"):
                await spoken("diarization.engine=campplus", asked)
    finally:
        campplus._problem.cache_clear()


async def test_given_turns_are_taken_by_their_names(tmp_path: Path) -> None:
    rttm = tmp_path / "talk.rttm"
    rttm.write_text(
        "SPEAKER talk 1 0 7.5 <NA> <NA> Ana <NA> <NA>\nSPEAKER talk 1 7.5 3 <NA> <NA> Rui <NA> <NA>\n", encoding="utf-8"
    )
    found = await spoken(f"speakers.rttm={rttm}")
    assert [speakers(each) for each in found] == [["Ana"], ["Ana", "Rui"], ["Rui"]]
    with pytest.raises(ConfigError, match="readable RTTM"):
        await spoken(f"speakers.rttm={tmp_path / 'none.rttm'}")
