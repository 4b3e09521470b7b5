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
from actors.spoken.lexicon import Lexicon
from actors.types import (
    ASR_HZ,
    Candidate,
    Clip,
    Embedding,
    EmbedRequest,
    PlanRequest,
    TranscribedSegment,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
    Word,
)
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.quality import Measure, Metric
from cluster.steps.check import GAP_S, LEAD_S, MAX_WINDOW_S, Checker, joined, shared_out
from cluster.steps.plan import Planner
from cluster.steps.progress import Progress
from cluster.steps.records import Spoken
from cluster.steps.retry import Retry
from cluster.steps.similarity import SimilarityScorer
from cluster.steps.speak import Speaker, with_neighbours
from cluster.timing.pace import Pace
from cluster.timing.ranking import Standing
from tests.unit.steps.test_stages import HZ, FakePool, each, plan, utterance

LEXICON = Lexicon({}, "pt", takes_ipa=False)


class FakePools:
    """Every task's pool, by one function each."""

    def __init__(self, **answers: Callable[[Any], Any]) -> None:
        self.by_task = {task: FakePool(answer) for task, answer in answers.items()}

    async def get(self, task: str, stage: Any, priority: Any = None) -> FakePool:
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
    planner = Planner(config, pool, "pt", progress, None, pace, LEXICON)  # type: ignore[arg-type]
    speaker = Speaker(config, pool, "pt", progress, pace, LEXICON)  # type: ignore[arg-type]
    planned = await planner.plan([utterance("um dois três", room_s=room_s)])
    [line] = [await speaker.speak(queued) async for queued in with_neighbours(each(planned))]
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
    assert values == pytest.approx(
        {Metric.WER: 1 / 3, Metric.CER: 0.3, Metric.COSINE: 1.0, Metric.BACK_CHRF: 100.0}, abs=1e-3
    )


async def test_lines_are_heard_together_and_words_shared_out(config: Config) -> None:
    lines = await spoken_lines(config, 30)
    step_s = 1.2 + GAP_S

    def hear(request: TranscribeRequest) -> Transcript:
        num_lines = round((len(request.samples) / ASR_HZ - LEAD_S) / step_s)
        assert len(request.samples) / ASR_HZ <= MAX_WINDOW_S + 1e-6
        starts_s = [LEAD_S + step_s * at for at in range(num_lines)]
        words = [word(text, start_s + 0.4 * i) for start_s in starts_s for i, text in enumerate(("um", "dois"))]
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


async def retried(
    config: Config, heard: Callable[[str, float, int], str], *texts: str, slot_s: float = 5.0, exact: bool = True
) -> tuple[Spoken, list[tuple[str, float, int]]]:
    """A line with these candidates, heard as ``heard`` says by text, rate and take; and what was said, in order."""
    said: list[tuple[str, float, int]] = []

    def answer(request: Any) -> Any:
        if isinstance(request, PlanRequest):
            return dataclasses.replace(plan(request.text, 0.4 * len(request.text.split())), exact=exact)
        said.append((request.plan.text, round(request.plan.natural_s / request.duration_s, 3), request.take))
        return Clip(samples=np.zeros(round(request.duration_s * HZ), np.float32), sample_hz=HZ)

    def hear(request: TranscribeRequest) -> Transcript:
        return hearing(*(word(text, 0.3 * at) for at, text in enumerate(heard(*said[-1]).split())))

    pool, progress, pace = FakePool(answer), Progress(job="test"), Pace()
    pools = FakePools(embedding=embed, translation=translate, transcription=hear)
    planner = Planner(config, pool, "pt", progress, None, pace, LEXICON)  # type: ignore[arg-type]
    speaker = Speaker(config, pool, "pt", progress, pace, LEXICON)  # type: ignore[arg-type]
    planned = await planner.plan([utterance(*texts, room_s=slot_s)])
    async with asyncio.TaskGroup() as group:
        checker = Checker(config, pools, "pt", progress, group)  # type: ignore[arg-type]
        retry = Retry(config.quality, speaker, checker)
        [spoken] = [await retry.speak(queued) async for queued in with_neighbours(each(planned))]
    assert [measure.metric for measure in checker.found[spoken.utterance.id]].count(Metric.WER) == 1
    return spoken, said


async def test_a_line_that_fails_is_said_by_its_next_candidate(config: Config) -> None:
    spoken, said = await retried(
        config, lambda text, rate, take: {"um dois": "um dois"}.get(text, "outra coisa"), "um dois três", "um dois"
    )
    assert spoken.text == "um dois"
    assert [score.standing for score in spoken.candidates] == [Standing.FAILED, Standing.CHOSEN]
    assert len(said) == 7


async def test_retries_that_do_no_better_are_dropped(config: Config) -> None:
    heard = {"um dois três": "um dois quinze", "um dois": "outra coisa"}
    spoken, said = await retried(config, lambda text, rate, take: heard[text], "um dois três", "um dois")
    assert spoken.text == "um dois três"
    assert [score.standing for score in spoken.candidates] == [Standing.CHOSEN, Standing.WORSE_FIT]
    readings = ((1.0, 0), (0.9, 1), (1.0, 2), (0.95, 3), (1.05, 4), (0.85, 5))
    assert said == [*(("um dois três", *reading) for reading in readings), ("um dois", 1.0, 0)]


async def test_a_line_that_passes_is_not_said_again(config: Config) -> None:
    spoken, said = await retried(config, lambda text, rate, take: text, "um dois três", "um dois")
    assert spoken.text == "um dois três"
    assert len(said) == 1


async def test_an_unclear_line_is_said_slower(config: Config) -> None:
    spoken, said = await retried(
        config, lambda text, rate, take: text if rate < 1 else "outra coisa", "um dois três", "um"
    )
    assert said == [("um dois três", 1.0, 0), ("um dois três", 0.9, 1)]
    assert spoken.fit is not None
    assert spoken.fit.rate == pytest.approx(0.9)
    assert spoken.clip is not None
    assert spoken.clip.duration_s == pytest.approx(1.2 / 0.9, abs=0.01)


async def test_a_line_is_not_slowed_into_the_next(config: Config) -> None:
    _, said = await retried(config, lambda text, rate, take: "outra coisa", "um dois três", slot_s=1.25)
    assert said == [("um dois três", *reading) for reading in ((1.0, 0), (1.0, 2), (1.05, 4))]


async def test_an_engine_without_a_pace_takes_an_unclear_line_again(config: Config) -> None:
    spoken, said = await retried(
        config, lambda text, rate, take: text if take == 3 else "outra coisa", "um dois três", exact=False
    )
    assert said == [("um dois três", 1.0, take) for take in (0, 1, 2, 3)]
    assert not spoken.flags


async def test_another_pace_is_a_factor_of_that_at_which_a_line_was_said(config: Config) -> None:
    _, said = await retried(config, lambda text, rate, take: "outra coisa", "um dois três", slot_s=1.22)
    assert said[0][1] > 1.02
    assert said[-1] == ("um dois três", pytest.approx(said[0][1] * 1.05, abs=0.002), 4)


@pytest.mark.parametrize(("max_retries", "num_said"), [(1, 2), (2, 3), (12, 9)])
async def test_the_budget_bounds_how_often_a_line_is_said(max_retries: int, num_said: int) -> None:
    config = load_config("offline", ["ray.mode=inline", f"quality.max_retries={max_retries}"])
    texts = ("um dois três", "um dois", "dois três", "três")
    _, said = await retried(config, lambda text, rate, take: "outra coisa", *texts)
    assert len(said) == num_said


@given(st.lists(st.floats(0.05, 8), min_size=1, max_size=6), st.floats(0, 1))
def test_a_word_inside_a_clip_is_that_clips(durations_s: list[float], share: float) -> None:
    clips = [Clip(samples=np.zeros(round(each * HZ), np.float32), sample_hz=HZ) for each in durations_s]
    starts_s = [LEAD_S + sum(clip.duration_s + GAP_S for clip in clips[:index]) for index in range(len(clips))]
    words = []
    for index, (clip, start_s) in enumerate(zip(clips, starts_s, strict=True)):
        middle_s = start_s + share * clip.duration_s
        words.append(Word(text=f" {index}", start_s=middle_s, end_s=middle_s, probability=1.0))
    texts = shared_out(words, [clip.duration_s for clip in clips])
    assert texts == [f" {index}" for index in range(len(clips))]
    assert len(joined(clips)) == pytest.approx((starts_s[-1] + clips[-1].duration_s + GAP_S) * ASR_HZ, abs=len(clips))


async def test_without_an_embedding_candidates_keep_their_order(config: Config) -> None:
    pool = FakePool(lambda request: EngineLoadError("no such model"))
    assert await SimilarityScorer(config, pool).cosines("source", ["um", "dois"], 0.0) == [None, None]  # type: ignore[arg-type]
