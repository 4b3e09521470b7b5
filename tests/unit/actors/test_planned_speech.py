"""Batches of a speech engine, on a model that only counts its calls."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import EngineError, ItemError
from actors.speech._planned.base import PlannedSpeech, PlannedSpeechConfig
from actors.speech._planned.edges import Edges
from actors.speech._planned.model import ChosenFrames, Frames, OneByOne, Passage, Tokens, seed_of
from actors.speech._planned.voices import Context, Voice, VoiceCatalogue
from actors.types import Clip, ItemFailure, Plan, PlanRequest, Samples, SpeechRequest, SynthesiseRequest

VOICE = Voice(
    name="one",
    languages=("en",),
    gender=None,
    natural_scale=1.0,
    shortest_scale=0.5,
    longest_scale=2.0,
    sample_hz=8000,
    frame_samples=80,
    licence="none",
)
TOO_LONG = 99


class CountingModel:
    """A token a letter, three frames each; space is silent; "|" parts a text in pieces; "#" is too long for memory."""

    silent = frozenset({0})

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
        codes = {" ": 0, "#": TOO_LONG}
        return [np.array([0, *(codes.get(c, 1 + ord(c) % 50) for c in piece), 0]) for piece in text.split("|")]

    def predict(self, passages: Sequence[Passage]) -> list[Frames | ItemFailure]:
        self.calls.append(("predict", len(passages)))
        return [_or_failure(passage, np.full(len(passage.tokens), 3, np.float32)) for passage in passages]

    def speak(self, passages: Sequence[Passage], frames: Sequence[ChosenFrames]) -> list[Samples | ItemFailure]:
        self.calls.append(("speak", len(passages)))
        tones = (np.repeat(passage.tokens, chosen * 80) / 100 for passage, chosen in zip(passages, frames, strict=True))
        return [tone.astype(np.float32) for tone in tones]


class Counting(PlannedSpeech):
    edges = Edges(lead=2.0, last=math.inf, tail=2.0, context=Context(lead=3, last=0), tail_context=3)
    plan_share = 0.1

    @property
    def voices(self) -> tuple[Voice, ...]:
        return (VOICE,)

    def load_model(self) -> CountingModel:
        self.counting = CountingModel()
        return self.counting


def counting() -> Counting:
    engine = Counting(PlannedSpeechConfig())
    engine.load()
    return engine


def _or_failure(passage: Passage, frames: Frames) -> Frames | ItemFailure:
    return ItemFailure(error=ItemError("too long")) if TOO_LONG in passage.tokens else frames


def ask(text: str) -> PlanRequest:
    return PlanRequest(text=text, language="en")


def test_a_batch_is_one_call_of_each_half() -> None:
    engine = counting()
    (plan,) = engine.run([ask("one|two")])
    assert isinstance(plan, Plan)
    engine.counting.calls.clear()
    speak = SynthesiseRequest(plan=plan, duration_s=plan.natural_s)
    kinds = [type(result) for result in engine.run([ask("a"), speak, ask("b|c"), speak, ask("d")])]
    assert kinds == [Plan, Clip, Plan, Clip, Plan]
    assert engine.counting.calls == [("predict", 4), ("speak", 4)]


def test_an_empty_batch_is_no_result() -> None:
    assert counting().run([]) == []


@pytest.mark.parametrize("bad", [ask("  "), ask("one|t#o|three"), PlanRequest(text="one", language="de")])
def test_a_bad_item_fails_alone(bad: PlanRequest) -> None:
    engine = counting()
    first, failure, last = engine.run([ask("one|two"), bad, ask("three")])
    assert isinstance(failure, ItemFailure)
    assert isinstance(first, Plan)
    assert isinstance(last, Plan)
    assert (len(first.chunks), len(last.chunks)) == (2, 1)
    assert len(last.chunks[0].tokens) == len("three") + 2


TEXTS = st.text("ab |#", max_size=12)


@given(st.lists(TEXTS, max_size=6))
def test_every_item_has_the_result_it_has_alone(texts: list[str]) -> None:
    engine = counting()
    together = engine.run([ask(text) for text in texts])
    assert len(together) == len(texts)
    for text, result in zip(texts, together, strict=True):
        (alone,) = engine.run([ask(text)])
        assert _content(result) == _content(alone)


@given(st.lists(TEXTS.filter(lambda text: "#" not in text), max_size=4), st.floats(0.5, 2.0))
def test_every_clip_has_the_length_asked_for(texts: list[str], rate: float) -> None:
    engine = counting()
    plans = [result for result in engine.run([ask(text) for text in texts]) if isinstance(result, Plan)]
    requests: list[SpeechRequest] = [
        SynthesiseRequest(plan=plan, duration_s=min(max(rate * plan.natural_s, plan.shortest_s), plan.longest_s))
        for plan in plans
    ]
    for request, clip in zip(requests, engine.run(requests), strict=True):
        assert isinstance(request, SynthesiseRequest)
        assert isinstance(clip, Clip)
        assert clip.duration_s == pytest.approx(request.duration_s, abs=VOICE.frame_samples / VOICE.sample_hz)


def test_a_length_out_of_the_plans_range_fails_its_item() -> None:
    engine = counting()
    (plan,) = engine.run([ask("one")])
    assert isinstance(plan, Plan)
    (failure,) = engine.run([SynthesiseRequest(plan=plan, duration_s=3 * plan.longest_s)])
    assert isinstance(failure, ItemFailure)
    assert "length of this plan" in failure.error.message


def test_a_voice_may_have_silence_of_its_own_around_it() -> None:
    kept, silent = np.array([1, 3, 2]), np.array([True, False, True])
    assert Counting.edges.add_context(kept, silent).tolist() == [4, 3, 5]
    own = Context(lead=0, last=2)
    assert Counting.edges.add_context(kept, silent, own).tolist() == [1, 5, 5]
    assert Counting.edges.add_context(kept, np.array([False, False, True]), Context(lead=2, last=0)).tolist() == [
        1,
        3,
        5,
    ]


def test_an_engine_without_its_model_asks_to_be_loaded() -> None:
    engine = counting()
    engine.close()
    with pytest.raises(EngineError, match="call load first"):
        engine.run([ask("one")])


def test_passages_given_one_by_one_fail_alone() -> None:
    class Single:
        silent = frozenset({0})

        def tokenise(self, text: str, voice: Voice) -> list[Tokens]:
            return []

        def predict(self, passage: Passage) -> Frames:
            if TOO_LONG in passage.tokens:
                raise ItemError("too long")
            return np.ones(len(passage.tokens), np.float32)

        def speak(self, passage: Passage, frames: ChosenFrames) -> Samples:
            return np.full(int(frames.sum()), passage.tokens[0], np.float32)

    model = OneByOne(Single())
    passages = [Passage(tokens=np.array(tokens), voice=VOICE) for tokens in ([1, 2], [TOO_LONG], [3])]
    first, failure, last = model.predict(passages)
    assert isinstance(failure, ItemFailure)
    assert not isinstance(first, ItemFailure)
    assert not isinstance(last, ItemFailure)
    assert (len(first), len(last)) == (2, 1)
    frames = [np.array([2, 1]), np.array([1]), np.array([4])]
    spoken = [samples.tolist() for samples in model.speak(passages, frames) if not isinstance(samples, ItemFailure)]
    assert spoken == [[1.0] * 3, [float(TOO_LONG)], [3.0] * 4]


def test_a_seed_depends_on_tokens_and_voice_alone() -> None:
    """Fixed by stored results: noise of another seed would be another clip under the same key."""
    assert seed_of(np.array([1, 2, 3]), "heart") == 16169053782089864043
    assert seed_of(np.array([1, 2, 3], np.int32), "heart") == seed_of(np.array([1, 2, 3]), "heart")
    passages = [(np.array(tokens), voice) for tokens in ([1, 2], [2, 1]) for voice in ("a", "b")]
    assert len({seed_of(*passage, take=take) for passage in passages for take in range(3)}) == 12


def test_a_chosen_voice_keeps_the_nearest_of_its_languages() -> None:
    both = dataclasses.replace(VOICE, name="both", languages=("pt-BR", "en"))
    catalogue = VoiceCatalogue(engine="any", voices=(VOICE, both), default="both")
    assert catalogue.choose("pt-PT", None).languages == ("pt-BR",)
    assert catalogue.choose("en", None) == dataclasses.replace(both, languages=("en",))
    assert catalogue.choose("en", "one") == VOICE
    with pytest.raises(ItemError, match="for that use both"):
        catalogue.choose("pt", "one")
    with pytest.raises(ItemError, match="must be asked for en, pt-BR"):
        catalogue.choose("ja", None)


def _content(result: Plan | Clip | ItemFailure) -> Any:
    if isinstance(result, Plan):
        return result.natural_s, [(chunk.tokens.tolist(), chunk.frames.tolist()) for chunk in result.chunks]
    assert isinstance(result, ItemFailure)
    return result.error.message
