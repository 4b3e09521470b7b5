"""Media in, dubbed sound out while it is made; the models that hear and speak are stood in for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import av
import httpx
import pytest

from tests.api.server import PATIENCE_S, STANDINS, Running, running

HEARS_AND_SPEAKS = (STANDINS[0], STANDINS[2])
"""The real translator knows languages that it cannot do."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("data"), *HEARS_AND_SPEAKS, config="base") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(65536):
            yield chunk


def test_chunks_in_sound_out(client: httpx.Client, talk: Path) -> None:
    query = {"to": "pt", "source": "en"}
    with client.stream("POST", "/v1/dub/stream", params=query, content=chunks(talk), timeout=PATIENCE_S) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "audio/mpeg"
        parts = list(answer.iter_raw())
    assert len(parts) > 2
    with av.open(io.BytesIO(b"".join(parts))) as sound:
        num_samples = sum(frame.samples for frame in sound.decode(audio=0))
    assert num_samples / 48_000 == pytest.approx(12, abs=0.2)


def test_what_cannot_be_dubbed_is_refused_before_any_sound(client: httpx.Client, talk: Path) -> None:
    noise = client.post("/v1/dub/stream", params={"to": "pt"}, content=b"no media" * 1000)
    assert noise.status_code == 422
    unknown = client.post("/v1/dub/stream", params={"to": "ja", "source": "en"}, content=chunks(talk))
    assert unknown.status_code == 422
