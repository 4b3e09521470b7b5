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

import cluster.storage.http as fetching
import serve.jobs.webhooks as sending
from actors.errors import ConfigError, MediaError
from tests import bombs
from tests.api.server import NO_MODELS, PATIENCE_S, Running, finished, running

SECRET = base64.b64encode(b"known to both sides alone").decode()
TIMEOUT_S = 300.0
"""So long that no receiver that answers is given up because the machine is busy."""


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
        patch.setattr(sending, "TIMEOUT_S", TIMEOUT_S)
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


def database_of(service: Running) -> sqlite3.Connection:
    return sqlite3.connect(Path(service.dispatcher.settings.data_dir) / "raydub.db", timeout=PATIENCE_S)


def noted(service: Running, dub_id: str, condition: str) -> tuple[float | None, str]:
    """When it was delivered and what went wrong last, once the database says so."""
    query = f"SELECT delivered_s, error FROM deliveries WHERE dub_id = ? AND {condition}"
    with database_of(service) as database:
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
        own = base64.b64decode(sending.owner_secret(f"whsec_{SECRET}", "local").removeprefix("whsec_"))
        digest = hmac.new(own, signed, hashlib.sha256).digest()
        assert received.headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
        assert abs(int(received.headers["webhook-timestamp"]) - time.time()) < 300
    receiver.shutdown()


@pytest.mark.usefixtures("public")
def test_it_is_given_up_in_the_end_and_follows_no_redirect(service: Running) -> None:
    receiver, other = Receiver(302), Receiver(200)
    dub_id = dub(service, receiver.url)
    # While the third is under way, the next would be due after TIMEOUT_S.
    has_ended = f"num_attempts = 3 AND due_s < {time.time() + TIMEOUT_S / 2}"
    assert noted(service, dub_id, has_ended) == (None, "it answered 302")
    with database_of(service) as database:
        database.execute("UPDATE deliveries SET due_s = 0 WHERE dub_id = ?", (dub_id,))
    # Another that comes now is sent after all that were due before.
    noted(service, dub(service, other.url), "delivered_s IS NOT NULL")
    noted(service, dub_id, "num_attempts = 3")
    assert len(receiver.received) == 3
    receiver.shutdown()
    other.shutdown()


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
    post, receiver = sending.post, Receiver(200)
    failed: list[str] = []

    async def fail_once(url: str, *arguments: Any) -> int:
        if url == receiver.url and not failed:
            failed.append(url)
            raise OverflowError("connect(): port must be 0-65535")
        return await post(url, *arguments)

    monkeypatch.setattr(sending, "post", fail_once)
    assert noted(service, dub(service, receiver.url), "delivered_s IS NOT NULL")[1] == ""
    assert failed == [receiver.url]
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
    with pytest.raises(ConfigError, match="RAYDUB_WEBHOOK_SECRET must be base64 after whsec_"):
        sending.Webhooks(service.dispatcher.settings, fetching.FetchConfig(), service.dispatcher.database)


def test_without_a_secret_none_is_promised(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYDUB_WEBHOOK_SECRET")
    data = {"to": "pt", "webhook_url": "https://a.example/"}
    answer = httpx.post(
        f"{service.url}/v1/dubs", data=data, files={"file": ("a.mka", bombs.hours_of_nothing(1.0))}, timeout=PATIENCE_S
    )
    assert answer.status_code == 422
    assert "RAYDUB_WEBHOOK_SECRET" in answer.text


def test_no_owner_can_sign_for_another() -> None:
    secrets = {sending.owner_secret(f"whsec_{SECRET}", owner) for owner in ("local", "key:1", "key:2")}
    assert len(secrets) == 3
    assert not [secret for secret in secrets if SECRET in secret]
    signed = {sending.signature(secret, "msg_1", 1, "{}") for secret in secrets}
    assert len(signed) == 3


@pytest.mark.usefixtures("public")
def test_a_receiver_that_never_answers_delays_only_its_owner(service: Running) -> None:
    """Far more calls than there are places hang; those of another owner are heard."""
    silent = socket.create_server(("127.0.0.1", 0), backlog=100)
    hanging = f"http://127.0.0.1:{silent.getsockname()[1]}/"
    receiver = Receiver(200)
    first = dub(service, receiver.url)
    noted(service, first, "delivered_s IS NOT NULL")
    with database_of(service) as database:
        columns = "id, dub_id, owner, url, body, num_attempts, due_s, delivered_s, error"
        add = f"INSERT INTO deliveries ({columns}) VALUES (?, ?, ?, ?, '{{}}', 0, ?, NULL, NULL)"
        for number in range(3 * sending.NUM_AT_ONCE):
            database.execute(add, (f"msg_hanging{number}", "dub_a", "hanging", hanging, float(number)))
        database.execute(add, ("msg_other", "dub_b", "other", receiver.url, 1e6))
        database.commit()
    noted(service, "dub_b", "delivered_s IS NOT NULL")
    with database_of(service) as database:
        begun = "SELECT count(*) FROM deliveries WHERE owner = 'hanging' AND num_attempts > 0"
        # One that waited for too long makes room for another of its owner.
        assert database.execute(begun).fetchone()[0] < sending.NUM_AT_ONCE
        database.execute("DELETE FROM deliveries WHERE owner = 'hanging'")
        database.commit()
    silent.close()
    receiver.shutdown()
