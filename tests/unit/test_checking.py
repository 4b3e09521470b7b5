"""Checks of dubbed lines, against pools that answer from a table."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import EngineLoadError, ItemError
from actors.types import (
    ASR_HZ,
    Candidate,
    Clip,
    Embedding,
    EmbedRequest,
    Plan,
    PlanRequest,
    TranscribedSegment,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
    Word,
)
from cluster.candidates import Standing
from cluster.checking import GAP_S, MAX_WINDOW_S, Checker, Retry, joined, shared_out
from cluster.config import Config, load_config
from cluster.meaning import Meaning
from cluster.pace import Pace
from cluster.planning import Planner
from cluster.progress import Progress
from cluster.quality import Measure, Metric
from cluster.speaking import Speaker, Spoken
from tests.unit.test_stages import HZ, FakePool, plan, utterance


class FakePools:
    """Every task's pool, by one function each."""

    def __init__(self, **answers: Callable[[Any], Any]) -> None:
        self.by_task = {task: FakePool(answer) for task, answer in answers.items()}

    async def get(self, task: str, stage: Any, asker: Any = None) -> FakePool:
        return self.by_task[task]


def embed(request: EmbedRequest) -> Embedding:
    return Embedding(vector=np.array([1.0, 0.0], np.float32))


def translate(request: TranslateRequest) -> Translation:
    return Translation(candidates=(Candidate(text="source", score=None),))


def hear_nothing(request: TranscribeRequest) -> Transcript:
    return Transcript(language="pt", language_probability=1.0, segments=())


def hearing(*words: Word) -> Transcript:
    segment = TranscribedSegment(
        start_s=0.0,
        end_s=1.0,
        text="".join(word.text for word in words),
        words=words,
        mean_log_probability=-0.1,
        no_speech_probability=0.0,
        compression_ratio=1.0,
    )
    return Transcript(language="pt", language_probability=1.0, segments=(segment,))


def word(text: str, start_s: float) -> Word:
    return Word(text=f" {text}", start_s=start_s, end_s=start_s + 0.2, probability=0.9)


async def spoken_lines(config: Config, num_lines: int, room_s: float = 5.0) -> list[Spoken]:
    def answer(request: Any) -> Any:
        if isinstance(request, PlanRequest):
            return plan(request.text, 0.4 * len(request.text.split()))
        return Clip(samples=np.zeros(round(request.duration_s * HZ), np.float32), sample_hz=HZ)

    pool, progress, pace = FakePool(answer), Progress(job="test"), Pace()
    planner = Planner(config, pool, "pt", progress, None, pace)  # type: ignore[arg-type]
    speaker = Speaker(config, pool, "pt", progress, pace)  # type: ignore[arg-type]
    following: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    following.set_result(None)
    [planned] = await planner.plan([utterance("um dois três", room_s=room_s)])
    line = await speaker.speak((planned, following))
    return [
        dataclasses.replace(line, utterance=dataclasses.replace(line.utterance, id=f"pt:u{index:04d}"))
        for index in range(num_lines)
    ]


async def check(config: Config, pools: FakePools, lines: Sequence[Spoken]) -> dict[str, list[Measure]]:
    async def stream() -> AsyncIterator[Spoken]:
        for line in lines:
            yield line

    async with asyncio.TaskGroup() as group:
        checker = Checker(config, pools, "pt", Progress(job="test"), group)  # type: ignore[arg-type]
        passed = [line async for line in checker.beside(stream())]
    assert passed == list(lines)
    return checker.found


@pytest.fixture
def config() -> Config:
    return load_config("offline", ["ray.mode=inline"])


async def test_a_line_is_heard_again_compared_and_translated_back(config: Config) -> None:
    pools = FakePools(
        embedding=embed,
        translation=translate,
        transcription=lambda request: hearing(word("Um,", 0.0), word("dois", 0.4), word("seis", 0.8)),
    )
    found = await check(config, pools, await spoken_lines(config, 1))
    values = {measure.metric: measure.value for measure in found["pt:u0000"]}
    assert values == pytest.approx({Metric.WER: 1 / 3, Metric.COSINE: 1.0, Metric.BACK_CHRF: 100.0}, abs=1e-3)


async def test_lines_are_heard_together_and_words_shared_out(config: Config) -> None:
    lines = await spoken_lines(config, 30)
    step_s = 1.2 + GAP_S

    def hear(request: TranscribeRequest) -> Transcript:
        num_lines = round(len(request.samples) / ASR_HZ / step_s)
        assert len(request.samples) / ASR_HZ <= MAX_WINDOW_S + 1e-6
        words = [word(text, step_s * at + 0.4 * i) for at in range(num_lines) for i, text in enumerate(("um", "dois"))]
        return hearing(*words)

    pools = FakePools(embedding=embed, translation=translate, transcription=hear)
    found = await check(config, pools, lines)
    rates = [measure.value for own in found.values() for measure in own if measure.metric is Metric.WER]
    assert rates == pytest.approx([1 / 3] * 30, abs=1e-3)
    assert len(pools.by_task["transcription"].requests) == 3


@pytest.mark.parametrize("error", [ItemError("too quiet"), EngineLoadError("no such model"), ValueError("a defect")])
async def test_a_check_that_fails_fails_no_line(config: Config, error: Exception) -> None:
    pools = FakePools(embedding=embed, translation=translate, transcription=lambda request: error)
    found = await check(config, pools, await spoken_lines(config, 1))
    rates = [measure for measure in found["pt:u0000"] if measure.metric is Metric.WER]
    assert all((measure.value, measure.why) == (None, error.args[0]) for measure in rates)
    assert len(rates) == (0 if isinstance(error, ValueError) else 1)


async def test_which_lines_are_checked_is_configured() -> None:
    pools = FakePools(embedding=embed, translation=translate, transcription=hear_nothing)
    lines = await spoken_lines(load_config("offline"), 200)
    counts = {
        choice: len(await check(load_config("offline", [f"quality.check={choice}"]), pools, lines))
        for choice in ("none", "sampled", "all")
    }
    assert counts["none"] == 0
    assert counts["all"] == 200
    assert 5 <= counts["sampled"] <= 40


async def retried(config: Config, errors: dict[str, str]) -> tuple[Spoken, FakePools]:
    """A line with two candidates, of which the last one spoken is heard as ``errors`` says."""
    said: list[str] = []

    def answer(request: Any) -> Any:
        if isinstance(request, PlanRequest):
            return plan(request.text, 0.4 * len(request.text.split()))
        said.append(request.plan.text)
        return Clip(samples=np.zeros(round(request.duration_s * HZ), np.float32), sample_hz=HZ)

    def hear(request: TranscribeRequest) -> Transcript:
        return hearing(*(word(text, 0.3 * at) for at, text in enumerate(errors[said[-1]].split())))

    pool, progress, pace = FakePool(answer), Progress(job="test"), Pace()
    pools = FakePools(embedding=embed, translation=translate, transcription=hear)
    planner = Planner(config, pool, "pt", progress, None, pace)  # type: ignore[arg-type]
    speaker = Speaker(config, pool, "pt", progress, pace)  # type: ignore[arg-type]
    following: asyncio.Future[Plan | None] = asyncio.get_running_loop().create_future()
    following.set_result(None)
    [planned] = await planner.plan([utterance("um dois três", "um dois", room_s=5.0)])
    async with asyncio.TaskGroup() as group:
        checker = Checker(config, pools, "pt", progress, group)  # type: ignore[arg-type]
        spoken = await Retry(speaker, checker).speak((planned, following))  # type: ignore[arg-type]
    assert [measure.metric for measure in checker.found[spoken.utterance.id]].count(Metric.WER) == 1
    return spoken, pools


async def test_a_line_that_fails_is_said_by_its_next_candidate(config: Config) -> None:
    spoken, _ = await retried(config, {"um dois três": "outra coisa", "um dois": "um dois"})
    assert spoken.text == "um dois"
    assert [score.standing for score in spoken.scores] == [Standing.FAILED, Standing.CHOSEN]


async def test_a_retry_that_does_no_better_is_dropped(config: Config) -> None:
    spoken, _ = await retried(config, {"um dois três": "um dois seis", "um dois": "outra coisa"})
    assert spoken.text == "um dois três"
    assert [score.standing for score in spoken.scores] == [Standing.CHOSEN, Standing.WORSE_FIT]


async def test_a_line_that_passes_is_not_said_again(config: Config) -> None:
    spoken, pools = await retried(config, {"um dois três": "um dois três"})
    assert spoken.text == "um dois três"
    assert len(pools.by_task["transcription"].requests) == 1


@given(st.lists(st.floats(0.05, 8), min_size=1, max_size=6), st.floats(0, 1))
def test_a_word_inside_a_clip_is_that_clips(durations_s: list[float], share: float) -> None:
    clips = [Clip(samples=np.zeros(round(each * HZ), np.float32), sample_hz=HZ) for each in durations_s]
    starts_s = [sum(clip.duration_s + GAP_S for clip in clips[:index]) for index in range(len(clips))]
    words = []
    for index, (clip, start_s) in enumerate(zip(clips, starts_s, strict=True)):
        middle_s = start_s + share * clip.duration_s
        words.append(Word(text=f" {index}", start_s=middle_s, end_s=middle_s, probability=1.0))
    texts = shared_out(words, [clip.duration_s for clip in clips])
    assert texts == [f" {index}" for index in range(len(clips))]
    assert len(joined(clips)) == pytest.approx((starts_s[-1] + clips[-1].duration_s + GAP_S) * ASR_HZ, abs=len(clips))


async def test_without_an_embedding_candidates_keep_their_order(config: Config) -> None:
    pool = FakePool(lambda request: EngineLoadError("no such model"))
    assert await Meaning(config, pool).cosines("source", ["um", "dois"], 0.0) == [None, None]  # type: ignore[arg-type]
