"""Details of the imitated APIs that real clients depend on; models are stood in for."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import openai
import pytest
from libretranslatepy import LibreTranslateAPI

from serve.inference.inference import Inference
from tests.api.server import STANDINS, Running, running
from tests.media import AudioSpec, make_media, silence, speech

TEXT = "Good morning. The kettle is on the stove."


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("data"), *STANDINS, config="base") as service:
        yield service


@pytest.fixture(scope="module")
def http(service: Running) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    audio = AudioSpec(samples=speech(TEXT, channels=1), codec="pcm_s16le")
    return make_media(tmp_path_factory.mktemp("api") / "talk.wav", audio=[audio]).read_bytes()


def spoken(http: httpx.Client, **fields: Any) -> httpx.Response:
    return http.post("/v1/audio/speech", json={"model": "tts-1", "voice": "alloy", "input": TEXT, **fields})


def transcribed(http: httpx.Client, recording: bytes, **fields: Any) -> httpx.Response:
    return http.post("/v1/audio/transcriptions", data={"model": "whisper-1", **fields}, files={"file": recording})


# --- OpenAI: models and speech


@pytest.mark.parametrize("name", ["whisper-1", "tts-1", "gpt-4o-mini-tts", "text-embedding-3-small"])
def test_names_that_clients_send_by_default_are_listed_and_found(client: openai.OpenAI, name: str) -> None:
    assert client.models.retrieve(name).id == name
    assert name in [model.id for model in client.models.list()]


def test_another_name_serves_with_a_warning_that_it_had_no_effect(http: httpx.Client) -> None:
    assert "warning" not in spoken(http).headers
    answer = spoken(http, model="my-own-model", instructions="Whisper.")
    assert answer.status_code == 200
    assert answer.headers["warning"] == '299 raydub "ignored here: model, instructions"'


@pytest.mark.parametrize(
    ("voice", "warned"), [("heart", False), ("af_heart", False), ("bf_emma", True), ("alloy", False), ("other", False)]
)
def test_voices_of_kokoro_by_their_own_names(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch, voice: str, warned: bool
) -> None:
    monkeypatch.setattr(Inference, "voices", lambda *_: ("heart",))
    answer = spoken(http, voice=voice)
    assert (answer.status_code, "warning" in answer.headers) == (200, warned)


@pytest.mark.parametrize("form", ["mp3", "wav", "pcm", "flac", "opus", "aac"])
def test_events_are_split_by_two_line_feeds_and_none_is_empty(http: httpx.Client, form: str) -> None:
    answer = spoken(http, stream_format="sse", response_format=form)
    assert "\r" not in answer.text
    *deltas, done = [json.loads(block.removeprefix("data: ")) for block in answer.text.strip().split("\n\n")]
    assert done["type"] == "speech.audio.done"
    assert all(base64.b64decode(event["audio"]) for event in deltas)


@pytest.mark.parametrize("hz", [8000, 16_000, 22_050, 48_000])
def test_speech_at_a_chosen_sample_rate(http: httpx.Client, hz: int) -> None:
    answer = spoken(http, response_format="wav", sample_rate=hz)
    with av.open(io.BytesIO(answer.content)) as container:
        stream = container.streams.audio[0]
        seconds = sum(frame.samples for frame in container.decode(stream)) / stream.rate
    assert stream.rate == hz
    natural_s = len(spoken(http, response_format="pcm").content) / 2 / 24_000
    assert seconds == pytest.approx(natural_s, abs=0.01)


@pytest.mark.parametrize(("form", "hz"), [("wav", 7999), ("wav", 48_001), ("opus", 22_050), ("mp3", 20_000)])
def test_a_sample_rate_that_cannot_be_is_refused(http: httpx.Client, form: str, hz: int) -> None:
    answer = spoken(http, response_format=form, sample_rate=hz)
    assert answer.status_code == 422
    assert str(hz) in answer.text or "48000" in answer.text or "8000" in answer.text


def test_content_types_are_those_of_openai(http: httpx.Client, recording: bytes) -> None:
    assert spoken(http, response_format="pcm").headers["content-type"] == "audio/pcm"
    srt = transcribed(http, recording, response_format="srt")
    assert srt.headers["content-type"] == "text/plain; charset=utf-8"
    assert srt.text.startswith("1\n00:00:0")


@pytest.mark.parametrize("text", ["   ", "...", "\N{SMILING FACE WITH OPEN MOUTH}", "♪", "—"])
def test_text_with_nothing_to_say_is_refused(http: httpx.Client, text: str) -> None:
    answer = spoken(http, input=text)
    assert answer.status_code == 422
    assert "read aloud" in answer.json()["error"]["message"]


def test_symbols_between_words_are_no_speech(http: httpx.Client) -> None:
    plain, with_symbol = spoken(http, response_format="pcm"), spoken(http, input=f"{TEXT} ♪", response_format="pcm")
    assert (with_symbol.status_code, len(with_symbol.content)) == (200, len(plain.content))


# --- OpenAI: recordings and embeddings


@pytest.mark.parametrize("language", ["", "auto", "english", "Portuguese", "EN", "pt-BR"])
def test_languages_by_tag_or_name(http: httpx.Client, recording: bytes, language: str) -> None:
    answer = transcribed(http, recording, language=language, response_format="verbose_json")
    assert answer.status_code == 200
    assert answer.json()["language"][:7] in ("english", "portugu")


def test_a_language_that_is_none_is_refused_with_advice(http: httpx.Client, recording: bytes) -> None:
    answer = transcribed(http, recording, language="notalanguage")
    assert (answer.status_code, "BCP-47" in answer.text) == (422, True)


def test_a_temperature_is_ignored_with_a_warning(http: httpx.Client, recording: bytes) -> None:
    answer = transcribed(http, recording, temperature=0.2, chunking_strategy="auto")
    assert answer.status_code == 200
    assert "temperature" in answer.headers["warning"]
    assert "chunking_strategy" in answer.headers["warning"]


def test_a_fields_name_cannot_break_the_header_that_names_it(http: httpx.Client, recording: bytes) -> None:
    answer = transcribed(http, recording, **{'a\n"b\\ü': "c"})
    assert answer.headers["warning"].startswith('299 raydub "ignored here: a')
    assert not set(answer.headers["warning"][15:-1]) & set('\n"\\ü')


@pytest.mark.parametrize("name", ["timestamp_granularities[]", "timestamp_granularities"])
def test_words_are_sent_when_asked_for(http: httpx.Client, recording: bytes, name: str) -> None:
    asked = {"response_format": "verbose_json", name: ["word", "segment"]}
    body = transcribed(http, recording, **asked).json()
    assert body["segments"]
    assert body["words"]
    assert all(word["start"] <= word["end"] for word in body["words"])
    assert "words" not in transcribed(http, recording, response_format="verbose_json").json()


@pytest.mark.parametrize("name", ["note.oga", "note.opus", "note", "note.amr", "call.3gp", "note.mp3"])
def test_the_name_and_type_of_a_file_do_not_matter(http: httpx.Client, recording: bytes, name: str) -> None:
    files = {"file": (name, recording, "application/octet-stream")}
    answer = http.post("/v1/audio/transcriptions", data={"model": "whisper-1"}, files=files)
    assert answer.json()["text"].endswith("end.")


def test_silence_is_an_empty_text(http: httpx.Client, tmp_path: Path) -> None:
    path = make_media(tmp_path / "silence.wav", audio=[AudioSpec(samples=silence(3.0), codec="pcm_s16le")])
    answer = transcribed(http, path.read_bytes())
    assert (answer.status_code, answer.json()) == (200, {"text": ""})


@pytest.mark.parametrize("tokens", [[15339, 1917], [[15339, 1917]]])
def test_token_ids_are_refused_with_advice(client: openai.OpenAI, tokens: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length"):
        client.embeddings.create(model="text-embedding-3-small", input=tokens)


# --- LibreTranslate


def test_libretranslates_health_specification_and_settings(http: httpx.Client) -> None:
    assert http.get("/health").json() == {"status": "ok"}
    assert {"/translate", "/detect", "/languages"} <= set(http.get("/spec").json()["paths"])
    found = http.get("/frontend/settings").json()
    assert found["language"]["source"]["code"] == "auto"
    assert found["charLimit"] > 0
    assert [http.post(path).status_code for path in ("/health", "/spec", "/languages")] == [405] * 3


@pytest.mark.parametrize("kind", ["json", "data"])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Invalid request: missing q parameter"),
        ({"q": "", "target": "pt"}, "Invalid request: missing q parameter"),
        ({"q": "Hello", "source": "en"}, "Invalid request: missing target parameter"),
        ({"q": "Hello", "source": "en", "target": "zz"}, "zz is not supported"),
        ({"q": "Hello", "source": "zz", "target": "en"}, "zz is not supported"),
        ({"q": "Hello", "target": "pt", "format": "xml"}, "xml format is not supported"),
        (
            {"q": "Hello", "target": "pt", "alternatives": "x"},
            "Invalid request: alternatives parameter is not a number",
        ),
    ],
)
def test_libretranslates_errors_in_its_words(
    http: httpx.Client, kind: str, fields: dict[str, str], message: str
) -> None:
    body: dict[str, Any] = {kind: fields}
    answer = http.post("/translate", **body)
    assert (answer.status_code, answer.json()) == (400, {"error": message})


def test_a_repeated_q_is_a_list_of_texts(http: httpx.Client) -> None:
    answer = http.post("/translate", data={"q": ["Hello", "World"], "source": "en", "target": "pt"})
    assert answer.json() == {"translatedText": ["pt Hello", "pt World"]}
    answer = http.post("/translate", data={"q": "Hello", "target": ["pt", "es"]})
    assert (answer.status_code, "target must be given once" in answer.json()["error"]) == (400, True)


def test_libretranslates_client_works_unchanged(service: Running) -> None:
    client = LibreTranslateAPI(f"{service.url}/")
    assert client.translate("Hello", "en", "pt") == "pt Hello"
    assert client.detect("Good morning to everybody")[0]["language"] == "en"
    assert {"en", "pt"} <= {entry["code"] for entry in client.languages()}
