"""Requests to try any engine of a task with, and what every good result of that task must satisfy.

Languages are picked from what an engine says it supports, so a new engine needs nothing here.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from actors import languages
from actors.engine import Engine
from actors.host import EngineHost
from actors.types import (
    ASR_HZ,
    Clip,
    Embedding,
    EmbedRequest,
    Plan,
    PlanRequest,
    Samples,
    Span,
    SynthesiseRequest,
    Task,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
    VoicePrints,
    VoiceRequest,
)

UNSPOKEN = "tlh"
"""Klingon: a valid tag that no model here was trained on."""

PHRASES = {
    "en": ("The harbour was quiet before the ships arrived.", "We kept the windows closed.", "Good morning!"),
    "pt": ("O porto estava calmo antes de os navios chegarem.", "Deixamos as janelas fechadas.", "Bom dia!"),
    "es": ("El puerto estaba tranquilo antes de llegar los barcos.", "Dejamos las ventanas cerradas.", "¡Buenos días!"),
    "fr": ("Le port était calme avant l'arrivée des navires.", "Nous avons laissé les fenêtres fermées.", "Bonjour !"),
    "de": ("Der Hafen war ruhig, bevor die Schiffe kamen.", "Wir ließen die Fenster zu.", "Guten Morgen!"),
    "ja": ("船が着く前、港は静かだった。", "窓を閉めたままにした。", "おはよう!"),
    "zh": ("船到之前,港口很安静。", "我们一直关着窗户。", "早上好!"),
}

ODD_TEXTS = {
    "one letter": "a",
    "one digit": "7",
    "punctuation alone": "?!",
    "emoji alone": "😀",
    "emoji inside": "We 😀 kept the windows closed ❤️.",
    "joined emoji": "👩‍👩‍👧‍👦",
    "right to left": "مرحبا بالعالم",
    "direction override": "\u202ewindows\u202c",
    "combining marks": "Cafe\u0301 e\u0301te\u0301",
    "stacked marks": "Z" + "\u0351" * 40,
    "control characters": "one\x00two\x07three",
    "zero width": "\u200b",
    "lone surrogate": "one \ud800 two",
    "markup": "<b>bold</b> & {curly} %s \\n",
    "line breaks": "One.\n\nTwo,\r\nthree.",
    "no spaces": "x" * 500,
    "long": "We kept the windows closed, and nobody asked why. " * 60,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSamples:
    good: tuple[Any, ...]
    """Must succeed."""
    bad: Mapping[str, Any]
    """Must fail, each alone."""
    odd: Mapping[str, Any]
    """May succeed or fail, but alone."""
    unsupported: tuple[Any, ...]
    """In languages the engine says it does not support."""
    languages: tuple[tuple[str, ...], ...]
    """What the good ones are in, as ``supports`` takes it."""


def make_samples(task: Task, engine: Engine[Any, Any], host: EngineHost) -> EngineSamples:
    """``engine`` is asked and never loaded; ``host`` is loaded, for requests made of the engine's own results."""
    if task == "diarization":
        return _diarization()
    if task == "transcription":
        return _transcription(engine)
    if task == "translation":
        return _translation(engine)
    if task == "embedding":
        return _embedding(engine)
    return _speech(engine, host)


def _diarization() -> EngineSamples:
    clips = [spoken(text) for text in PHRASES["en"][:2]]
    noise = 0.05 * np.random.default_rng(0).standard_normal(2 * ASR_HZ).astype(np.float32)

    def ask(samples: Samples, *pieces: tuple[float, float]) -> VoiceRequest:
        return VoiceRequest(samples=samples, pieces=tuple(Span(start_s=start, end_s=end) for start, end in pieces))

    return EngineSamples(
        good=(ask(clips[0], (0.0, 1.5), (0.75, 2.0)), ask(clips[1], (0.2, 1.0)), ask(clips[1])),
        bad={
            "not a number": ask(np.full(ASR_HZ, np.nan, np.float32), (0.0, 1.0)),
            "two channels": ask(np.zeros((2, ASR_HZ), np.float32), (0.0, 1.0)),
            "beyond the end": ask(clips[0], (0.0, 1.0), (100.0, 101.0)),
            "before the start": ask(clips[0], (-1.0, 0.4)),
            "too long": ask(np.zeros(5 * ASR_HZ, np.float32), (0.0, 2.0)),
            "empty piece": ask(clips[0], (1.0, 1.0)),
        },
        odd={"silence": ask(np.zeros(ASR_HZ, np.float32), (0.0, 1.0)), "noise": ask(noise, (0.0, 1.5), (1.0, 1.1))},
        unsupported=(),
        languages=((),),  # a voice has no language
    )


def _transcription(engine: Engine[Any, Any]) -> EngineSamples:
    if not engine.supports("en"):
        pytest.skip(f"the spoken sample is English; the engine hears {engine.describe_languages()}")
    rng = np.random.default_rng(0)
    clips = [spoken(text) for text in PHRASES["en"][:2]]
    audio = {
        "empty": np.zeros(0, np.float32),
        "one sample": np.ones(1, np.float32),
        "silence": np.zeros(3 * ASR_HZ, np.float32),
        "noise": (0.05 * rng.standard_normal(3 * ASR_HZ)).astype(np.float32),
        "full scale": np.sign(np.sin(np.arange(ASR_HZ) / 8)).astype(np.float32),
        "offset": np.full(ASR_HZ, 0.5, np.float32),
        "30 s": np.resize(np.concatenate([clips[0], np.zeros(5 * ASR_HZ, np.float32)]), 30 * ASR_HZ),
    }
    return EngineSamples(
        good=(
            TranscribeRequest(samples=clips[0], language="en"),
            TranscribeRequest(samples=clips[1], language=None),
            TranscribeRequest(samples=clips[1], language="en-US", prompt="A story of the sea."),
        ),
        bad={
            "not a number": TranscribeRequest(samples=np.full(ASR_HZ, np.nan, np.float32), language="en"),
            "two channels": TranscribeRequest(samples=np.zeros((2, ASR_HZ), np.float32), language="en"),
            "over 30 s": TranscribeRequest(samples=np.zeros(31 * ASR_HZ, np.float32), language="en"),
        },
        odd={name: TranscribeRequest(samples=samples, language=None) for name, samples in audio.items()},
        unsupported=(TranscribeRequest(samples=clips[0], language=UNSPOKEN),),
        languages=(("en",),),
    )


def _translation(engine: Engine[Any, Any]) -> EngineSamples:
    pairs = _supported(engine, list(permutations(PHRASES, 2)))[:4]
    source, target = pairs[0]

    def ask(text: str, pair: tuple[str, ...] = pairs[0]) -> TranslateRequest:
        return TranslateRequest(text=text, source_language=pair[0], target_language=pair[1])

    return EngineSamples(
        good=(
            *(ask(text, pair) for pair in pairs for text in PHRASES[pair[0]]),
            TranslateRequest(text=PHRASES[source][0], source_language=source, target_language=target, num_candidates=3),
        ),
        bad={"empty": ask(""), "whitespace": ask(" \n\t")},
        odd={name: ask(text) for name, text in ODD_TEXTS.items()},
        unsupported=(
            ask(PHRASES[source][0], (source, UNSPOKEN)),
            ask(PHRASES[source][0], (UNSPOKEN, target)),
        ),
        languages=tuple(pairs),
    )


def _embedding(engine: Engine[Any, Any]) -> EngineSamples:
    spoken_here = _supported(engine, [(language,) for language in PHRASES])
    return EngineSamples(
        good=tuple(EmbedRequest(text=text) for (language,) in spoken_here for text in PHRASES[language]),
        bad={"empty": EmbedRequest(text=""), "whitespace": EmbedRequest(text=" \n\t")},
        odd={name: EmbedRequest(text=text) for name, text in ODD_TEXTS.items()},
        unsupported=(),  # a text to embed carries no language
        languages=tuple(spoken_here),
    )


def _speech(engine: Engine[Any, Any], host: EngineHost) -> EngineSamples:
    spoken_here = [language for (language,) in _supported(engine, [(language,) for language in PHRASES])]
    plans = [
        PlanRequest(text=text, language=language) for language in spoken_here[:2] for text in PHRASES[language][1:]
    ]
    planned = [plan for plan in host.run(plans).results if isinstance(plan, Plan)]
    assert len(planned) == len(plans), host.run(plans).results
    language = spoken_here[0]
    longer = (planned[0].natural_s + planned[0].longest_s) / 2
    return EngineSamples(
        good=(
            plans[0],
            SynthesiseRequest(plan=planned[0], duration_s=planned[0].natural_s),
            *plans[1:],
            SynthesiseRequest(plan=planned[1], duration_s=planned[1].shortest_s),
            SynthesiseRequest(plan=planned[0], duration_s=longer),
        ),
        bad={
            "empty": PlanRequest(text="", language=language),
            "whitespace": PlanRequest(text=" \n\t", language=language),
            "unknown voice": PlanRequest(text=PHRASES[language][0], language=language, voice="no such voice"),
        },
        odd={name: PlanRequest(text=text, language=language) for name, text in ODD_TEXTS.items()},
        unsupported=(PlanRequest(text=PHRASES[language][0], language=UNSPOKEN),),
        languages=tuple((language,) for language in spoken_here),
    )


def _supported(engine: Engine[Any, Any], candidates: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    found = [candidate for candidate in candidates if engine.supports(*candidate)]
    if not found:
        pytest.skip(f"PHRASES has no text for an engine of {engine.describe_languages()}: add some")
    return found


@functools.cache
def spoken(text: str) -> Samples:
    """English speech at ``ASR_HZ``, by a model that is no engine under test here."""
    hibari = pytest.importorskip("hibari")
    soxr = pytest.importorskip("soxr")
    voice = hibari.Hibari()
    samples: Samples = soxr.resample(voice(text, seed=0), hibari.SAMPLE_RATE, ASR_HZ).astype(np.float32)
    return samples


# --- what a result must satisfy


def check_result(request: Any, result: Any) -> None:
    """Raise AssertionError unless ``result`` is a sound answer to ``request``."""
    match request, result:
        case VoiceRequest(), VoicePrints():
            assert result.vectors.dtype == result.pitches_hz.dtype == np.float32
            assert len(result.vectors) == len(result.pitches_hz) == len(request.pieces)
            assert np.linalg.norm(result.vectors, axis=1) == pytest.approx(1.0, abs=1e-4)
        case TranscribeRequest(), Transcript():
            _check_transcript(request, result)
        case TranslateRequest(), Translation():
            assert 1 <= len(result.candidates) <= request.num_candidates
            assert all(candidate.text.strip() for candidate in result.candidates)
            scores = [candidate.score for candidate in result.candidates if candidate.score is not None]
            assert scores == sorted(scores, reverse=True)
        case EmbedRequest(), Embedding():
            assert result.vector.dtype == np.float32
            assert result.vector.ndim == 1
            assert np.linalg.norm(result.vector) == pytest.approx(1.0, abs=1e-4)
        case PlanRequest(), Plan():
            assert 0.0 < result.shortest_s <= result.natural_s <= result.longest_s
            assert result.text == request.text
            assert all(len(chunk.tokens) == len(chunk.frames) > 0 for chunk in result.chunks)
            assert all((chunk.frames >= 0.0).all() for chunk in result.chunks)
        case SynthesiseRequest(), Clip():
            assert result.samples.dtype == np.float32
            assert result.samples.ndim == 1
            assert np.isfinite(result.samples).all()
            assert np.abs(result.samples).max(initial=0.0) <= 1.0
            if request.plan.exact:
                frame_s = request.plan.frame_samples / request.plan.sample_hz
                assert result.duration_s == pytest.approx(request.duration_s, abs=frame_s)
        case _:
            pytest.fail(f"{type(result).__name__} is no answer to {type(request).__name__}: {result!r}")


def _check_transcript(request: TranscribeRequest, transcript: Transcript) -> None:
    languages.normalise(transcript.language)
    assert 0.0 <= transcript.language_probability <= 1.0
    clock_s = 0.0
    for segment in transcript.segments:
        assert segment.text.strip()
        assert "".join(word.text for word in segment.words).strip() == segment.text
        assert (segment.start_s, segment.end_s) == (segment.words[0].start_s, segment.words[-1].end_s)
        for word in segment.words:
            assert clock_s <= word.start_s < word.end_s
            assert word.text.strip()
            clock_s = word.end_s
    assert clock_s <= len(request.samples) / ASR_HZ


VECTOR_TOLERANCE = 1e-5
"""Per component: sums in another order, as a batch of another shape takes them."""
AUDIO_TOLERANCE = 1e-4
"""Of full scale (-80 dB), for the same reason."""


SCORE_TOLERANCE = 1e-5
"""Of a probability or its logarithm, likewise. Times are multiples of more."""


def assert_same(a: Any, b: Any) -> None:
    """Text and times exactly; scores, vectors and audio within the tolerances above."""
    assert type(a) is type(b)
    match a:
        case Embedding():
            np.testing.assert_allclose(a.vector, b.vector, rtol=0.0, atol=VECTOR_TOLERANCE)
        case VoicePrints():
            np.testing.assert_allclose(a.vectors, b.vectors, rtol=0.0, atol=VECTOR_TOLERANCE)
            np.testing.assert_array_equal(a.pitches_hz, b.pitches_hz)
        case Clip():
            assert a.sample_hz == b.sample_hz
            np.testing.assert_allclose(a.samples, b.samples, rtol=0.0, atol=AUDIO_TOLERANCE)
        case Plan():
            assert (a.voice, a.language, a.text, a.natural_s) == (b.voice, b.language, b.text, b.natural_s)
            for chunk, other in zip(a.chunks, b.chunks, strict=True):
                np.testing.assert_array_equal(chunk.tokens, other.tokens)
                np.testing.assert_allclose(chunk.frames, other.frames, rtol=0.0, atol=VECTOR_TOLERANCE)
        case _:
            assert _is_close(a, b), (a, b)


def _is_close(a: Any, b: Any) -> bool:
    """Fields, items and their fields; numbers within ``SCORE_TOLERANCE``."""
    if type(a) is not type(b):
        return False
    if dataclasses.is_dataclass(a):
        return all(_is_close(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_is_close, a, b))
    if isinstance(a, float):
        return math.isclose(a, b, abs_tol=SCORE_TOLERANCE)
    return bool(a == b)
