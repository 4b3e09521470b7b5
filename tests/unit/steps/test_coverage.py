"""Speech without words is heard again by itself, then noted with its times."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ItemError
from actors.types import ASR_HZ, Span, TranscribeRequest, Transcript, Window
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.steps.coverage import retry_spans, stretches_of, uncovered, with_segments
from cluster.steps.progress import Progress
from cluster.steps.transcribe import Listener
from tests.unit.steps.test_language import said
from tests.unit.steps.test_stages import FakePool


@pytest.fixture
def config() -> Config:
    return load_config("offline", ["ray.mode=inline"])


def window(*speech: tuple[float, float], start_s: float = 100.0, duration_s: float = 20.0) -> Window:
    return Window(
        index=3,
        start_s=start_s,
        samples=np.zeros(round(duration_s * ASR_HZ), np.float32),
        speech=tuple(Span(start_s=start_s + start, end_s=start_s + end) for start, end in speech),
        next_speech_s=None,
    )


def spoken(*times: tuple[float, float]) -> Transcript:
    segments = tuple(said(f"word{number}", *time) for number, time in enumerate(times))
    return Transcript(language="en", language_probability=1.0, segments=segments)


def test_speech_without_words_is_found_with_its_times() -> None:
    [gap] = uncovered(window((0.0, 2.0), (3.0, 6.0), (7.0, 8.0)), spoken((0.1, 1.9), (7.1, 7.9)), 1.0)
    assert (gap.start_s, gap.end_s) == (103.0, 106.0)


def test_a_word_accounts_for_no_more_than_it_can_last() -> None:
    """An aligner stretches the last word before a sentence that was skipped over that sentence."""
    [gap] = uncovered(window((0.0, 9.0)), spoken((0.0, 0.8), (0.8, 9.0)), 1.0)
    assert gap.start_s < 104.0
    assert gap.end_s == 109.0


def test_short_stretches_and_covered_speech_are_no_gaps() -> None:
    assert uncovered(window((0.0, 0.9), (5.0, 6.2)), spoken((5.1, 6.0)), 1.0) == []


def test_what_was_heard_in_a_gap_is_put_in_its_place() -> None:
    [segment] = spoken((1.0, 2.0)).segments
    words = (*segment.words, *said("after", 8.0, 9.0).words)
    transcript = Transcript(
        language="en",
        language_probability=1.0,
        segments=(dataclasses.replace(segment, words=words),),
    )
    extra = [said("inside", 4.0, 5.0), said("word0", 1.2, 2.0)]
    merged = with_segments(transcript, extra, Span(start_s=3.0, end_s=7.0))
    assert [word.text.strip() for each in merged.segments for word in each.words] == ["word0", "inside", "after"]


def test_a_gap_as_long_as_its_window_is_cut_in_its_longest_pause() -> None:
    spans = retry_spans(window((0.5, 5.0), (5.3, 9.0), (11.0, 19.5)), Span(start_s=100.5, end_s=119.5))
    assert [(span.start_s, span.end_s) for span in spans] == [(100.5, 109.0), (111.0, 119.5)]


@given(st.lists(st.tuples(st.floats(0.1, 4.0), st.floats(0.05, 3.0)), min_size=1, max_size=12))
def test_stretches_hold_all_speech_in_order(parts: list[tuple[float, float]]) -> None:
    at_s, speech = 0.0, []
    for speech_s, pause_s in parts:
        speech.append((at_s, at_s + speech_s))
        at_s += speech_s + pause_s
    stretches = stretches_of(window(*speech, start_s=0.0, duration_s=at_s))
    assert stretches[0].start_s == speech[0][0]
    assert stretches[-1].end_s == speech[-1][1]
    assert all(before.end_s <= after.start_s for before, after in itertools.pairwise(stretches))
    for start_s, end_s in speech:
        assert any(span.start_s <= start_s and end_s <= span.end_s for span in stretches)


@pytest.mark.parametrize("is_heard_alone", [True, False])
async def test_a_skipped_sentence_is_heard_by_itself_or_noted(config: Config, is_heard_alone: bool) -> None:
    def answer(request: TranscribeRequest) -> Transcript:
        if len(request.samples) > 10 * ASR_HZ:
            return spoken((0.1, 0.9), (0.9, 1.9))
        return spoken((0.2, 1.5), (1.5, 2.5), (2.5, 4.0)) if is_heard_alone else spoken()

    pool = FakePool(answer)
    listener = Listener(config, pool, "en", ("pt",), Progress(job="test"))  # type: ignore[arg-type]
    _, transcript = await listener.transcribe(window((0.0, 2.0), (8.0, 12.0)))
    noted = [(span.start_s, span.end_s) for span in listener.notes.not_transcribed]
    assert len(pool.requests) == 2
    assert len(transcript.segments) == (5 if is_heard_alone else 2)
    assert noted == ([] if is_heard_alone else [(108.0, 112.0)])


async def test_speech_of_a_window_that_fails_is_noted(config: Config) -> None:
    pool = FakePool(lambda request: ItemError("broken"))
    listener = Listener(config, pool, "en", ("pt",), Progress(job="test"))  # type: ignore[arg-type]
    await listener.transcribe(window((1.0, 4.0)))
    assert [(span.start_s, span.end_s) for span in listener.notes.not_transcribed] == [(101.0, 104.0)]


async def test_words_found_by_parts_of_a_silent_window_decide_its_language(config: Config) -> None:
    def answer(request: TranscribeRequest) -> Transcript:
        return spoken() if len(request.samples) > 12 * ASR_HZ else spoken((0.2, 1.5), (1.5, 3.0))

    pool = FakePool(answer)
    listener = Listener(config, pool, None, ("pt",), Progress(job="test"))  # type: ignore[arg-type]
    _, transcript = await listener.transcribe(window((0.3, 9.5), (10.5, 19.7)))
    assert listener.language == "en"
    assert transcript.segments
