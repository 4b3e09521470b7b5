"""The single models over HTTP, by the clients that people have: a real server, real models, real clients."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import av
import httpx
import jiwer
import numpy as np
import openai
import pysubs2
import pytest
from libretranslatepy import LibreTranslateAPI

from serve.inference.admission import AdmissionQueue
from tests.api.server import PATIENCE_S, Running
from tests.media import AudioSpec, make_media, speech

SENTENCE = "The lighthouse keeper walked down to the harbour every morning."
TWO_SENTENCES = f"{SENTENCE} Nobody had seen the ship since winter."
PORTUGUESE = (
    "O navio chegou ao porto depois de uma longa viagem. Os marinheiros estavam muito cansados, mas todos ficaram "
    "felizes quando encontraram as suas famílias."
)


@pytest.fixture(scope="module")
def url(service: Running) -> str:
    return service.url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two English sentences."""
    audio = AudioSpec(samples=speech(TWO_SENTENCES, channels=1), codec="pcm_s16le")
    return make_media(tmp_path_factory.mktemp("api") / "talk.wav", audio=[audio])


@pytest.fixture(scope="module")
def spoken_portuguese(client: openai.OpenAI) -> bytes:
    return client.audio.speech.create(model="m", voice="alloy", input=PORTUGUESE, response_format="wav").content


def decoded(data: bytes) -> tuple[int, float]:
    """Sample rate and seconds."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        num_samples = sum(frame.samples for frame in container.decode(stream))
        return stream.rate, num_samples / stream.rate


def test_who_would_wait_too_long_is_refused_at_once(
    client: openai.OpenAI, url: str, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AdmissionQueue, "wait_s", 9.4)
    with recording.open("rb") as file, httpx.Client(base_url=url, timeout=PATIENCE_S) as http:
        refused = [
            http.post("/translate", json={"q": ["a", "b"], "source": "en", "target": "pt"}),
            http.post("/embed", json={"inputs": "a"}),
            http.post("/v1/embeddings", json={"input": "a", "model": "any"}),
            http.post("/v1/audio/speech", json={"input": "Hello.", "model": "any", "voice": "alloy"}),
            http.post("/v1/audio/transcriptions", data={"model": "any"}, files={"file": file}),
        ]
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in refused] == [(429, "7")] * 5
    monkeypatch.setattr(AdmissionQueue, "wait_s", 1.9)
    assert httpx.post(f"{url}/embed", json={"inputs": "a"}, timeout=PATIENCE_S).status_code == 200


# --- OpenAI


def test_speech_says_the_text_in_every_format(client: openai.OpenAI) -> None:
    lengths_s = {}
    for form in ("mp3", "opus", "aac", "flac", "wav"):
        answer = client.audio.speech.create(model="any", voice="alloy", input=SENTENCE, response_format=form)
        _, lengths_s[form] = decoded(answer.content)
    pcm = client.audio.speech.create(model="any", voice="alloy", input=SENTENCE, response_format="pcm").content
    lengths_s["pcm"] = len(pcm) / 2 / 24_000
    assert max(lengths_s.values()) - min(lengths_s.values()) < 0.2


def test_speech_is_understood(client: openai.OpenAI) -> None:
    wav = client.audio.speech.create(model="any", voice="alloy", input=SENTENCE, response_format="wav").content
    heard = client.audio.transcriptions.create(model="any", file=("a.wav", wav), language="en")
    assert jiwer.wer(plain(SENTENCE), plain(heard.text)) <= 0.2


def test_speech_at_twice_the_speed_takes_half_the_time(client: openai.OpenAI) -> None:
    def length_s(speed: float) -> float:
        body = client.audio.speech.create(model="m", voice="alloy", input=SENTENCE, response_format="pcm", speed=speed)
        return len(body.content) / 2 / 24_000

    natural_s = length_s(1.0)
    assert length_s(2.0) == pytest.approx(natural_s / 2, rel=0.05)
    assert length_s(0.5) == pytest.approx(natural_s * 2, rel=0.05)


def test_speech_streams_bytes_and_events(client: openai.OpenAI, url: str) -> None:
    text = TWO_SENTENCES
    with client.audio.speech.with_streaming_response.create(
        model="m", voice="alloy", input=text, response_format="pcm"
    ) as answer:
        streamed = b"".join(answer.iter_bytes())
    body = {"model": "m", "voice": "alloy", "input": text, "response_format": "pcm", "stream_format": "sse"}
    events = sent_events(httpx.post(f"{url}/v1/audio/speech", json=body, timeout=PATIENCE_S))
    assert [event["type"] for event in events[-2:]] == ["speech.audio.delta", "speech.audio.done"]
    assert b"".join(base64.b64decode(event["audio"]) for event in events[:-1]) == streamed


def test_portuguese_is_spoken_in_portuguese(client: openai.OpenAI, spoken_portuguese: bytes) -> None:
    heard = client.audio.transcriptions.create(model="m", file=("a.wav", spoken_portuguese), language="pt").text
    assert jiwer.wer(plain(PORTUGUESE), plain(heard)) <= 0.35


def test_an_unknown_voice_is_refused_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="nobody"):
        client.audio.speech.create(model="m", voice="nobody", input=SENTENCE)


@pytest.mark.parametrize(
    ("voice", "found"), [("nobody", "a voice for pt must be one of pf_dora, "), ("ef_dora", "; ef_dora speaks es")]
)
def test_a_dub_by_an_unknown_voice_is_refused_before_it_is_a_job(url: str, voice: str, found: str) -> None:
    form = {"to": "pt", "voices": json.dumps({"pt": voice})}
    files = {"file": ("x.flac", b"never looked at")}
    answer = httpx.post(f"{url}/v1/dubs", data=form, files=files, timeout=PATIENCE_S)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert found in answer.json()["detail"]


def test_voices_are_listed_with_what_they_are(url: str) -> None:
    http = httpx.Client(base_url=url, timeout=PATIENCE_S)
    listed = {voice["voice_id"]: voice for voice in http.get("/v1/voices").json()["voices"]}
    assert {"pf_dora", "heart", "bf_emma", "ff_siwis"} <= listed.keys()
    assert listed["pm_alex"]["labels"] == {"language": "Portuguese", "gender": "male"}
    found = http.get("/v2/voices", params={"search": "french"}).json()["voices"]
    assert [voice["voice_id"] for voice in found] == ["ff_siwis"]
    assert http.get("/v1/voices/heart/preview").headers["content-type"] == "audio/mpeg"


def test_what_cannot_be_read_aloud_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="read aloud"):
        client.audio.speech.create(model="m", voice="alloy", input="?!")


def test_transcriptions_in_every_format(client: openai.OpenAI, recording: Path) -> None:
    full = client.audio.transcriptions.create(
        model="m", file=recording, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert full.language == "english"
    assert full.words
    assert full.segments
    assert 0 <= full.segments[0].start < full.segments[-1].end <= full.duration
    assert [word.start for word in full.words] == sorted(word.start for word in full.words)
    plain = client.audio.transcriptions.create(model="m", file=recording, response_format="text")
    assert plain.strip() == full.text
    srt = client.audio.transcriptions.create(model="m", file=recording, response_format="srt")
    assert pysubs2.SSAFile.from_string(srt).events[0].plaintext
    vtt = client.audio.transcriptions.create(model="m", file=recording, response_format="vtt")
    assert vtt.startswith("WEBVTT")


def test_a_transcription_streams(client: openai.OpenAI, recording: Path) -> None:
    whole = client.audio.transcriptions.create(model="m", file=recording).text
    deltas = []
    for event in client.audio.transcriptions.create(model="m", file=recording, stream=True):
        if event.type == "transcript.text.delta":
            deltas.append(event.delta)
        elif event.type == "transcript.text.done":
            assert event.text == whole
    assert "".join(deltas) == whole


def test_speech_in_portuguese_is_translated_into_english(client: openai.OpenAI, spoken_portuguese: bytes) -> None:
    english = client.audio.translations.create(model="m", file=("a.wav", spoken_portuguese)).text
    assert {"ship", "boat", "vessel"} & set(plain(english).split())


def test_a_file_that_is_no_audio_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError):
        client.audio.transcriptions.create(model="m", file=("a.wav", b"not audio at all" * 100))


def test_embeddings_are_the_same_as_floats_and_as_base64(client: openai.OpenAI) -> None:
    texts = ["The ship came home.", "O navio voltou para casa.", "Fractions are hard."]
    packed = client.embeddings.create(model="m", input=texts)  # the client asks for base64 by itself
    plain = client.embeddings.create(model="m", input=texts, encoding_format="float")
    vectors = np.array([entry.embedding for entry in packed.data])
    np.testing.assert_allclose(vectors, [entry.embedding for entry in plain.data], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3


def test_other_dimensions_than_the_models_are_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="dimensions must be 512"):
        client.embeddings.create(model="m", input="The ship came home.", dimensions=64)


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert "transcription/faster_whisper" in names
    assert client.models.retrieve("translation/bergamot").id == "translation/bergamot"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("translation/none")


# --- LibreTranslate


def test_the_libretranslate_client_translates_detects_and_lists(url: str) -> None:
    client = LibreTranslateAPI(f"{url}/")
    assert "navio" in client.translate("The ship came home.", "en", "pt").lower()
    assert client.detect("O navio voltou para casa.")[0]["language"] == "pt"
    assert {entry["code"] for entry in client.languages()} == {"en", "pt"}


def test_lists_and_detected_languages(url: str) -> None:
    body = {"q": ["The ship came home.", "O navio voltou."], "source": "auto", "target": "pt", "alternatives": 2}
    answer = httpx.post(f"{url}/translate", json=body, timeout=PATIENCE_S).json()
    assert answer["translatedText"][1] == "O navio voltou."
    assert [found["language"] for found in answer["detectedLanguage"]] == ["en", "pt"]
    assert len(answer["alternatives"]) == 2


@pytest.mark.parametrize(
    ("text", "name"), [("Il cane dorme sempre in giardino", "Italian (it)"), ("Wo ist das Wasser?", "German (de)")]
)
def test_a_language_that_nothing_here_translates_is_named(url: str, text: str, name: str) -> None:
    [best, *_] = httpx.post(f"{url}/detect", json={"q": text}, timeout=PATIENCE_S).json()
    assert f"({best['language']})" in name
    body = {"q": ["Good morning", text], "source": "auto", "target": "pt"}
    answer = httpx.post(f"{url}/translate", json=body, timeout=PATIENCE_S)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"{name} is not supported: it was detected in q 2")


def test_short_texts_breaks_and_placeholders(url: str) -> None:
    body = {"q": ["hello handsome", "12345", "OK", "Hi {name},\n\nthank you!\n"], "source": "auto", "target": "pt"}
    answer = httpx.post(f"{url}/translate", json=body, timeout=PATIENCE_S).json()
    assert [found["language"] for found in answer["detectedLanguage"]] == ["en", "und", "en", "en"]
    assert answer["translatedText"][1:3] == ["12345", "OK"]
    assert answer["translatedText"][3].endswith("{name},\n\nobrigado!\n")


def test_markup_is_kept_around_translated_prose(url: str) -> None:
    body = {
        "q": "<p>The ship <b>came home</b>.</p><code>x = 1</code>",
        "source": "en",
        "target": "pt",
        "format": "html",
    }
    text = httpx.post(f"{url}/translate", json=body, timeout=PATIENCE_S).json()["translatedText"]
    assert text.startswith("<p>")
    assert "<code>x = 1</code>" in text
    assert "ship" not in text


def test_libretranslate_errors_have_its_shape(url: str) -> None:
    answer = httpx.post(
        f"{url}/translate", data={"q": "Hello", "source": "en", "target": "xx-none"}, timeout=PATIENCE_S
    )
    assert (answer.status_code, answer.json()) == (400, {"error": "xx-none is not supported"})
    answer = httpx.post(f"{url}/translate", json={"q": "Hello"}, timeout=PATIENCE_S)
    assert (answer.status_code, answer.json()) == (400, {"error": "Invalid request: missing target parameter"})


# --- Text Embeddings Inference


def test_tei_embeds_one_and_many(url: str) -> None:
    one = httpx.post(f"{url}/embed", json={"inputs": "The ship came home."}, timeout=PATIENCE_S).json()
    many = httpx.post(f"{url}/embed", json={"inputs": ["The ship came home.", "Fractions."]}, timeout=PATIENCE_S).json()
    np.testing.assert_allclose(one[0], many[0], atol=1e-5)
    assert httpx.get(f"{url}/info", timeout=PATIENCE_S).json()["model_id"] == "embedding/use_multilingual"


def test_tei_errors_have_its_shape(url: str) -> None:
    answer = httpx.post(f"{url}/embed", json={"inputs": []}, timeout=PATIENCE_S)
    assert answer.status_code == 422
    assert answer.json()["error_type"] == "validation"


def plain(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum() or character == " ")


def sent_events(answer: httpx.Response) -> list[dict[str, str]]:
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]
