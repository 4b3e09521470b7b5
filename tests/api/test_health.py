"""Loading, ready and broken are told apart."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from tests.api.server import NO_MODELS, PATIENCE_S, running


def test_models_that_do_not_load_are_told_from_models_that_load(tmp_path: Path) -> None:
    with running(tmp_path / "a", *NO_MODELS, config="base") as service:
        assert settled(service.url) == (200, "ready")
    with running(tmp_path / "b", *NO_MODELS, "transcription.options={load_error: true}", config="base") as service:
        assert settled(service.url) == (503, "broken")
        assert httpx.get(f"{service.url}/healthz", timeout=PATIENCE_S).status_code == 200
        assert "retry-after" in httpx.get(f"{service.url}/readyz", timeout=PATIENCE_S).headers


def test_an_idle_connection_outlives_what_clients_keep(tmp_path: Path) -> None:
    """httpx, which OpenAI's and ElevenLabs' clients are made of, asks anew on one that was idle for up to 5 s."""
    with (
        running(tmp_path, *NO_MODELS, config="base") as service,
        httpx.Client(base_url=service.url, limits=httpx.Limits(keepalive_expiry=60)) as client,
    ):
        first = connection_of(client.get("/healthz"))
        time.sleep(5.5)
        assert connection_of(client.get("/healthz")) == first


def connection_of(answer: httpx.Response) -> object:
    assert answer.status_code == 200
    return answer.extensions["network_stream"].get_extra_info("client_addr")


def settled(url: str) -> tuple[int, str]:
    while (answer := httpx.get(f"{url}/readyz", timeout=PATIENCE_S)).json()["status"] == "loading":
        time.sleep(0.05)
    return answer.status_code, answer.json()["status"]
