"""Speech, recordings, voices and models as ElevenLabs' own client asks for them; models are stood in for."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import av
import httpx
import pytest
from elevenlabs import ElevenLabs, VoiceSettings
from elevenlabs.core.api_error import ApiError

from tests.api.server import PATIENCE_S, STANDINS, Running, running
from tests.media import AudioSpec, make_media, speech

TEXT = "Good morning. The kettle is on the stove."
VOICE = "default"
"""The voice of an engine that lists none, such as the stand-in."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("data"), *STANDINS, config="base") as service:
        yield service


@pytest.fixture(scope="module")
def labs(service: Running) -> ElevenLabs:
    return ElevenLabs(base_url=service.url, api_key="unused")


@pytest.fixture(scope="module")
def http(service: Running) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    audio = AudioSpec(samples=speech(TEXT, channels=1), codec="pcm_s16le")
    return make_media(tmp_path_factory.mktemp("labs") / "talk.wav", audio=[audio]).read_bytes()


def decoded(data: bytes) -> tuple[int, float]:
    """Sample rate and seconds."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        return stream.rate, sum(frame.samples for frame in container.decode(stream)) / stream.rate


def test_speech_whole_and_as_a_stream(labs: ElevenLabs) -> None:
    whole = b"".join(labs.text_to_speech.convert(VOICE, text=TEXT, model_id="eleven_multilingual_v2"))
    streamed = b"".join(labs.text_to_speech.stream(VOICE, text=TEXT, model_id="eleven_multilingual_v2"))
    assert whole == streamed
    assert decoded(whole)[0] == 44_100


@pytest.mark.parametrize(("form", "hz"), [("mp3_22050_32", 22_050), ("opus_48000_64", 48_000), ("wav_16000", 16_000)])
def test_output_formats(labs: ElevenLabs, form: str, hz: int) -> None:
    assert decoded(b"".join(labs.text_to_speech.convert(VOICE, text=TEXT, output_format=form)))[0] == hz


def test_raw_formats_have_the_length_of_the_speech(labs: ElevenLabs) -> None:
    sizes = {
        form: len(b"".join(labs.text_to_speech.convert(VOICE, text=TEXT, output_format=form)))
        for form in ("pcm_8000", "pcm_24000", "ulaw_8000", "alaw_8000")
    }
    assert sizes["ulaw_8000"] == sizes["alaw_8000"] == sizes["pcm_8000"] // 2
    assert sizes["pcm_24000"] == pytest.approx(3 * sizes["pcm_8000"], rel=0.01)


def test_the_times_of_characters_cover_the_speech(labs: ElevenLabs) -> None:
    answer = labs.text_to_speech.convert_with_timestamps(VOICE, text=TEXT, output_format="wav_24000")
    found = answer.alignment
    assert found is not None
    assert "".join(found.characters) == TEXT
    starts, ends = found.character_start_times_seconds, found.character_end_times_seconds
    assert starts == sorted(starts)
    assert all(start <= end for start, end in zip(starts, ends, strict=True))
    assert ends[-1] == pytest.approx(decoded(base64.b64decode(answer.audio_base_64))[1], abs=0.01)


def test_a_stream_with_times_is_the_same_in_parts(labs: ElevenLabs) -> None:
    whole = labs.text_to_speech.convert_with_timestamps(VOICE, text=TEXT, output_format="pcm_16000")
    parts = list(labs.text_to_speech.stream_with_timestamps(VOICE, text=TEXT, output_format="pcm_16000"))
    assert len(parts) > 1
    assert b"".join(base64.b64decode(part.audio_base_64) for part in parts) == base64.b64decode(whole.audio_base_64)
    alignments = [part.alignment for part in parts if part.alignment is not None]
    assert [character for found in alignments for character in found.characters] == list(TEXT)
    assert whole.alignment is not None
    ends = [end for found in alignments for end in found.character_end_times_seconds]
    assert ends == whole.alignment.character_end_times_seconds


def test_the_speed_is_kept_and_other_settings_are_named_in_a_warning(http: httpx.Client, labs: ElevenLabs) -> None:
    settings = VoiceSettings(stability=0.7, speed=2.0)
    fast = b"".join(labs.text_to_speech.convert(VOICE, text=TEXT, voice_settings=settings, output_format="pcm_16000"))
    plain = b"".join(labs.text_to_speech.convert(VOICE, text=TEXT, output_format="pcm_16000"))
    assert len(fast) < 0.6 * len(plain)
    body: dict[str, Any] = {"text": TEXT, "seed": 7, "voice_settings": {"stability": 0.7}, "model_id": "another"}
    answer = http.post(f"/v1/text-to-speech/{VOICE}", json=body)
    assert answer.headers["warning"] == '299 raydub "ignored here: model_id, seed, voice_settings.stability"'


def test_what_cannot_be_done_is_refused(http: httpx.Client) -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("pronunciation_dictionary_locators", {"text": TEXT, "pronunciation_dictionary_locators": [{"id": "a"}]}),
        ("read aloud", {"text": "..."}),
    ]
    for words, body in wrong:
        answer = http.post(f"/v1/text-to-speech/{VOICE}", json=body)
        assert (answer.status_code, words in answer.json()["detail"]["message"]) == (422, True)
    assert http.post(f"/v1/text-to-speech/{VOICE}?output_format=mp3_1", json={"text": TEXT}).status_code == 422


@pytest.mark.parametrize("call", ["convert", "stream", "convert_with_timestamps", "stream_with_timestamps"])
def test_an_unknown_voice_is_not_found(labs: ElevenLabs, call: str) -> None:
    with pytest.raises(ApiError) as refused:
        list(getattr(labs.text_to_speech, call)("nobody", text=TEXT))
    assert refused.value.status_code == 404
    assert "nobody" in str(refused.value.body)


def test_voices_are_listed_searched_and_found(labs: ElevenLabs) -> None:
    assert [voice.voice_id for voice in labs.voices.get_all().voices] == [VOICE]
    assert [voice.voice_id for voice in labs.voices.search(search="portug").voices] == [VOICE]
    assert labs.voices.search(search="klingon").voices == []
    found = labs.voices.get(VOICE)
    assert (found.voice_id, bool(found.verified_languages)) == (VOICE, True)
    assert found.preview_url is not None
    assert decoded(httpx.get(found.preview_url, timeout=PATIENCE_S).content)[1] > 0.5
    with pytest.raises(ApiError) as unknown:
        labs.voices.get("nobody")
    assert unknown.value.status_code == 404


def test_models_and_history(labs: ElevenLabs, http: httpx.Client) -> None:
    assert "eleven_multilingual_v2" in [model.model_id for model in labs.models.list()]
    assert http.get("/v1/models").json()["object"] == "list"
    assert labs.history.list(page_size=5).history == []


@pytest.mark.parametrize("model", ["scribe_v1", "scribe_v2"])
def test_a_recording_with_the_times_of_words(labs: ElevenLabs, recording: bytes, model: str) -> None:
    heard: Any = labs.speech_to_text.convert(file=recording, model_id=model, language_code="eng")
    assert heard.language_code == "eng"
    words = [word for word in heard.words if word.type == "word"]
    assert " ".join(word.text for word in words) == heard.text
    assert {word.type for word in heard.words} == {"word", "spacing"}
    assert all(0 <= word.start <= word.end <= heard.audio_duration_secs + 0.5 for word in heard.words)
    characters: Any = labs.speech_to_text.convert(file=recording, model_id=model, timestamps_granularity="character")
    assert "".join(entry.text for entry in characters.words[0].characters) == characters.words[0].text


def test_recordings_elsewhere_are_refused(labs: ElevenLabs) -> None:
    with pytest.raises(ApiError) as refused:
        labs.speech_to_text.convert(cloud_storage_url="https://media.example/talk.wav", model_id="scribe_v1")
    assert refused.value.status_code == 422
    assert "cloud_storage_url cannot be given" in str(refused.value.body)
