"""Steps of the pipeline against a pool that answers from a table: languages in doubt, failures, cuts, stretching."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from actors.errors import ConfigError, ItemError, MediaError
from actors.sentences import as_sentence
from actors.spoken.lexicon import Lexicon
from actors.types import (
    ASR_HZ,
    Candidate,
    Clip,
    Plan,
    PlanRequest,
    Reference,
    Segment,
    Span,
    SynthesiseRequest,
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
from cluster.steps.group import group_units, heard_segments
from cluster.steps.noise import is_noise_line
from cluster.steps.plan import Planner
from cluster.steps.progress import Progress
from cluster.steps.records import HeardUnit, HeardWindow, PlannedLine, Spoken, SpokenWindow, Utterance
from cluster.steps.speak import Speaker, stretched, with_neighbours
from cluster.steps.transcribe import Listener
from cluster.steps.translate import Translator
from cluster.streams import ordered_map
from cluster.timing.fit import Fit, Rung
from cluster.timing.pace import Pace
from cluster.timing.ranking import Standing

LEXICON = Lexicon({}, "pt", takes_ipa=False)

HZ = 24_000


class FakePool:
    """Answers like a pool, by a function; an ItemError it returns is raised."""

    name = "fake/engine"

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self._answer = answer
        self.requests: list[Any] = []

    async def submit(self, request: Any, *, order: float = 0.0) -> Any:
        self.requests.append(request)
        await asyncio.sleep(0)
        result = self._answer(request)
        if isinstance(result, Exception):
            raise result
        return result


@pytest.fixture
def config() -> Config:
    return load_config("offline", ["ray.mode=inline"])


def window(index: int, *, is_last: bool = False) -> Window:
    start_s = 10.0 * index
    return Window(
        index=index,
        start_s=start_s,
        samples=np.full(ASR_HZ, 0.01 * (index + 1), np.float32),
        speech=(Span(start_s=start_s, end_s=start_s + 1),),
        next_speech_s=None if is_last else start_s + 10,
    )


def transcript(text: str, language: str, probability: float) -> Transcript:
    words = tuple(
        Word(text=f" {word}", start_s=0.2 * at, end_s=0.2 * at + 0.15, probability=0.9)
        for at, word in enumerate(text.split())
    )
    segment = TranscribedSegment(
        start_s=0.0,
        end_s=1.0,
        text=text,
        words=words,
        mean_log_probability=-0.2,
        no_speech_probability=0.0,
        compression_ratio=1.0,
    )
    return Transcript(language=language, language_probability=probability, segments=(segment,) if words else ())


async def listen_to(config: Config, heard: list[tuple[str, str, float]]) -> tuple[Listener, list[Transcript], FakePool]:
    """Windows of which each sounds like (text, language, probability) until a language is asked for."""

    def answer(request: TranscribeRequest) -> Transcript:
        text, language, probability = heard[round(float(request.samples[0]) / 0.01) - 1]
        if request.language is None:
            return transcript(text, language, probability)
        return transcript(text, request.language, 1.0)

    async def windows() -> Any:
        for index in range(len(heard)):
            yield window(index, is_last=index == len(heard) - 1)

    pool = FakePool(answer)
    listener = Listener(config, pool, None, ("pt",), Progress(job="test"))  # type: ignore[arg-type]
    results = [found async for _, found in ordered_map(windows(), listener.transcribe, config.pipeline.max_windows)]
    return listener, results, pool


async def test_a_sure_window_decides_the_language_of_all(config: Config) -> None:
    listener, results, pool = await listen_to(config, [("hello there", "en", 0.98), ("was ist", "de", 0.9)])
    assert listener.language == "en"
    assert listener.language_probability == 0.98
    assert [found.language for found in results] == ["en", "en"]
    assert len(pool.requests) == 2


async def test_a_doubtful_window_waits_and_is_heard_again(config: Config) -> None:
    heard = [("hi", "zh", 0.2), ("how are you", "en", 0.97), ("fine", "en", 0.9)]
    listener, results, _ = await listen_to(config, heard)
    assert listener.language == "en"
    assert [found.language for found in results] == ["en", "en", "en"]


@pytest.mark.parametrize("num_windows", range(1, 9))
async def test_doubt_in_every_window_still_ends(config: Config, num_windows: int) -> None:
    """The pipeline holds only so many windows: waiting for one more could wait for ever."""
    listener, results, _ = await listen_to(config, [("hm", "en", 0.3), *[("", "und", 0.0)] * (num_windows - 1)])
    assert listener.language == "en"
    assert len(results) == num_windows


async def test_doubt_ends_when_the_windows_fail(config: Config) -> None:
    async def windows() -> Any:
        yield window(0)
        raise MediaError("the disk is gone")

    pool = FakePool(lambda request: transcript("hm", "en", 0.3))
    listener = Listener(config, pool, None, ("pt",), Progress(job="test"))  # type: ignore[arg-type]
    with pytest.raises(MediaError, match="the disk is gone"):
        async with asyncio.timeout(60):
            [found async for found in ordered_map(listener.watch(windows()), listener.transcribe, 4)]


async def test_silence_decides_nothing(config: Config) -> None:
    listener, results, _ = await listen_to(config, [("", "und", 0.0)] * 7)
    assert listener.language is None
    assert len(results) == 7


async def test_speech_in_the_target_language_is_an_error(config: Config) -> None:
    with pytest.raises(ConfigError, match="sounds like pt"):
        await listen_to(config, [("olá", "pt", 0.99)])


@pytest.mark.parametrize("found", [("olá, tudo bem", "pt", 0.97), ("ahoj, jak se máte", "cs", 0.97)])
async def test_a_refused_language_ends_the_windows_that_wait_for_it(
    config: Config, found: tuple[str, str, float]
) -> None:
    """The doubtful window is first in order: were it to wait on, the error behind it would never come."""
    async with asyncio.timeout(60):
        with pytest.raises(ConfigError, match=found[1]):
            await listen_to(config, [("hi", "en", 0.2), found, found, found])


async def test_a_window_that_fails_is_counted_and_costs_only_itself(config: Config) -> None:
    pool = FakePool(lambda request: ItemError("broken"))
    listener = Listener(config, pool, "en", ("pt",), Progress(job="test"))  # type: ignore[arg-type]
    _, found = await listener.transcribe(window(0))
    assert found.segments == ()
    assert listener.num_failed == 1


def heard_window(of: Window, text: str) -> HeardWindow:
    spoken = SpokenWindow(window=of, turns=turns_of_one(of.speech))
    return HeardWindow(spoken=spoken, transcript=transcript(text, "en", 1.0))


async def test_units_leave_with_the_loudness_heard_so_far(config: Config) -> None:
    async def heard() -> Any:
        yield heard_window(window(0), "One two.")
        yield heard_window(window(1, is_last=True), "Three four.")

    units = [unit async for unit in group_units(heard_segments(heard(), config), config, 20.0)]
    assert [unit.unit.text for unit in units] == ["One two.", "Three four."]
    assert units[0].unit.room_end_s == 10.0
    assert units[1].unit.room_end_s == 20.0


@pytest.mark.parametrize("clone", [True, False])
async def test_a_voice_to_clone_goes_with_every_unit_if_asked_for(config: Config, clone: bool) -> None:
    async def heard() -> Any:
        for index in range(4):
            yield heard_window(window(index, is_last=index == 3), "One two.")

    config = load_config(
        "offline", [f"speech.clone={str(clone).lower()}", "speech.consent=true", "speech.clone_reference_s=3"]
    )
    references = [unit.reference async for unit in group_units(heard_segments(heard(), config), config, 40.0)]
    if not clone:
        assert references == [None] * 4
        return
    # A second of speech in each window: the reference grows to three seconds, then stays.
    assert [reference and len(reference.samples) / ASR_HZ for reference in references] == [1, 2, 3, 3]
    assert references[3] is references[2]


async def test_the_reference_reaches_the_engine(config: Config) -> None:
    reference = Reference(samples=np.zeros(ASR_HZ, np.float32), sample_hz=ASR_HZ, key="k")
    pool = speaking_pool()
    await speak(config, utterance("um dois", room_s=3.0, reference=reference), pool)
    assert pool.requests[0].reference is reference


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("banana", "Banana."), ("It is.", "It is."), ("why?", "Why?"), ("", ""), ("and so,", "And so,"), ("何", "何.")],
)
def test_as_sentence(text: str, sentence: str) -> None:
    assert as_sentence(text) == sentence


# --- translating


def unit(*texts: str) -> HeardUnit:
    segments = tuple(
        Segment(
            id=f"s{at}",
            start_s=2.0 * at,
            end_s=2.0 * at + 1.5,
            text=text,
            language="en",
            speaker="speaker0",
            words=(),
            mean_log_probability=-0.1,
            no_speech_probability=0.0,
        )
        for at, text in enumerate(texts)
    )
    return HeardUnit(unit=Unit(id="u0007", segments=segments, room_end_s=2.0 * len(texts)), source_lufs=-20.0)


async def translate(config: Config, answer: Callable[[TranslateRequest], Any], heard: HeardUnit) -> list[Utterance]:
    translator = Translator(config, FakePool(answer), None, "pt", Progress(job="test"))  # type: ignore[arg-type]
    return await translator.translate(heard)


@pytest.mark.parametrize("text", ["Hmmmm.", "Uh…", "[laughs]"])
async def test_a_noise_is_not_translated(config: Config, text: str) -> None:
    [line] = await translate(config, lambda request: pytest.fail("nothing is to be translated"), unit(text))
    assert (line.candidates, line.flags) == ((), (Flag.NOISE,))


async def test_a_noise_is_translated_if_the_setting_says_so() -> None:
    config = load_config("offline", ["ray.mode=inline", "translation.keep_noises=false"])
    translation = Translation(candidates=(Candidate(text="Hmm.", score=None),))
    [line] = await translate(config, lambda request: translation, unit("Hmm."))
    assert (line.candidates[0].text, line.flags) == ("Hmm.", ())


async def test_a_noise_between_words_has_no_share_of_their_translation(config: Config) -> None:
    said: list[str] = []

    def answer(request: TranslateRequest) -> Translation:
        said.append(request.text)
        return Translation(
            candidates=(
                Candidate(text="A maré sobe, e depois desce.", score=None),
                Candidate(text="A maré sobe, e logo desce.", score=None),
            )
        )

    lines = await translate(config, answer, unit("The tide rises,", "uh,", "and then falls."))
    assert said == ["The tide rises, and then falls."]
    assert [[each.text.strip() for each in line.candidates][:1] for line in lines] == [
        ["A maré sobe,"],
        [],
        ["e depois desce."],
    ]
    assert [line.flags for line in lines] == [(), (Flag.NOISE,), ()]
    assert [line.room_end_s for line in lines] == [2.0, 4.0, 6.0]
    planned = await Stage(config, speaking_pool()).planner.plan(lines)
    assert [len(line.candidates) for line in planned] == [2, 0, 2]
    assert [line.chosen is None for line in planned] == [False, True, False]


async def test_a_failed_translation_fails_the_words_and_not_the_noise(config: Config) -> None:
    lines = await translate(config, lambda request: ItemError("too long"), unit("The tide rises,", "hmm."))
    assert [(line.flags, line.error) for line in lines] == [
        ((Flag.TRANSLATION_FAILED,), "too long"),
        ((Flag.NOISE,), None),
    ]


@pytest.mark.parametrize(
    ("no_speech", "probability", "is_kept"), [(0.7, 0.3, True), (0.7, 0.9, False), (0.1, 0.3, False)]
)
def test_a_guessed_word_where_nobody_seems_to_speak_is_a_noise(
    no_speech: float, probability: float, is_kept: bool
) -> None:
    [segment] = unit("Thanks.").unit.segments
    word = Word(text=" Thanks.", start_s=0.0, end_s=0.4, probability=probability)
    heard = dataclasses.replace(segment, words=(word,), no_speech_probability=no_speech)
    assert is_noise_line(heard) is is_kept


async def test_each_segment_gets_its_share_and_its_time(config: Config) -> None:
    translation = Translation(candidates=(Candidate(text="A maré sobe, e depois desce.", score=None),))
    first, second = await translate(config, lambda request: translation, unit("The tide rises,", "and then falls."))
    assert (first.id, second.id) == ("pt:u0007-0", "pt:u0007-1")
    assert [line.candidates[0].text.strip() for line in (first, second)] == ["A maré sobe,", "e depois desce."]
    assert (first.room_end_s, second.room_end_s) == (2.0, 4.0)
    assert (first.alignment, first.break_confidences) == ("length", (None,))
    [sure] = second.break_confidences
    assert sure is not None
    assert sure > 0.9


async def test_an_engine_that_reads_context_is_told_what_came_before(config: Config) -> None:
    told = (
        "translation.engine=openai_chat",
        "translation.options={base_url: http://127.0.0.1:9/v1, model: m}",
        "translation.context_lines=2",
        "alignment.strategy=length",
    )
    pool = FakePool(lambda request: Translation(candidates=(Candidate(text="Sim.", score=None),)))
    for chosen in (config, load_config("offline", told)):
        translator = Translator(chosen, pool, None, "pt", Progress(job="test"))  # type: ignore[arg-type]
        for texts in (["One."], ["Two,", "or more."], ["Three."], ["Four."]):
            await translator.translate(unit(*texts))
    without, given = pool.requests[:4], pool.requests[4:]
    assert {(request.context, request.duration_s) for request in without} == {((), None)}
    assert [request.context for request in given] == [
        (),
        ("One.",),
        ("One.", "Two, or more."),
        ("Two, or more.", "Three."),
    ]
    assert [request.duration_s for request in given] == [1.5, 3.0, 1.5, 1.5]


async def test_a_unit_of_one_segment_needs_no_alignment(config: Config) -> None:
    translation = Translation(candidates=(Candidate(text="A maré sobe.", score=None),))
    [line] = await translate(config, lambda request: translation, unit("The tide rises."))
    assert (line.alignment, line.break_confidences) == (None, ())


async def test_a_failed_translation_keeps_the_original_and_says_why(config: Config) -> None:
    [line] = await translate(config, lambda request: ItemError("no such word"), unit("Hello."))
    assert line.id == "pt:u0007"
    assert line.candidates == ()
    assert line.flags == (Flag.TRANSLATION_FAILED,)
    assert line.error == "no such word"


async def test_a_segment_without_words_of_its_own_is_flagged(config: Config) -> None:
    translation = Translation(candidates=(Candidate(text="Sim.", score=None),))
    lines = await translate(config, lambda request: translation, unit("Yes,", "I do."))
    assert [line.flags for line in lines] == [(), (Flag.EMPTY,)]


# --- speaking


def plan(text: str, natural_s: float, *, exact: bool = True) -> Plan:
    return Plan(
        engine="fake",
        voice="v",
        language="pt",
        text=text,
        chunks=(),
        frame_samples=240,
        sample_hz=HZ,
        natural_s=natural_s,
        shortest_s=natural_s * 0.9,
        longest_s=natural_s * 1.5,
        exact=exact,
    )


def speaking_pool(seconds_per_word: float = 0.4) -> FakePool:
    def answer(request: PlanRequest | SynthesiseRequest) -> Any:
        if isinstance(request, PlanRequest):
            if request.text == "impossible":
                return ItemError("cannot be pronounced")
            return plan(request.text, seconds_per_word * len(request.text.split()))
        samples = np.zeros(round(request.duration_s * HZ), np.float32)
        samples.flags.writeable = False  # as Ray hands them over
        return Clip(samples=samples, sample_hz=HZ)

    return FakePool(answer)


def utterance(*texts: str, room_s: float, reference: Reference | None = None) -> Utterance:
    return Utterance(
        id="pt:u0",
        unit_id="u0",
        segment=unit("source").unit.segments[0],
        target="pt",
        room_end_s=room_s,
        source_lufs=-20.0,
        reference=reference,
        candidates=tuple(Candidate(text=text, score=None) for text in texts),
        flags=(),
        error=None,
    )


class Stage:
    """Planner and speaker on one pool, as the pipeline has them."""

    def __init__(self, config: Config, pool: FakePool, meaning: Any = None, progress: Progress | None = None) -> None:
        progress, pace = progress or Progress(job="test"), Pace()
        self.planner = Planner(config, pool, "pt", progress, meaning, pace, LEXICON)  # type: ignore[arg-type]
        self.speaker = Speaker(config, pool, "pt", progress, pace, LEXICON)  # type: ignore[arg-type]

    async def speak(self, *unit: Utterance) -> list[Spoken]:
        planned = with_neighbours(each(await self.planner.plan(unit)))
        return [spoken async for spoken in ordered_map(planned, self.speaker.speak, 8)]


async def each(lines: Sequence[PlannedLine]) -> AsyncIterator[PlannedLine]:
    for line in lines:
        yield line


async def speak(config: Config, line: Utterance, pool: FakePool | None = None, meaning: Any = None) -> Spoken:
    [spoken] = await Stage(config, pool or speaking_pool(), meaning).speak(line)
    return spoken


async def test_a_line_that_fits_is_spoken_at_its_own_pace(config: Config) -> None:
    spoken = await speak(config, utterance("um dois três", room_s=3.0))
    assert spoken.fit is not None
    assert spoken.fit.rung is Rung.NATURAL
    assert spoken.clip is not None
    assert spoken.clip.duration_s == pytest.approx(1.2)


async def test_a_shorter_candidate_is_taken_before_the_first_is_hurried(config: Config) -> None:
    spoken = await speak(config, utterance("um dois três quatro", "um dois", room_s=1.2))
    assert spoken.text == "um dois"
    assert [score.natural_s for score in spoken.candidates] == pytest.approx([1.6, 0.8])


async def test_a_candidate_that_cannot_be_planned_does_not_silence_the_line(config: Config) -> None:
    spoken = await speak(config, utterance("impossible", "um dois", room_s=2.0))
    assert spoken.text == "um dois"
    assert spoken.candidates[0].natural_s is None
    assert [score.standing for score in spoken.candidates] == [Standing.UNPLANNED, Standing.CHOSEN]
    assert spoken.flags == ()


async def test_a_line_with_no_plan_at_all_keeps_the_original(config: Config) -> None:
    spoken = await speak(config, utterance("impossible", room_s=2.0))
    assert spoken.clip is None
    assert spoken.flags == (Flag.SPEECH_FAILED,)
    assert spoken.error == "cannot be pronounced"


async def test_a_line_past_every_rate_is_cut_at_a_word_and_ends_in_time(config: Config) -> None:
    spoken = await speak(config, utterance("um dois três quatro cinco, seis sete oito nove dez", room_s=2.1))
    assert Flag.CUT in spoken.flags
    assert spoken.text == "um dois três quatro cinco, seis sete"  # 2.8 s in 2.05 s is 1.37 times
    assert spoken.clip is not None
    assert spoken.clip.duration_s <= 2.05 + 1e-3


async def test_a_doubtful_translation_is_spoken_with_its_flag(config: Config) -> None:
    doubtful = dataclasses.replace(utterance("um dois três", room_s=3.0), flags=(Flag.OFF_LANGUAGE,), doubt="left")
    spoken = await speak(config, doubtful)
    assert spoken.clip is not None
    assert spoken.flags == (Flag.OFF_LANGUAGE,)


async def test_no_room_keeps_the_original(config: Config) -> None:
    spoken = await speak(config, utterance("um", room_s=0.1))
    assert spoken.clip is None
    assert spoken.flags == (Flag.NO_ROOM,)


@pytest.mark.parametrize(
    ("spoken_s", "room_s", "rung", "duration_s", "flags"),
    [
        (1.0, 3.0, Rung.NATURAL, 1.0, ()),  # shorter than planned: never slowed to the plan's guess
        (2.4, 3.0, Rung.OVERFLOW, 2.4, ()),
        (3.2, 3.05, Rung.STRETCHED, 3.0, ()),
        (3.9, 3.05, Rung.STRETCHED, 3.0, (Flag.FAST,)),
        (6.0, 3.05, Rung.CUT, 3.0, (Flag.FAST, Flag.CUT)),
    ],
)
async def test_an_engine_without_planned_lengths_is_fitted_as_it_spoke(
    config: Config, spoken_s: float, room_s: float, rung: Rung, duration_s: float, flags: tuple[Flag, ...]
) -> None:
    def answer(request: PlanRequest | SynthesiseRequest) -> Any:
        if isinstance(request, PlanRequest):
            return plan(request.text, 1.4, exact=False)
        return Clip(samples=np.zeros(round(spoken_s * HZ), np.float32), sample_hz=HZ)

    spoken = await speak(config, utterance("um dois", room_s=room_s), FakePool(answer))
    assert spoken.fit is not None
    assert spoken.clip is not None
    assert spoken.fit.rung is rung
    assert spoken.clip.duration_s == pytest.approx(duration_s, abs=1e-3)
    assert spoken.flags == flags
    assert spoken.fit.stretch <= 1.4 + 1e-6


async def test_words_cut_for_an_engine_without_planned_lengths_are_flagged(config: Config) -> None:
    def answer(request: PlanRequest | SynthesiseRequest) -> Any:
        if isinstance(request, PlanRequest):
            return plan(request.text, 0.4 * len(request.text.split()), exact=False)
        return Clip(samples=np.zeros(round(request.duration_s * HZ), np.float32), sample_hz=HZ)

    spoken = await speak(config, utterance("um dois três quatro cinco seis", room_s=1.05), FakePool(answer))
    assert spoken.text == "um dois três"
    assert Flag.CUT in spoken.flags


async def test_a_line_cut_short_enough_is_not_called_fast(config: Config) -> None:
    spoken = await speak(config, utterance("um dois três quatro cinco", room_s=0.75))  # one word: 0.4 s in 0.7 s
    assert spoken.text in ("um", "um dois")
    assert (Flag.FAST in spoken.flags) == (spoken.fit is not None and spoken.fit.rate > config.fitting.ordinary_rate)
    assert Flag.CUT in spoken.flags


async def test_the_first_utterance_is_one_that_sounds(config: Config) -> None:
    progress = Progress(job="test")
    stage = Stage(config, speaking_pool(), progress=progress)
    await stage.speak(utterance("um", room_s=0.1))
    assert progress.first_utterance_s is None
    await stage.speak(utterance("um", room_s=3.0))
    assert progress.first_utterance_s is not None


class FakeMeaning:
    """Knows the cosine of each text with its source."""

    def __init__(self, cosines: dict[str, float]) -> None:
        self._cosines = cosines

    def reads(self, *languages: str) -> bool:
        return True

    async def cosines(self, source: str, texts: list[str], order: float) -> list[float | None]:
        return [self._cosines[text] for text in texts]


async def test_a_candidate_far_in_meaning_is_not_said_though_it_fits(config: Config) -> None:
    meaning = FakeMeaning({"um dois três quatro": 0.9, "um dois três": 0.86, "um": 0.5})
    line = utterance("um dois três quatro", "um dois três", "um", room_s=1.4)
    spoken = await speak(config, line, meaning=meaning)
    assert spoken.text == "um dois três"
    assert [score.standing for score in spoken.candidates] == [Standing.WORSE_FIT, Standing.CHOSEN, Standing.FAR]
    assert [score.cosine for score in spoken.candidates] == [0.9, 0.86, 0.5]


async def test_the_nearest_in_meaning_is_said_if_it_fits(config: Config) -> None:
    meaning = FakeMeaning({"um dois três": 0.86, "um dois três quatro": 0.9})
    spoken = await speak(config, utterance("um dois três", "um dois três quatro", room_s=3.0), meaning=meaning)
    assert spoken.text == "um dois três quatro"
    assert [score.standing for score in spoken.candidates] == [Standing.LESS_NEAR, Standing.CHOSEN]


async def test_the_nearest_in_meaning_is_rather_hurried_a_little(config: Config) -> None:
    meaning = FakeMeaning({"um dois três": 0.89, "um dois três quatro": 0.9})
    spoken = await speak(config, utterance("um dois três", "um dois três quatro", room_s=1.6), meaning=meaning)
    assert spoken.text == "um dois três quatro"
    assert spoken.fit is not None
    assert 1.0 < spoken.fit.rate <= config.candidates.nearest_rate


async def test_lines_of_a_unit_take_their_shares_from_one_candidate(config: Config) -> None:
    """Each line alone would take another one's share, and a word between them would be said twice."""
    first = utterance("um dois três quatro cinco", "um dois três", room_s=1.5)
    second = utterance("seis", "quatro cinco seis", room_s=3.0)
    spoken = await Stage(config, speaking_pool()).speak(first, second)
    assert [line.text for line in spoken] == ["um dois três", "quatro cinco seis"]


def moved(line: Utterance, start_s: float, room_end_s: float) -> Utterance:
    segment = dataclasses.replace(line.segment, start_s=start_s, end_s=start_s + 1.0)
    return dataclasses.replace(line, segment=segment, room_end_s=room_end_s)


async def test_a_line_makes_way_for_one_that_would_be_too_fast(config: Config) -> None:
    """The first could sound until 1.95 s; the second needs 2.0 s of the 1.55 s that it has."""
    first = moved(utterance("um dois três quatro", room_s=2.0), 0.0, 2.0)
    second = moved(utterance("um dois três quatro cinco", room_s=2.0), 2.0, 3.6)
    spoken = await Stage(config, speaking_pool()).speak(first, second)
    assert [line.flags for line in spoken] == [(), ()]
    a, b = spoken
    assert a.fit is not None
    assert b.fit is not None
    assert b.start_s == pytest.approx(2.0 - b.fit.lead_s)
    assert 0 < b.fit.lead_s <= config.fitting.max_lead_s
    assert max(a.fit.rate, b.fit.rate) <= config.fitting.ordinary_rate + 1e-6
    assert a.end_s + config.fitting.gap_s <= b.start_s + 1e-3


async def test_a_line_starts_early_only_after_the_one_before(config: Config) -> None:
    """The first cannot end earlier: it is at the highest ordinary rate itself."""
    first = moved(utterance("um dois três quatro cinco seis", room_s=2.0), 0.0, 2.0)
    second = moved(utterance("um dois três quatro cinco", room_s=2.0), 2.0, 3.6)
    a, b = await Stage(config, speaking_pool()).speak(first, second)
    assert b.fit is not None
    assert b.fit.lead_s == pytest.approx(0, abs=1e-9)
    assert b.flags == (Flag.FAST,)
    assert a.end_s <= b.start_s


async def test_a_voice_without_planned_lengths_is_predicted_by_what_it_has_spoken(config: Config) -> None:
    def answer(request: PlanRequest | SynthesiseRequest) -> Any:
        if isinstance(request, PlanRequest):
            return plan(request.text, 1.0, exact=False)
        return Clip(samples=np.zeros(round(1.5 * HZ), np.float32), sample_hz=HZ)

    stage = Stage(config, FakePool(answer))
    first = await stage.speak(utterance("um dois", room_s=9.0))
    again = await stage.speak(utterance("um dois", room_s=9.0))
    assert [line.candidates[0].natural_s for line in (*first, *again)] == pytest.approx([1.0, 1.5])


@pytest.mark.parametrize("factor", [1.1, 1.25, 1.4])
def test_stretching_is_exact_in_length_and_takes_read_only_samples(factor: float) -> None:
    samples = (0.3 * np.sin(2 * np.pi * 220 * np.arange(HZ) / HZ)).astype(np.float32)
    samples.flags.writeable = False
    fit = Fit(rung=Rung.STRETCHED, spoken_s=1.0, duration_s=1.0 / factor, rate=factor)
    clip = stretched(Clip(samples=samples, sample_hz=HZ), fit)
    assert len(clip.samples) == pytest.approx(HZ / factor, abs=1)
    assert float(np.sqrt(np.mean(clip.samples**2))) == pytest.approx(0.3 / np.sqrt(2), rel=0.2)


def test_samples_that_are_not_finite_fail_their_item() -> None:
    fit = Fit(rung=Rung.NATURAL, spoken_s=0.1, duration_s=0.1, rate=1.0)
    with pytest.raises(ItemError, match="finite"):
        stretched(Clip(samples=np.full(2400, np.nan, np.float32), sample_hz=HZ), fit)
