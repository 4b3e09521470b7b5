"""Loading, ready and broken are told apart."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from tests.api.server import NO_MODELS, running


def test_models_that_do_not_load_are_told_from_models_that_load(tmp_path: Path) -> None:
    with running(tmp_path / "a", *NO_MODELS, config="base") as service:
        assert settled(service.url) == (200, "ready")
    with running(tmp_path / "b", *NO_MODELS, "transcription.options={load_error: true}", config="base") as service:
        assert settled(service.url) == (503, "broken")
        assert httpx.get(f"{service.url}/healthz", timeout=60).status_code == 200
        assert "retry-after" in httpx.get(f"{service.url}/readyz", timeout=60).headers


def settled(url: str) -> tuple[int, str]:
    while (answer := httpx.get(f"{url}/readyz", timeout=60)).json()["status"] == "loading":
        time.sleep(0.05)
    return answer.status_code, answer.json()["status"]
