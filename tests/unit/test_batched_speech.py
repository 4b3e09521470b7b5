"""Batches of a speech engine, on a model that only counts its calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ItemError
from actors.speech._base import ChosenFrames, Edges, Frames, Passage, SpeechConfig, Tokens, Voice
from actors.speech._batched import BatchedSpeech, round_up
from actors.types import Clip, ItemFailure, Plan, PlanRequest, Samples, SpeechRequest, SynthesiseRequest

VOICE = Voice(
    name="one",
    languages=("en",),
    gender=None,
    natural_scale=1.0,
    floor=0.5,
    longest=2.0,
    sample_hz=8000,
    frame_samples=80,
    licence="none",
)
TOO_LONG = 99


class Counting(BatchedSpeech):
    """A token a letter, three frames each; space is silent; "|" parts a text in pieces; "#" is too long for memory."""

    edges = Edges(lead=2.0, last=math.inf, tail=2.0, lead_context=3, last_context=0, tail_context=3)
    plan_share = 0.1

    def __init__(self) -> None:
        super().__init__(SpeechConfig())
        self.calls: list[tuple[str, int]] = []

    @property
    def voices(self) -> tuple[Voice, ...]:
        return (VOICE,)

    def load(self) -> None: ...

    def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
        codes = {" ": 0, "#": TOO_LONG}
        return [np.array([0, *(codes.get(c, 1 + ord(c) % 50) for c in piece), 0]) for piece in text.split("|")]

    def is_silent(self, token: int) -> bool:
        return token == 0

    def predict_batch(self, passages: Sequence[Passage]) -> list[Frames | ItemFailure]:
        self.calls.append(("predict", len(passages)))
        return [_or_failure(passage, np.full(len(passage.tokens), 3, np.float32)) for passage in passages]

    def speak_batch(self, passages: Sequence[Passage], frames: Sequence[ChosenFrames]) -> list[Samples | ItemFailure]:
        self.calls.append(("speak", len(passages)))
        tones = (np.repeat(passage.tokens, chosen * 80) / 100 for passage, chosen in zip(passages, frames, strict=True))
        return [tone.astype(np.float32) for tone in tones]


def _or_failure(passage: Passage, frames: Frames) -> Frames | ItemFailure:
    return ItemFailure(error=ItemError("too long")) if TOO_LONG in passage.tokens else frames


def ask(text: str) -> PlanRequest:
    return PlanRequest(text=text, language="en")


def test_a_batch_is_one_call_of_each_half() -> None:
    engine = Counting()
    plan = engine.plan(ask("one|two"))
    engine.calls.clear()
    speak = SynthesiseRequest(plan=plan, duration_s=plan.natural_s)
    kinds = [type(result) for result in engine.run([ask("a"), speak, ask("b|c"), speak, ask("d")])]
    assert kinds == [Plan, Clip, Plan, Clip, Plan]
    assert engine.calls == [("predict", 4), ("speak", 4)]


def test_an_empty_batch_is_no_result() -> None:
    assert Counting().run([]) == []


@pytest.mark.parametrize("bad", [ask("  "), ask("one|t#o|three"), PlanRequest(text="one", language="de")])
def test_a_bad_item_fails_alone(bad: PlanRequest) -> None:
    engine = Counting()
    first, failure, last = engine.run([ask("one|two"), bad, ask("three")])
    assert isinstance(failure, ItemFailure)
    assert isinstance(first, Plan)
    assert isinstance(last, Plan)
    assert (len(first.chunks), len(last.chunks)) == (2, 1)
    assert len(last.chunks[0].tokens) == len("three") + 2


TEXTS = st.text("ab |#", max_size=12)


@given(st.lists(TEXTS, max_size=6))
def test_every_item_has_the_result_it_has_alone(texts: list[str]) -> None:
    engine = Counting()
    together = engine.run([ask(text) for text in texts])
    assert len(together) == len(texts)
    for text, result in zip(texts, together, strict=True):
        (alone,) = engine.run([ask(text)])
        assert _content(result) == _content(alone)


@given(st.lists(TEXTS.filter(lambda text: "#" not in text), max_size=4), st.floats(0.5, 2.0))
def test_every_clip_has_the_length_asked_for(texts: list[str], rate: float) -> None:
    engine = Counting()
    plans = [result for result in engine.run([ask(text) for text in texts]) if isinstance(result, Plan)]
    requests: list[SpeechRequest] = [
        SynthesiseRequest(plan=plan, duration_s=min(max(rate * plan.natural_s, plan.shortest_s), plan.longest_s))
        for plan in plans
    ]
    for request, clip in zip(requests, engine.run(requests), strict=True):
        assert isinstance(request, SynthesiseRequest)
        assert isinstance(clip, Clip)
        assert clip.duration_s == pytest.approx(request.duration_s, abs=VOICE.frame_samples / VOICE.sample_hz)


def test_plan_and_synthesise_raise_what_run_returns() -> None:
    engine = Counting()
    with pytest.raises(ItemError, match="too long"):
        engine.plan(ask("a#"))
    plan = engine.plan(ask("one"))
    with pytest.raises(ItemError, match="length of this plan"):
        engine.synthesise(SynthesiseRequest(plan=plan, duration_s=3 * plan.longest_s))


@given(st.integers(0, 10**6), st.integers(1, 1000))
def test_rounding_up_is_the_least_multiple(value: int, multiple: int) -> None:
    rounded = round_up(value, multiple)
    assert rounded % multiple == 0
    assert 0 <= rounded - value < multiple


def _content(result: Plan | Clip | ItemFailure) -> Any:
    if isinstance(result, Plan):
        return result.natural_s, [(chunk.tokens.tolist(), chunk.frames.tolist()) for chunk in result.chunks]
    assert isinstance(result, ItemFailure)
    return result.error.message
