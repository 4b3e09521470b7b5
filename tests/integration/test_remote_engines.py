"""A talk dubbed by servers alone: this project's service hears and speaks, a language model's stand-in translates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from cluster.flags import Flag
from cluster.manifest import Manifest
from tests.api.server import Running, running
from tests.integration.dubbing import dub_one
from tests.media import make_short_talk
from tests.standins import model_server
from tests.standins.model_server import ModelServer, error, half

LINES = {"good": "Bom dia a todos, e sejam bem-vindos.", "talk": "Hoje vamos falar sobre o oceano azul."}


def translate(question: dict[str, Any]) -> list[str]:
    return [next(line for word, line in LINES.items() if word in question["line"].lower())]


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_short_talk(tmp_path_factory.mktemp("talk") / "talk.mp4")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("data"), "serve.inference.max_wait_s=600") as service:
        yield service


@pytest.fixture
def chat() -> Iterator[ModelServer]:
    with model_server.serving() as chat:
        chat.translate = translate
        yield chat


async def test_a_talk_is_dubbed_by_servers(talk: Path, service: Running, chat: ModelServer, tmp_path: Path) -> None:
    chat.replies.extend([error(429), half, error(500), lambda body: PlainTextResponse("nonsense")])
    manifest = await dub(talk, service, chat, tmp_path)
    lines = manifest.dubs[0].utterances
    assert [line.text for line in lines] == list(LINES.values())
    assert not {flag for line in lines for flag in line.flags} & {Flag.TRANSLATION_FAILED, Flag.SPEECH_FAILED}
    assert [line.voice for line in lines] == ["alloy", "alloy"]
    assert all(line.start_s is not None and line.end_s - line.start_s > 1.0 for line in lines)

    first, second = [next(asked for asked in chat.questions if word in asked["line"].lower()) for word in LINES]
    assert "before" not in first
    assert second["before"] == [manifest.units[0].text]
    assert second["terms"] == {"sea": "oceano"}
    spoken_s = lines[1].slot_end_s - lines[1].slot_start_s
    assert abs(second["syllables"] - 6 * spoken_s) <= 6 * 0.2


async def dub(talk: Path, service: Running, chat: ModelServer, out: Path) -> Manifest:
    url = f"{service.url}/v1"
    return await dub_one(
        talk,
        out,
        settings=(
            "alignment.strategy=length",
            "translation.num_candidates=1",
            "transcription.engine=openai_audio",
            f"transcription.options={{base_url: '{url}', model: whisper-1}}",
            "translation.engine=openai_chat",
            f"translation.options={{base_url: '{chat.url}', model: standin, syllables_per_s: 6,"
            " glossary: {pt: {sea: oceano}}}",
            "speech.engine=openai_speech",
            f"speech.options={{base_url: '{url}', model: tts-1, language_field: language}}",
        ),
    )
