"""Webhooks as their receivers see them: signed, sent again until heard, never to where strangers may not reach."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import cluster.fetch as fetching
import serve.webhooks as sending
from actors.errors import ConfigError, MediaError
from tests import bombs
from tests.api.server import NO_MODELS, Running, finished, running

SECRET = base64.b64encode(b"known to both sides alone").decode()


@dataclass(frozen=True)
class Received:
    headers: Any
    body: bytes


class Receiver(http.server.ThreadingHTTPServer):
    """Answers as it is told to, the last answer for ever."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.received: list[Received] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append(Received(headers=self.headers, body=body))
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.send_header("location", "http://127.0.0.1:9/")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYDUB_WEBHOOK_SECRET", f"whsec_{SECRET}")
        patch.setattr(sending, "LOOK_S", 0.05)
        patch.setattr(sending, "FIRST_DELAY_S", 0.05)
        settings = ("fetch.schemes=[http, https]", "serve.webhook_attempts=3")
        with running(tmp_path_factory.mktemp("data"), *NO_MODELS, *settings, config="base") as service:
            yield service


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own servers stand for public ones."""
    monkeypatch.setattr(fetching, "is_public", lambda address: str(address) == "127.0.0.1")


def dub(service: Running, url: str) -> str:
    with service.client() as client:
        data = {"to": "pt", "source": "en", "webhook_url": url}
        made = client.post("/v1/dubs", data=data, files={"file": ("a.mka", bombs.hours_of_nothing(1.0))})
        assert made.status_code == 201, made.text
        finished(client, made.json()["id"])
        return str(made.json()["id"])


def noted(service: Running, dub_id: str, condition: str) -> tuple[float | None, str]:
    """When it was delivered and what went wrong last, once the database says so."""
    query = f"SELECT delivered_s, error FROM deliveries WHERE dub_id = ? AND {condition}"
    with sqlite3.connect(Path(service.dispatcher.settings.data_dir) / "raydub.db") as database:
        while (row := database.execute(query, (dub_id,)).fetchone()) is None:
            time.sleep(0.05)
    return row[0], row[1] or ""


@pytest.mark.usefixtures("public")
def test_it_is_signed_and_sent_again_until_it_is_heard(service: Running) -> None:
    receiver = Receiver(500, 200)
    dub_id = dub(service, receiver.url)
    assert noted(service, dub_id, "delivered_s IS NOT NULL")[1] == ""
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    for received in (first, second):
        body = json.loads(received.body)
        assert (body["type"], body["dub_id"]) == ("dub.done", dub_id)
        signed = f"{received.headers['webhook-id']}.{received.headers['webhook-timestamp']}.".encode() + received.body
        digest = hmac.new(base64.b64decode(SECRET), signed, hashlib.sha256).digest()
        assert received.headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
        assert abs(int(received.headers["webhook-timestamp"]) - time.time()) < 300
    receiver.shutdown()


@pytest.mark.usefixtures("public")
def test_it_is_given_up_in_the_end_and_follows_no_redirect(service: Running) -> None:
    receiver = Receiver(302)
    dub_id = dub(service, receiver.url)
    assert noted(service, dub_id, "num_attempts = 3 AND error IS NOT NULL") == (None, "it answered 302")
    time.sleep(0.5)  # the third may be under way; after it nothing comes any more
    assert len(receiver.received) == 3
    receiver.shutdown()


def test_it_goes_to_no_private_address(service: Running) -> None:
    receiver = Receiver(200)
    port = receiver.server_port
    for url in (receiver.url, f"http://localhost:{port}/", f"http://[::ffff:127.0.0.1]:{port}/"):
        delivered_s, error = noted(service, dub(service, url), "error IS NOT NULL")
        assert delivered_s is None
        assert "public address" in error
    assert receiver.received == []
    receiver.shutdown()


@pytest.mark.parametrize("url", ["https://1.1.1.1:99999/", "https://1.1.1.1:0/", "https://xn--a/", "https://a/\ud800"])
def test_a_url_that_nobody_can_have_is_refused(service: Running, url: str) -> None:
    with pytest.raises(MediaError, match="a URL"):
        fetching.check_url(url, service.dispatcher.config.fetch)


@pytest.mark.usefixtures("public")
def test_whatever_a_receiver_brings_about_the_next_is_told(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    post = sending.post

    async def fail_once(*arguments: Any) -> int:
        monkeypatch.setattr(sending, "post", post)
        raise OverflowError("connect(): port must be 0-65535")

    monkeypatch.setattr(sending, "post", fail_once)
    receiver = Receiver(200)
    assert noted(service, dub(service, receiver.url), "delivered_s IS NOT NULL")[1] == ""
    assert len(receiver.received) == 1
    receiver.shutdown()


@pytest.mark.usefixtures("public")
def test_a_receiver_that_does_not_answer_holds_up_no_other(service: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        held_up = dub(service, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        receiver = Receiver(200)
        assert noted(service, dub(service, receiver.url), "delivered_s IS NOT NULL")[1] == ""
        assert noted(service, held_up, "num_attempts = 1") == (None, "")
        receiver.shutdown()


def test_a_secret_that_is_none_ends_the_start(monkeypatch: pytest.MonkeyPatch, service: Running) -> None:
    monkeypatch.setenv("RAYDUB_WEBHOOK_SECRET", "whsec_abc")
    with pytest.raises(ConfigError, match="RAYDUB_WEBHOOK_SECRET must be base64 behind whsec_"):
        sending.Webhooks(service.dispatcher.settings, fetching.FetchConfig(), service.dispatcher.database)


def test_without_a_secret_none_is_promised(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYDUB_WEBHOOK_SECRET")
    data = {"to": "pt", "webhook_url": "https://a.example/"}
    answer = httpx.post(
        f"{service.url}/v1/dubs", data=data, files={"file": ("a.mka", bombs.hours_of_nothing(1.0))}, timeout=60
    )
    assert answer.status_code == 422
    assert "RAYDUB_WEBHOOK_SECRET" in answer.text
