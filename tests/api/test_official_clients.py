"""What the official clients of other services send, where keys are needed."""

from __future__ import annotations

import io
import urllib.error
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import huggingface_hub
import numpy as np
import pytest
from elevenlabs import ElevenLabs
from elevenlabs.core.api_error import ApiError
from huggingface_hub import InferenceClient
from libretranslatepy import LibreTranslateAPI

from serve.inference.inference import Inference
from serve.jobs.api_keys import hash_key
from tests.api.server import PATIENCE_S, STANDINS, Running, running

KEY, SLOW = "a key for tests", "one that may ask little"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keys = (
        f"serve.auth.keys=[{{name: tests, sha256: {hash_key(KEY)}}}, "
        f"{{name: slow, sha256: {hash_key(SLOW)}, limits: {{requests_per_min: 1}}}}]"
    )
    settings = (*STANDINS, "serve.auth.required=true", keys)
    with running(tmp_path_factory.mktemp("data"), *settings, config="base") as service:
        yield service


def test_libretranslates_client_sends_its_key_in_the_body(service: Running) -> None:
    client = LibreTranslateAPI(service.url, KEY)
    assert client.translate("Hello.", "en", "pt")
    assert client.detect("Good morning to everybody")[0]["language"] == "en"
    assert {"code", "name", "targets"} == set(client.languages()[0])


@pytest.mark.parametrize("path", ["translate", "detect"])
@pytest.mark.parametrize("kind", ["json", "data"])
def test_a_key_in_the_body_is_held_to_the_same_rules(
    service: Running, path: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(**fields: str) -> int:
        body: dict[str, Any] = {kind: {"q": "Hello.", **({"target": "pt"} if path == "translate" else {}), **fields}}
        return httpx.post(f"{service.url}/{path}", timeout=PATIENCE_S, **body).status_code

    assert ask(api_key=KEY) == 200
    assert 429 in [ask(api_key=SLOW), ask(api_key=SLOW)]

    def never(*_: object) -> None:
        raise AssertionError("nothing may be computed for whom nobody knows")

    monkeypatch.setattr(Inference, "check_texts", never)
    assert [ask(), ask(api_key=""), ask(api_key="wrong"), ask(api_key="x" * 300), ask(unknown="field")] == [401] * 5


def test_a_wrong_key_of_libretranslates_client_opens_nothing(service: Running) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        LibreTranslateAPI(service.url, "wrong").translate("Hello.", "en", "pt")
    assert refused.value.code == 401


@pytest.mark.parametrize("text", ["a\x01b", "<p>a&#1;b\x0c</p>", "<p title='&#xFFFF;'>a&#xFFFF; &#55296;b</p>"])
def test_characters_that_markup_may_not_hold_are_dropped(service: Running, text: str) -> None:
    body = {"q": text, "source": "en", "target": "pt", "format": "html"}
    with service.client(KEY) as client:
        answer = client.post("/translate", json=body)
    assert answer.status_code == 200
    assert not {"\x01", "\x0c", "\uffff"} & set(answer.json()["translatedText"])


def test_hugging_faces_client_embeds_by_the_services_url(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def embed(_: Inference, texts: Sequence[str]) -> Any:
        return np.full((len(texts), 3), len(texts[0]), np.float32)

    async def check_room(*_: object) -> None:
        pass

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(Inference, "embed", embed)
    monkeypatch.setattr(Inference, "check_room", check_room)
    client = InferenceClient(model=service.url, token=KEY)
    vectors = client.feature_extraction("Hello.", normalize=True, truncate=True, truncation_direction="right")
    np.testing.assert_array_equal(vectors, [[6, 6, 6]])
    with service.client(KEY) as known, service.client() as stranger:
        left = known.post("/", json={"inputs": "Hello.", "truncation_direction": "Left"})
        assert (left.status_code, "must be right" in left.text) == (422, True)
        assert stranger.post("/", json={"inputs": "Hello."}).status_code == 401


@pytest.mark.parametrize(
    "wanted",
    [
        {"foreground_audio_file": ("a.wav", io.BytesIO(b"a"))},
        {"background_audio_file": ("a.wav", io.BytesIO(b"a"))},
        {"target_accent": "scottish"},
        {"use_profanity_filter": True},
        {"disable_voice_cloning": True},
        {"mode": "manual"},
        {"csv_fps": 25.0},
    ],
    ids=lambda wanted: next(iter(wanted)),
)
def test_what_elevenlabs_client_asks_for_and_we_lack_is_refused(service: Running, wanted: dict[str, Any]) -> None:
    labs = ElevenLabs(base_url=service.url, api_key=KEY)
    with pytest.raises(ApiError) as refused:
        labs.dubbing.create(file=("a.wav", io.BytesIO(b"no media")), target_lang="pt", **wanted)
    assert refused.value.status_code == 422
    assert f"{next(iter(wanted))} cannot be given" in str(refused.value.body)


def test_what_elevenlabs_client_sends_by_default_is_not_refused(service: Running) -> None:
    defaults: dict[str, Any] = {"use_profanity_filter": False, "disable_voice_cloning": False, "mode": "automatic"}
    labs = ElevenLabs(base_url=service.url, api_key=KEY)
    with pytest.raises(ApiError) as refused:
        labs.dubbing.create(file=("a.wav", io.BytesIO(b"no media")), target_lang="pt", **defaults)
    assert "cannot be given" not in str(refused.value.body)
    assert "media file" in str(refused.value.body)
