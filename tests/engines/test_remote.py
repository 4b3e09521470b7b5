"""Engines on a server: what its failures cost, which bounds hold, and what it is asked."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse, PlainTextResponse, Response

from actors.engine import make_engine
from actors.errors import ConfigError, EngineLoadError
from actors.host import EngineHost
from actors.transcription.openai_audio import word_texts
from actors.types import (
    ASR_HZ,
    Clip,
    ItemFailure,
    Plan,
    PlanRequest,
    SynthesiseRequest,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
)
from tests.standins import model_server
from tests.standins.model_server import HZ, ModelServer, Reply, completion, error, half, wav

FAST: dict[str, Any] = {"timeout_s": 5, "max_attempts": 3}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.remote.http.FIRST_WAIT_S", 0.001)


@pytest.fixture(scope="module")
def running() -> Iterator[ModelServer]:
    with model_server.serving() as server:
        yield server


@pytest.fixture
def server(running: ModelServer) -> ModelServer:
    running.reset()
    return running


def chat(server: ModelServer, **options: Any) -> EngineHost:
    host = EngineHost("translation", "openai_chat", {**server.options, **FAST, **options})
    host.load()
    return host


def ask(text: str = "The tide rises.", **fields: Any) -> TranslateRequest:
    return TranslateRequest(**{"text": text, "source_language": "en", "target_language": "pt", **fields})


def texts(host: EngineHost, *requests: TranslateRequest) -> list[list[str] | str]:
    """The candidates of each, or the message of its failure."""
    return [
        [candidate.text for candidate in result.candidates] if isinstance(result, Translation) else result.error.message
        for result in host.run(requests).results
    ]


def say(*translations: Any) -> Reply:
    return lambda body: completion(json.dumps({"translations": list(translations)}))


def raw(content: str | None, finish_reason: str = "stop") -> Reply:
    return lambda body: completion(content, finish_reason)


# --- failures


@pytest.mark.parametrize(
    "failure",
    [
        error(429),
        error(429, **{"retry-after": "0.01"}),
        error(429, **{"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        error(500),
        error(503),
        half,
        lambda body: PlainTextResponse("<html>gateway</html>"),
        lambda body: JSONResponse({"choices": []}),
        raw(None),
        raw(""),
        raw("A maré sobe."),
        raw('{"translations": ["A maré sobe."'),
        raw('{"translations": ["A maré sobe."], "note": "free"}'),
        raw('{"translations": "A maré sobe."}'),
        raw('{"translations": []}'),
        raw('{"translations": [3]}'),
        raw('{"translations": ["A maré sobe."]}', "length"),
        say(" ", "…", "\u0007maré"),
        say("maré " * 100),
    ],
    ids=lambda reply: "",
)
def test_a_failure_costs_another_attempt(server: ModelServer, failure: Reply) -> None:
    host = chat(server)
    server.replies.extend([failure, say("A maré sobe.")])
    assert texts(host, ask()) == [["A maré sobe."]]
    assert len(server.requests) == 2
    first, second = server.requests
    assert first["seed"] != second["seed"]
    assert (first["temperature"], second["temperature"]) == (0.0, 0.5)


def test_an_item_that_keeps_failing_fails_alone(server: ModelServer) -> None:
    host = chat(server, concurrency=1)
    server.replies.extend([say("Um."), raw("no"), raw("no"), raw("no"), say("Três.")])
    first, second, third = texts(host, ask("One."), ask("Two."), ask("Three."))
    assert (first, third) == (["Um."], ["Três."])
    assert "127.0.0.1" in second
    assert "after 3 attempts" in second
    assert len(server.requests) == 5


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_refusal_is_final_and_is_told(server: ModelServer, status: int) -> None:
    host = chat(server)
    server.replies.append(error(status, "context length exceeded"))
    [message] = texts(host, ask())
    assert f"answered {status}" in message
    assert "context length exceeded" in message
    assert len(server.requests) == 1


def test_an_answer_is_bounded_in_bytes(server: ModelServer) -> None:
    host = chat(server, max_answer_bytes=2000, max_attempts=1)
    server.replies.append(say("A maré sobe. " * 1000))
    [message] = texts(host, ask())
    assert "at most 2000 bytes" in message


def test_a_server_that_does_not_end_is_left(server: ModelServer) -> None:
    def slow(body: dict[str, Any]) -> Response:
        time.sleep(1.0)
        return completion("late")

    host = chat(server, timeout_s=0.1, max_attempts=2)
    server.replies.extend([slow, slow])
    [message] = texts(host, ask())
    assert "Timeout" in message


def test_a_batch_ends_in_its_time(server: ModelServer) -> None:
    """Waits that a server asks for count too."""
    host = chat(server, batch_timeout_s=0.5, max_attempts=20)
    server.replies.extend([error(429, **{"retry-after": "3600"})] * 2)
    assert all("429" in message for message in texts(host, ask("One."), ask("Two.")))
    assert len(server.requests) == 2


def test_a_batch_is_asked_for_at_a_time(server: ModelServer) -> None:
    def slow(body: dict[str, Any]) -> Response:
        time.sleep(0.1)
        return server.chat(body)

    host = chat(server, concurrency=3)
    server.replies.extend([slow] * 6)
    results = texts(host, *(ask(f"Line {number}.") for number in range(6)))
    assert results == [[f"Line {number}."[::-1]] for number in range(6)]
    assert server.most_at_a_time == 3


# --- loading


def test_the_key_is_sent_and_never_told(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_KEY", "sk-secret")
    host = chat(server, api_key_env="LLM_KEY")
    server.replies.append(error(401, "the key sk-secret is wrong"))
    [message] = texts(host, ask())
    assert server.headers[-1]["authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in message


@pytest.mark.parametrize("value", [None, " "])
def test_a_missing_key_is_named(server: ModelServer, value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("LLM_KEY", value)
    with pytest.raises(EngineLoadError, match=r"LLM_KEY \(options.api_key_env\)"):
        chat(server, api_key_env="LLM_KEY")


def test_another_model_is_told_the_known(server: ModelServer) -> None:
    with pytest.raises(EngineLoadError, match="a model of the server: standin; found 'gpt'"):
        chat(server, model="gpt")


def test_a_tag_may_be_left_out(server: ModelServer) -> None:
    server.models = JSONResponse({"data": [{"id": "qwen3:8b"}]})
    chat(server, model="qwen3")
    with pytest.raises(EngineLoadError):
        chat(server, model="qwen")


def test_a_server_that_is_not_there_fails_the_load() -> None:
    host = EngineHost(
        "translation", "openai_chat", {"base_url": "http://127.0.0.1:9/v1", "model": "m", "start_timeout_s": 0.2}
    )
    with pytest.raises(EngineLoadError, match=r"127.0.0.1:9.*ConnectError.*base_url"):
        host.load()


@pytest.mark.parametrize("url", ["", "raydub-llm:8000", "ftp://a/v1", "http://", "http://user:word@host/v1"])
def test_a_wrong_address_is_refused_before_any_load(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        make_engine("translation", "openai_chat", {"base_url": url, "model": "m"})


def test_results_are_told_apart_by_model_and_prompt_alone(server: ModelServer) -> None:
    def identity(**options: Any) -> Any:
        return make_engine("translation", "openai_chat", {**server.options, **options}).identity()

    same = [{"base_url": "http://b/v1"}, {"api_key_env": "K"}, {"concurrency": 2}, {"timeout_s": 1}]
    assert all(identity(**options) == identity() for options in same)
    other = [{"model": "m"}, {"weights": "c0ffee"}, {"temperature": 0.3}, {"instructions": "Formal."}]
    assert all(identity(**options) != identity() for options in other)


# --- what a chat is asked


def test_the_model_is_told_all_that_the_line_needs(server: ModelServer) -> None:
    host = chat(server, instructions="Be formal.", glossary={"pt-BR": {"tide": "maré", "boat": "barco"}})
    request = ask(num_candidates=3, context=("We came at noon.", "The boat lay dry."), duration_s=1.5)
    [candidates] = texts(host, request)
    assert len(candidates) == 3
    [question] = server.questions
    assert question == {
        "from": "English (en)",
        "into": "Portuguese (pt)",
        "line": "The tide rises.",
        "before": ["We came at noon.", "The boat lay dry."],
        "terms": {"tide": "maré"},
        "syllables": 8,
        "translations": 3,
    }
    [body] = server.requests
    assert body["messages"][0]["content"].endswith("Be formal.")
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["translations"]["maxItems"] == 3


def test_a_term_left_out_is_asked_for_once_more(server: ModelServer) -> None:
    host = chat(server, glossary={"pt": {"tide": "maré"}})
    server.replies.extend([say("A água sobe."), say("A maré sobe.")])
    assert texts(host, ask()) == [["A maré sobe."]]
    assert 'render "tide" as "maré"' in server.requests[1]["messages"][0]["content"]


@pytest.mark.parametrize("second", [say("As águas sobem."), error(400)], ids=["again", "refused"])
def test_a_translation_without_its_term_is_better_than_none(server: ModelServer, second: Reply) -> None:
    host = chat(server, glossary={"pt": {"tide": "maré"}})
    server.replies.extend([say("A água sobe."), second])
    assert texts(host, ask()) == [["A água sobe."]]


@pytest.mark.parametrize(
    "content",
    [
        '```json\n{"translations": ["A maré sobe."]}\n```',
        '<think>tide is "maré" {}</think>\n{"translations": ["A maré sobe."]}',
        '{"translations": ["A maré\\n sobe.", "A maré sobe.", " "]}',
    ],
)
def test_an_answer_may_be_wrapped(server: ModelServer, content: str) -> None:
    host = chat(server, answer_format="text")
    server.replies.append(raw(content))
    assert texts(host, ask(num_candidates=2)) == [["A maré sobe."]]
    assert "response_format" not in server.requests[0]


def test_more_translations_than_asked_for_are_left(server: ModelServer) -> None:
    host = chat(server)
    server.replies.append(say("Um.", "Dois."))
    assert texts(host, ask()) == [["Um."]]


def test_marks_alone_ask_nobody(server: ModelServer) -> None:
    assert texts(chat(server), ask("…?!")) == [["…?!"]]
    assert server.requests == []


def test_fields_of_a_vendor_are_set(server: ModelServer) -> None:
    host = chat(
        server,
        temperature=None,
        max_tokens_field="max_completion_tokens",
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
    )
    texts(host, ask())
    [body] = server.requests
    assert "temperature" not in body
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == 2048
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


# --- speech


def speaker(server: ModelServer, **options: Any) -> EngineHost:
    host = EngineHost("speech", "openai_speech", {**server.options, **FAST, **options})
    host.load()
    return host


def clip(host: EngineHost, text: str = "A maré sobe devagar.") -> Clip | str:
    [plan] = host.run([PlanRequest(text=text, language="pt-BR")]).results
    assert isinstance(plan, Plan)
    assert not plan.exact
    [result] = host.run([SynthesiseRequest(plan=plan, duration_s=plan.natural_s)]).results
    return result.error.message if isinstance(result, ItemFailure) else result


@pytest.mark.parametrize(("form", "hz"), [("wav", HZ), ("pcm", 24_000)])
def test_speech_comes_at_its_own_length(server: ModelServer, form: str, hz: int) -> None:
    found = clip(speaker(server, format=form, voices=["bella", "ana"], language_field="language", instructions="Calm."))
    assert isinstance(found, Clip)
    assert (found.sample_hz, found.duration_s) == (hz, 1.0)
    assert np.abs(found.samples).max() == pytest.approx(0.3, abs=0.01)
    [body] = server.requests
    assert body == {
        "model": "standin",
        "input": "A maré sobe devagar.",
        "voice": "bella",
        "response_format": form,
        "instructions": "Calm.",
        "language": "pt-BR",
    }


def audio(content: bytes) -> Reply:
    return lambda body: Response(content, media_type="audio/wav")


HUM = (8000 * np.sin(np.arange(HZ) / 20)).astype("<i2")


@pytest.mark.parametrize(
    "failure",
    [
        audio(b""),
        audio(b"RIFF"),
        audio(wav(HUM, HZ)[:30]),
        audio(wav(np.zeros(HZ), HZ)),
        audio(wav(np.tile(HUM, 60), HZ)),
        audio(json.dumps({"error": "busy"}).encode()),
        error(500),
    ],
    ids=["nothing", "start", "header", "silence", "endless", "json", "500"],
)
def test_speech_of_no_use_is_asked_for_again(server: ModelServer, failure: Reply) -> None:
    host = speaker(server)
    server.replies.append(failure)
    assert isinstance(clip(host), Clip)
    assert len(server.requests) == 2


def test_a_streamed_file_is_as_long_as_its_bytes(server: ModelServer) -> None:
    """Its header was written before its length was known."""
    streamed = bytearray(wav(np.repeat(HUM, 2), HZ, num_channels=2))
    streamed[4:8] = streamed[40:44] = b"\xff\xff\xff\xff"
    host = speaker(server)
    server.replies.append(audio(bytes(streamed)))
    found = clip(host)
    assert isinstance(found, Clip)
    assert found.duration_s == 1.0


# --- transcription


def hear(server: ModelServer, answer: dict[str, Any] | None = None, **fields: Any) -> Transcript | str:
    host = EngineHost("transcription", "openai_audio", {**server.options, **FAST, "initial_prompt": "Tides."})
    host.load()
    if answer is not None:
        server.replies.append(lambda body: JSONResponse(answer))
    request = TranscribeRequest(
        **{"samples": np.full(4 * ASR_HZ, 0.1, np.float32), "language": None, "prompt": "The sea.", **fields}
    )
    [result] = host.run([request]).results
    return result.error.message if isinstance(result, ItemFailure) else result


def test_a_window_is_sent_as_a_file_with_its_prompt(server: ModelServer) -> None:
    found = hear(server, language="en-GB")
    assert isinstance(found, Transcript)
    assert found.language == "en-GB"
    [body] = server.requests
    assert (body["language"], body["prompt"], body["response_format"]) == ("en", "Tides. The sea.", "verbose_json")
    assert body["timestamp_granularities[]"] == ["word", "segment"]
    assert len(body["file"]) == 44 + 2 * 4 * ASR_HZ


def recording(*segments: tuple[float, float, str], words: list[tuple[str, float, float]], **more: Any) -> Any:
    return {
        "language": "english",
        "segments": [{"start": start, "end": end, "text": text, **more} for start, end, text in segments],
        "words": [{"word": word, "start": start, "end": end} for word, start, end in words],
    }


def test_words_get_their_marks_and_length_back(server: ModelServer) -> None:
    answer = recording(
        (0.0, 1.5, " Twenty-one boats, sir?"),
        (1.5, 3.9, ' "Yes!"'),
        words=[("Twenty", 0.0, 0.5), ("one", 0.5, 0.5), ("boats", 0.4, 1.0), ("sir", 1.0, 1.4), ("yes", 1.6, 9.0)],
    )
    found = hear(server, answer)
    assert isinstance(found, Transcript)
    assert found.language == "en"
    assert [segment.text for segment in found.segments] == ["Twenty-one boats, sir?", '"Yes!"']
    words = [word for segment in found.segments for word in segment.words]
    assert [word.text for word in words] == [" Twenty-", "one", " boats,", " sir?", ' "Yes!"']
    assert all(a.end_s <= b.start_s for a, b in itertools.pairwise(words))
    assert all(word.start_s < word.end_s <= 4.0 for word in words)


def test_words_may_lie_in_their_segments(server: ModelServer) -> None:
    words = [{"word": " Olá,", "start": 0.1, "end": 0.4, "probability": 0.5}, {"word": " mar.", "start": 0.4, "end": 1}]
    segment = {"start": 0.1, "end": 1.0, "text": " Olá, mar.", "words": words, "avg_logprob": -0.1}
    found = hear(server, {"language": "pt", "segments": [segment]})
    assert isinstance(found, Transcript)
    assert found.language == "pt"
    assert [word.text for word in found.segments[0].words] == [" Olá,", " mar."]
    assert [round(word.probability, 2) for word in found.segments[0].words] == [0.5, 0.9]


@pytest.mark.parametrize(
    "answer", [{"text": "The tide."}, recording((0.0, 1.0, "The tide."), words=[])], ids=["text", "segments"]
)
def test_a_server_without_word_times_is_told_of(server: ModelServer, answer: Any) -> None:
    message = hear(server, answer)
    assert isinstance(message, str)
    assert "verbose_json" in message or "times of words" in message
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        recording(words=[]),
        recording((0.0, 1.0, " ..."), words=[]),
        recording((0.0, 1.0, "Thanks."), words=[("Thanks", 0, 1)], no_speech_prob=0.9, avg_logprob=-1.5),
        {"text": "", "segments": None},
    ],
)
def test_nothing_said_is_a_transcript(server: ModelServer, answer: Any) -> None:
    found = hear(server, answer)
    assert isinstance(found, Transcript)
    assert (found.language, found.segments) == ("und", ())


@pytest.mark.parametrize(
    "answer",
    [
        {"segments": [{"start": "soon"}]},
        recording((-1.0, 1.0, "a"), words=[]),
        {**recording((0.0, 1.0, "a"), words=[("a", 0, 1)]), "language": "no such language"},
    ],
)
def test_a_transcript_of_no_use_is_asked_for_again(server: ModelServer, answer: Any) -> None:
    assert isinstance(hear(server, answer), Transcript)
    assert len(server.requests) == 2


WORDS = st.text("aAeçß1", min_size=1, max_size=5)
MARKS = st.sampled_from([" ", ", ", "-", '" ¿', ". "])


@given(st.lists(st.tuples(WORDS, MARKS), min_size=1), st.sampled_from(["", " ", "“"]))
def test_words_make_up_their_text(parts: list[tuple[str, str]], lead: str) -> None:
    text = lead + "".join(word + mark for word, mark in parts)
    cut = word_texts(text, [word for word, _ in parts])
    assert len(cut) == len(parts)
    assert "".join(cut) == text
    assert all(word in piece for (word, _), piece in zip(parts, cut, strict=True))


def test_words_that_are_not_in_the_text_are_taken_as_they_are() -> None:
    assert word_texts("At 9 we left.", ["At", "nine", "we", "left"]) == [" At", " nine", " we", " left"]
    assert word_texts("九時に出た。", ["九時", "に", "発った"]) == ["九時", "に", "発った"]
