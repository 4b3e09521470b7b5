"""What strangers try, and how it is refused."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import select
import socket
import threading
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np
import pytest

import cluster.storage.http as fetching
from serve.jobs import api_keys
from serve.jobs.api_keys import add_key, hash_key, list_keys, revoke_key
from serve.jobs.database import Database
from tests.api.server import NO_MODELS, PATIENCE_S, Running, finished, running

KEY, OTHER, SLOW = "a key for tests", "somebody else's", "one that may ask little"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Keys needed; small limits."""
    keys = (
        f"serve.auth.keys=[{{name: one, sha256: {hash_key(KEY)}}}, {{name: two, sha256: {hash_key(OTHER)}}}, "
        f"{{name: slow, sha256: {hash_key(SLOW)}, limits: {{requests_per_min: 20, media_s_per_day: 20}}}}]"
    )
    settings = (
        "serve.auth.required=true",
        keys,
        "serve.max_upload_bytes=3000000",
        "serve.max_body_bytes=2000",
        "fetch.schemes=[http, https]",
    )
    with running(tmp_path_factory.mktemp("data"), *NO_MODELS, *settings, config="base", loop="asyncio") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[httpx.Client]:
    with service.client(KEY) as client:
        yield client


@pytest.fixture(scope="module")
def open_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """No keys needed: loopback. A body must not pause for long."""
    short = ("serve.upload_idle_s=0.5", "serve.header_timeout_s=0.5")
    with running(tmp_path_factory.mktemp("open"), *NO_MODELS, *short, config="base") as service:
        yield service


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound is enough here."""
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        tone = 3000 * np.sin(np.arange(12 * 16_000) / 10)
        file.writeframes(tone.astype("<i2").tobytes())
    return path


def upload(client: httpx.Client, path: Path, name: str = "talk.mp4", **data: str) -> httpx.Response:
    with path.open("rb") as file:
        return client.post("/v1/dubs", data={"to": "pt", "source": "en", **data}, files={"file": (name, file)})


# --- keys and headers


PUBLIC = ("/healthz", "/readyz", "/health", "/languages", "/spec", "/frontend/settings")
"""Health, and what LibreTranslate's clients ask for before they have a key; none tells of a tenant."""


def test_nothing_but_health_and_documents_is_answered_without_a_key(service: Running) -> None:
    with service.client() as stranger:
        document = stranger.get("/openapi.json").json()
        for path, methods in document["paths"].items():
            for method in methods:
                status = stranger.request(method, path.replace("{", "").replace("}", "")).status_code
                assert (status == 401) is (path not in PUBLIC), (method, path)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer wrong"},
        {"authorization": f"Bearer {KEY} {KEY}"},
        {"authorization": KEY},
        {"xi-api-key": "x" * 5000},
        {"xi-api-key": KEY.upper()},
        {"authorization": b"Bearer \xff\xfe"},
        {"x-api-key": KEY},
        {"cookie": f"key={KEY}"},
    ],
)
def test_a_wrong_key_opens_nothing(service: Running, headers: Any) -> None:
    answer = httpx.get(f"{service.url}/v1/dubs", headers=headers, timeout=PATIENCE_S)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert KEY not in answer.text


def test_trying_keys_is_slowed_down(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "READ_PAUSE_S", 0.0)
    with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as client:
        # At most so many a minute, however slowly they are tried.
        for number in range(10_000):
            answer = client.get("/v1/dubs", headers={"xi-api-key": str(number)})
            if answer.status_code != 401:
                break
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    with service.client(KEY) as client:
        assert client.get("/v1/dubs").status_code == 200


def test_a_key_is_held_to_its_rate(service: Running) -> None:
    with service.client(SLOW) as client:
        num_answered = 0
        while (answer := client.get("/v1/dubs")).status_code == 200:
            num_answered += 1
    assert num_answered >= 20
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


def test_an_upload_that_may_not_be_made_is_told_why(service: Running, talk: Path) -> None:
    """The size of its body, which nobody reads, is not what is wrong with it."""
    with service.client() as stranger:
        assert upload(stranger, talk).status_code == 401
    with service.client(SLOW) as hasty:
        while hasty.get("/v1/dubs").status_code == 200:
            pass
        assert upload(hasty, talk).status_code == 429


def test_headers_past_all_measure_end_the_request_not_the_server(service: Running) -> None:
    with socket.create_connection(("127.0.0.1", httpx.URL(service.url).port or 0)) as raw, contextlib.suppress(OSError):
        raw.sendall(b"GET /v1/dubs HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 2_000_000 + b"\r\n\r\n")
        raw.settimeout(PATIENCE_S)
        assert b" 200 " not in raw.recv(100)
    assert httpx.get(f"{service.url}/healthz", timeout=PATIENCE_S).status_code == 200


def test_what_one_key_made_is_not_there_for_another(service: Running, client: httpx.Client, talk: Path) -> None:
    dub_id = upload(client, talk).json()["id"]
    with service.client(OTHER) as other:
        for method, path in [
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/cancel"),
            ("GET", "/events"),
            ("GET", "/media"),
            ("POST", "/regenerate"),
        ]:
            assert other.request(method, f"/v1/dubs/{dub_id}{path}").status_code == 404
        assert other.get("/v1/dubs").json()["dubs"] == []
    client.post(f"/v1/dubs/{dub_id}/cancel")


# --- pages of elsewhere, which make a browser ask a service on its own machine


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
def test_without_keys_no_page_of_elsewhere_is_answered(open_service: Running, headers: dict[str, str]) -> None:
    with open_service.client() as client:
        assert client.get("/v1/dubs").status_code == 200
        assert client.get("/v1/dubs", headers=headers).status_code == 403
        assert client.post("/v1/dubs", headers=headers, data={"to": "pt"}).status_code == 403


@pytest.mark.parametrize("header", ["forwarded", "x-forwarded-for", "x-real-ip", "via"])
def test_what_a_proxy_passes_on_needs_a_key(open_service: Running, header: str) -> None:
    """It comes from this machine, and calls it by its loopback address, whoever asked."""
    with open_service.client() as client:
        assert client.get("/v1/dubs", headers={header: "203.0.113.7"}).status_code == 401


def test_a_request_that_looks_local_needs_a_key_unless_the_port_is_known_to_be(tmp_path: Path) -> None:
    """HAProxy reaches a replica of its machine by loopback, with any Host, and says of nobody else."""
    with running(tmp_path, *NO_MODELS, config="base", on_loopback=False) as service, service.client() as client:
        for headers in ({}, {"host": "localhost"}, {"host": "127.0.0.1"}):
            assert client.get("/v1/dubs", headers=headers).status_code == 401
            assert client.post("/v1/dubs", headers=headers, data={"to": "pt"}).status_code == 401
        assert client.get("/frontend/settings").json()["keyRequired"] is True
        with service.client(asyncio.run(added_to(service))) as known:
            assert known.get("/v1/dubs").status_code == 200


def test_keys_may_be_refused_in_so_many_words(tmp_path: Path) -> None:
    refused = "serve.auth.required=false"
    with running(tmp_path, *NO_MODELS, refused, config="base", on_loopback=False) as service:
        assert httpx.get(f"{service.url}/v1/dubs", timeout=PATIENCE_S).status_code == 200


def test_once_there_was_a_key_none_comes_in_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also once the last one is revoked."""
    monkeypatch.setattr(api_keys, "REFRESH_S", 0.05)
    with running(tmp_path, *NO_MODELS, config="base") as service:
        assert httpx.get(f"{service.url}/v1/dubs", timeout=PATIENCE_S).status_code == 200
        key = asyncio.run(added_to(service))
        until_status(service, 401)
        with service.client(key) as client:
            assert client.get("/v1/dubs").json()["dubs"] == []
            asyncio.run(revoked_in(service))
            until_status(service, 401, key)
        assert httpx.get(f"{service.url}/v1/dubs", timeout=PATIENCE_S).status_code == 401


def until_status(service: Running, status: int, key: str | None = None) -> None:
    with service.client(key) as client:
        while client.get("/v1/dubs").status_code != status:
            time.sleep(0.05)


async def added_to(service: Running) -> str:
    async with Database.open(service.dispatcher.settings.database) as database:
        return await add_key(database, "first", None)


async def revoked_in(service: Running) -> None:
    async with Database.open(service.dispatcher.settings.database) as database:
        for key in await list_keys(database):
            await revoke_key(database, key.id)


@pytest.mark.parametrize("header", ["host", "origin", "referer"])
def test_a_header_that_should_be_a_url_and_is_none(open_service: Running, header: str) -> None:
    for broken in ("http://[", "[", "//[x]", "http://[*a]:b"):
        answer = httpx.get(f"{open_service.url}/v1/dubs", headers={header: broken}, timeout=PATIENCE_S)
        assert answer.status_code == (200 if header == "referer" else 403)


def test_answers_carry_secure_headers_and_no_cors(open_service: Running) -> None:
    answer = httpx.get(f"{open_service.url}/v1/dubs", timeout=PATIENCE_S)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "server" not in answer.headers


# --- paths and names


@pytest.mark.parametrize(
    "path",
    [
        "/v1/dubs/..%2f..%2fetc%2fpasswd",
        "/v1/dubs/%2e%2e/%2e%2e/etc/passwd",
        "/v1/dubs/{id}/audio/..%2f..%2fsource",
        "/v1/dubs/{id}/transcripts/..%2fmanifest/json",
        "/v1/dubs/{id}/clips/..%2f..%2fsource",
        "/v1/dubs/{id}/clips/pt:u0001%00.wav",
        "/v1/dubbing/{id}/transcripts/../format/srt",
    ],
)
def test_no_path_leads_out_of_a_dubs_folder(client: httpx.Client, path: str) -> None:
    answer = client.get(path.replace("{id}", "dub_" + "0" * 26))
    assert answer.status_code in (404, 422)
    assert "root:" not in answer.text


def test_a_file_name_becomes_no_path_and_no_markup(service: Running, client: httpx.Client, talk: Path) -> None:
    name = '../../<img src=x onerror="alert(1)">\r\nset-cookie: a=b\u202e.mp4'
    made = upload(client, talk, name=name, profile="speed").json()
    assert "/" not in made["name"]
    assert all(char.isprintable() for char in made["name"])
    done = finished(client, made["id"])
    assert done["state"] == "done", done["error"]
    media = client.get(f"/v1/dubs/{made['id']}/media")
    assert media.headers["content-disposition"].startswith("attachment;")
    assert "<" not in media.headers["content-disposition"]
    assert "set-cookie" not in media.headers
    page = client.get(f"/v1/dubs/{made['id']}")
    assert page.headers["content-type"] == "application/json"
    report = next(service.dispatcher.files.paths.folder(made["id"]).glob("*/report.html")).read_text()
    assert "<img src=x" not in report


# --- bodies


def test_an_upload_past_the_limit_is_refused_while_it_comes(service: Running) -> None:
    with socket.create_connection(("127.0.0.1", httpx.URL(service.url).port or 0)) as raw:
        raw.sendall(
            b"POST /v1/dubs HTTP/1.1\r\nhost: localhost\r\nxi-api-key: " + KEY.encode() + b"\r\n"
            b"transfer-encoding: chunked\r\ncontent-type: multipart/form-data; boundary=b\r\n\r\n"
        )
        head = b'--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\n'
        raw.sendall(b"%x\r\n%s\r\n" % (len(head), head))
        chunk, num_sent = b"10000\r\n" + b"x" * 0x10000 + b"\r\n", 0
        while not select.select([raw], [], [], 0)[0]:
            raw.sendall(chunk)
            num_sent += 0x10000
            assert num_sent < 1_000_000_000, "nobody stops an endless upload"
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_without_a_file_has_a_limit_of_its_own(client: httpx.Client) -> None:
    answer = client.patch("/v1/dubs/dub_" + "0" * 26 + "/lines/pt:u0001", json={"text": "x" * 5000})
    assert answer.status_code == 413


def test_a_form_may_not_fill_memory(client: httpx.Client) -> None:
    assert client.post("/v1/dubs", data={"to": "x" * 200_000}).status_code in (400, 413)
    many = [("to", (None, "pt"))] * 1000
    assert client.post("/v1/dubs", files=many).status_code == 400


def test_a_body_that_stops_coming_ends(open_service: Running) -> None:
    with socket.create_connection(("127.0.0.1", httpx.URL(open_service.url).port or 0)) as raw:
        raw.sendall(
            b"POST /v1/dubs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n"
            b"content-type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        )
        raw.settimeout(PATIENCE_S)
        assert raw.recv(100).startswith(b"HTTP/1.1 408 ")


WHOLE = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"


@contextlib.contextmanager
def connected(service: Running) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", httpx.URL(service.url).port or 0)) as raw:
        raw.settimeout(PATIENCE_S)
        yield raw


def ask(raw: socket.socket) -> None:
    """Send a request and read its whole answer, which may come in parts."""
    raw.sendall(WHOLE)
    answer = b""
    while not answer.endswith(b"}"):
        part = raw.recv(10_000)
        assert part, "the connection has ended"
        answer += part
    assert answer.startswith(b"HTTP/1.1 200 ")


def is_closed_in_the_end(raw: socket.socket) -> bool:
    with contextlib.suppress(ConnectionError):
        while raw.recv(10_000):
            pass
    return True  # or it waited too long, and raised


@pytest.mark.parametrize("part", [b"", WHOLE[:10], WHOLE[:-2] + b"x: "])
def test_headers_that_stop_coming_end_the_connection(open_service: Running, part: bytes) -> None:
    with connected(open_service) as raw:
        raw.sendall(part)
        assert is_closed_in_the_end(raw)
    if part:
        with connected(open_service) as raw:
            ask(raw)
            raw.sendall(part)
            assert is_closed_in_the_end(raw)


def test_the_limit_of_headers_ends_no_idle_connection(open_service: Running) -> None:
    with connected(open_service) as raw:
        for _ in range(2):
            ask(raw)
            time.sleep(1.0)


def test_more_media_than_a_key_may_have_is_refused(service: Running, talk: Path) -> None:
    with httpx.Client(base_url=service.url, headers={"xi-api-key": SLOW}, timeout=PATIENCE_S) as client:
        while (answer := upload(client, talk, to="pt")).status_code == 429 and "requests a minute" in answer.text:
            time.sleep(float(answer.headers["retry-after"]))
        first = answer
        while (answer := upload(client, talk, to="pt")).status_code == 429 and "requests a minute" in answer.text:
            time.sleep(float(answer.headers["retry-after"]))
    assert first.status_code == 201
    assert answer.status_code == 429
    assert "s of media" in answer.json()["detail"]


# --- URLs


class Redirecting(http.server.BaseHTTPRequestHandler):
    num_asked: ClassVar[int] = 0

    def do_GET(self) -> None:
        type(self).num_asked += 1
        self.send_response(302)
        self.send_header("location", "http://169.254.169.254/latest/meta-data")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Public(http.server.ThreadingHTTPServer):
    """Stands for a server of the internet; has nothing."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.hosts_asked: list[str] = []
        super().__init__(address, _Nothing)
        self.server_name = address[0]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Nothing(http.server.BaseHTTPRequestHandler):
    server: Public

    def do_GET(self) -> None:
        self.server.hosts_asked.append(self.headers["host"])
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def inner() -> Iterator[str]:
    """A server on a private address, which nothing may reach by URL."""
    Redirecting.num_asked = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_url_may_not_lead_inside(client: httpx.Client, inner: str) -> None:
    port = httpx.URL(inner).port
    for url in (inner, f"http://localhost:{port}/", f"http://[::ffff:127.0.0.1]:{port}/", f"http://0x7f000001:{port}/"):
        made = client.post("/v1/dubs", data={"to": "pt", "source_url": url})
        assert made.status_code == 201, made.text
        failed = finished(client, made.json()["id"])
        assert failed["state"] == "failed"
    assert Redirecting.num_asked == 0


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b", "gopher://a", "//a/b", "http://", "x" * 100])
def test_only_http_is_fetched(client: httpx.Client, url: str) -> None:
    assert client.post("/v1/dubs", data={"to": "pt", "source_url": url}).status_code == 422


def test_a_redirect_may_not_lead_inside(client: httpx.Client, inner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = httpx.URL(inner).port
    checked = fetching.is_public
    # This test's own server stands for a public one; everything else is judged as always.
    monkeypatch.setattr(fetching, "is_public", lambda address: str(address) == "127.0.0.1" or checked(address))
    made = client.post("/v1/dubs", data={"to": "pt", "source_url": f"http://127.0.0.1:{port}/"}).json()
    failed = finished(client, made["id"])
    assert failed["state"] == "failed"
    assert "public address" in str(failed["error"])
    assert Redirecting.num_asked == 1


def test_a_name_that_answers_differently_the_second_time_gains_nothing(
    client: httpx.Client, inner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the address that was checked is the one that is connected to."""
    port = httpx.URL(inner).port
    Redirecting.num_asked = 0
    with Public(("127.0.0.2", port or 0)) as public:
        answers = [public.server_name, "127.0.0.1", "127.0.0.1", "127.0.0.1"]
        resolve = socket.getaddrinfo

        def changing(host: Any, *rest: Any, **named: Any) -> Any:
            return resolve(answers.pop(0) if host in ("rebind.example", b"rebind.example") else host, *rest, **named)

        monkeypatch.setattr(socket, "getaddrinfo", changing)
        monkeypatch.setattr(fetching, "is_public", lambda address: str(address) == public.server_name)
        made = client.post("/v1/dubs", data={"to": "pt", "source_url": f"http://rebind.example:{port}/a.mp4"}).json()
        assert finished(client, made["id"])["state"] == "failed"
        assert len(answers) == 3
        assert public.hosts_asked == [f"rebind.example:{port}"]
        assert Redirecting.num_asked == 0
        # Asked again, it says what it wanted to say all along.
        made = client.post("/v1/dubs", data={"to": "pt", "source_url": f"http://rebind.example:{port}/a.mp4"}).json()
        assert "public address" in str(finished(client, made["id"])["error"])
        assert Redirecting.num_asked == 0
