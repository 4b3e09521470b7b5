"""The language of a recording, from what its windows sound like; stretches in another language; refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from actors.errors import ConfigError
from actors.types import (
    ASR_HZ,
    Candidate,
    Span,
    TranscribedSegment,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
    Unit,
    Window,
    Word,
)
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.flags import Flag
from cluster.speakers.turns import turns_of_one
from cluster.steps.language import LanguageVote, dubbable, refuse
from cluster.steps.progress import Progress
from cluster.steps.records import HeardUnit
from cluster.steps.transcribe import Listener
from cluster.steps.translate import Translator
from cluster.timing.grouping import segments_of
from tests.unit.steps.test_stages import FakePool


@pytest.fixture
def config() -> Config:
    return load_config("offline", ["ray.mode=inline"])


def sounding(**probabilities: float) -> Transcript:
    ranked = tuple(sorted(probabilities.items(), key=lambda item: -item[1]))
    return Transcript(
        language=ranked[0][0],
        language_probability=ranked[0][1],
        segments=(said("words", 0.0, 1.0),),
        language_probabilities=ranked,
    )


def said(text: str, start_s: float, end_s: float) -> TranscribedSegment:
    word = Word(text=f" {text}", start_s=start_s, end_s=end_s, probability=0.9)
    return TranscribedSegment(
        start_s=start_s,
        end_s=end_s,
        text=text,
        words=(word,),
        mean_log_probability=-0.2,
        no_speech_probability=0.0,
        compression_ratio=1.0,
    )


def vote_of(config: Config, *windows: Transcript) -> LanguageVote:
    vote = LanguageVote(dubbable(config, ("pt",), ()))
    for each in windows:
        vote.add(each, 4.0)
    return vote


def test_a_doubtful_recording_is_in_the_likeliest_language_that_can_be_dubbed(config: Config) -> None:
    choice = vote_of(config, sounding(hu=0.4, en=0.2, fi=0.1)).decide(is_final=True)
    assert choice is not None
    assert (choice.language, choice.is_uncertain) == ("en", True)


def test_doubt_waits_for_more_windows(config: Config) -> None:
    assert vote_of(config, sounding(en=0.7, de=0.2)).decide(is_final=False) is None
    choice = vote_of(config, sounding(en=0.7, de=0.2), sounding(en=0.75)).decide(is_final=False)
    assert choice is not None
    assert (choice.language, choice.is_uncertain) == ("en", False)


def test_one_sure_window_that_can_be_dubbed_outweighs_many_that_cannot(config: Config) -> None:
    choice = vote_of(config, sounding(pt=0.97), sounding(pt=0.95), sounding(en=0.95)).decide(is_final=True)
    assert choice is not None
    assert choice.language == "en"


@pytest.mark.parametrize("heard", ["ru", "pt"])
def test_a_certain_language_that_cannot_be_dubbed_is_refused_with_what_helps(config: Config, heard: str) -> None:
    vote = vote_of(config, sounding(**{heard: 0.7, "en": 0.2}), sounding(**{heard: 0.9}))
    assert vote.decide(is_final=True) is None
    message = refuse(config, vote, ("pt",), ()).message
    assert f"sounds like {heard} (probability 0.80), en (0.10)" in message
    assert "2 windows" in message
    assert "--from" in message


def test_the_tag_of_the_file_settles_doubt_and_loses_against_clear_speech() -> None:
    def anything(_: str) -> bool:
        return True

    doubtful, clear = LanguageVote(anything, "nl"), LanguageVote(anything, "nl")
    doubtful.add(sounding(de=0.35, nl=0.3), 4.0)
    clear.add(sounding(de=0.95, nl=0.02), 4.0)
    assert doubtful.decide(is_final=True).language == "nl"
    assert clear.decide(is_final=True).language == "de"
    assert clear.contradicts("nl")


# --- several languages in one recording

SPEECH = (Span(start_s=0.0, end_s=4.0), Span(start_s=5.0, end_s=9.0), Span(start_s=10.0, end_s=14.0))
SPOKEN_IN = ("en", "pt", "ja")


def mixed_window() -> Window:
    samples = np.zeros(15 * ASR_HZ, np.float32)
    for number, span in enumerate(SPEECH):
        samples[round(span.start_s * ASR_HZ) : round(span.end_s * ASR_HZ)] = 0.1 * (number + 1)
    return Window(index=0, start_s=0.0, samples=samples, speech=SPEECH, next_speech_s=None)


def hear(request: TranscribeRequest) -> Transcript:
    """Each loudness is another language; a window of several sounds like the first, perhaps."""
    levels = [round(float(level), 1) for level in np.unique(request.samples) if level > 0]
    own = [SPOKEN_IN[round(level * 10) - 1] for level in levels]
    probabilities = tuple((tag, 0.95 / len(own)) for tag in own)
    num_words = len(request.samples) // ASR_HZ
    segments = tuple(said(f"word{second}", float(second), second + 1.0) for second in range(num_words))
    return Transcript(
        language=request.language or own[0],
        language_probability=1.0 if request.language else probabilities[0][1],
        segments=segments,
        language_probabilities=probabilities,
    )


@pytest.mark.parametrize(("given", "expected"), [(None, ["en", "pt", "ja"]), ("en", ["en", "pt", "en"])])
async def test_each_stretch_keeps_its_own_language(config: Config, given: str | None, expected: list[str]) -> None:
    """Where a person names the language, only what is in the target language already is left alone."""
    listener = Listener(config, FakePool(hear), given, ("pt",), Progress(job="test"))  # type: ignore[arg-type]
    window, transcript = await listener.transcribe(mixed_window())
    segments = segments_of(window, transcript, turns_of_one(SPEECH), config.grouping)
    for span, language in zip(SPEECH, expected, strict=True):
        inside = [each.language for each in segments if abs(each.start_s - span.start_s) < 0.5]
        assert inside
        assert set(inside) == {language}


@pytest.mark.parametrize(
    ("language", "flags"),
    [("en", ()), ("pt", (Flag.ALREADY_IN_TARGET,)), ("ja", (Flag.LANGUAGE_UNSUPPORTED,))],
)
async def test_speech_that_cannot_or_need_not_be_translated_is_left(
    config: Config, language: str, flags: tuple[Flag, ...]
) -> None:
    asked: list[str] = []

    def answer(request: TranslateRequest) -> Translation:
        asked.append(request.source_language)
        return Translation(candidates=(Candidate(text="bom dia", score=None),))

    translator = Translator(config, FakePool(answer), None, "pt", Progress(job="test"))  # type: ignore[arg-type]
    [segment] = segments_of(
        mixed_window(), dataclasses.replace(sounding(en=1.0), language=language), turns_of_one(SPEECH), config.grouping
    )
    unit = Unit(id="u0", segments=(segment,), room_end_s=4.0)
    [line] = await translator.translate(HeardUnit(unit=unit, source_lufs=None))
    assert line.flags == flags
    assert bool(asked) == (not flags)


async def test_a_recording_in_another_language_than_the_one_given_is_noted(config: Config) -> None:
    pool = FakePool(lambda request: sounding(de=0.97))
    listener = Listener(config, pool, "en", ("pt",), Progress(job="test"))  # type: ignore[arg-type]
    await listener.transcribe(
        Window(
            index=0,
            start_s=0.0,
            samples=np.zeros(ASR_HZ, np.float32),
            speech=(Span(start_s=0.0, end_s=1.0),),
            next_speech_s=None,
        )
    )
    assert listener.notes.is_contradicted
    assert listener.language == "en"


async def test_a_refusal_is_raised_by_the_listener(config: Config) -> None:
    pool = FakePool(lambda request: sounding(pt=0.97))
    listener = Listener(config, pool, None, ("pt",), Progress(job="test"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must differ"):
        await listener.transcribe(mixed_window())
