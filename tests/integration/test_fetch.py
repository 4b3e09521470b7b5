"""Fetching from real servers on this machine: limits, redirects, private addresses, names that change."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import resource
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from actors.errors import MediaError
from cluster.batch.inputs import GUESSED_BYTES_PER_S, look_at_input
from cluster.batch.items import Item, jobs_of
from cluster.batch.ledger import Fingerprints
from cluster.config.load import load_config
from cluster.storage.config import FetchConfig
from cluster.storage.http import describe, fetch, is_public, post
from cluster.storage.urls import shown

BODY = bytes(range(256)) * 64
PACKED = gzip.compress(gzip.compress(bytes(400_000_000), 1))
"""Less than two kilobytes, which httpx would expand at once."""
OPEN: dict[str, Any] = {"schemes": ("http",), "allow_private": True, "silence_s": 2.0}


class Handler(BaseHTTPRequestHandler):
    num_requests: dict[str, int]

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        count = self.num_requests[path] = self.num_requests.get(path, 0) + 1
        if path == "/talk.mp4" or (path == "/flaky" and count > 2):
            self._answer(200, BODY)
        elif path in ("/flaky", "/broken"):
            self._answer(503, b"")
        elif path == "/short" and count > 1:
            self._answer(200, BODY)
        elif path == "/short":
            self._answer(200, BODY[:100], length=len(BODY))
        elif path == "/endless":
            self._endless()
        elif path == "/packed":
            encoding = self.path.partition("?")[2].replace("+", ", ")
            packed = PACKED if encoding == "gzip, gzip" else BODY
            self._answer(200, packed, headers={"Content-Encoding": encoding})
        elif path == "/dripping":
            self._drip(b"")
        elif path == "/dripping-headers":
            self._drip(b"HTTP/1.1 200 OK\r\nX: ")
        elif path == "/silent":
            threading.Event().wait(20)
        elif path == "/loop":
            self._redirect("/loop")
        elif path == "/moved":
            self._redirect("/talk.mp4")
        elif path == "/to-nowhere":
            self._redirect("http:ttp:ttp://[::fff7.0.0.1]:80/")
        elif path == "/to-file":
            self._redirect("file:///etc/passwd")
        elif path == "/to-private":
            self._redirect("http://169.254.169.254/latest/meta-data")
        elif path.startswith("/tagged"):
            self._answer(200, BODY, headers={"ETag": self.path.partition("?")[2] or '"a"'})
        elif path == "/dated":
            self._answer(200, BODY, headers={"Last-Modified": "Tue, 24 Nov 2026 21:07:06 GMT"})
        elif path == "/part":
            self._answer(206, BODY[:1], headers={"ETag": '"a"', "Content-Range": f"bytes 0-0/{len(BODY)}"})
        elif path == "/host":
            self._answer(200, self.headers["Host"].encode())
        else:
            self._answer(404, b"")

    def do_POST(self) -> None:
        self.do_GET()

    def _answer(
        self, status: int, body: bytes, length: int | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _redirect(self, location: str) -> None:
        self.send_response(302)
        self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(BODY)
        except OSError:
            pass

    def _drip(self, head: bytes) -> None:
        """A body, or after ``head`` headers, of one byte at a time."""
        if head:
            self.wfile.write(head)
        else:
            self.send_response(200)
            self.end_headers()
        try:
            while True:
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.02)
        except OSError:
            pass

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    handler = type("Counting", (Handler,), {"num_requests": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        running.block_on_close = False
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield running
        running.shutdown()


def url(server: ThreadingHTTPServer, path: str, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{server.server_port}{path}"


async def refused(address: str, to: Path, **settings: Any) -> str:
    with pytest.raises(MediaError) as caught:
        await fetch(address, to, FetchConfig(**settings))
    assert not to.exists()  # noqa: ASYNC240
    return caught.value.message


async def test_a_file_comes_whole(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    await fetch(url(server, "/moved?signature=1"), tmp_path / "a", FetchConfig(**OPEN))
    assert (tmp_path / "a").read_bytes() == BODY


@pytest.mark.parametrize("path", ["/flaky", "/short"])
async def test_what_breaks_is_tried_again(server: ThreadingHTTPServer, tmp_path: Path, path: str) -> None:
    await fetch(url(server, path), tmp_path / "a", FetchConfig(**OPEN))
    assert (tmp_path / "a").read_bytes() == BODY


@pytest.mark.parametrize(
    ("path", "settings", "says"),
    [
        ("/broken", {}, "it answers 503, after 3 attempts"),
        ("/none", {}, "it answers 404"),
        ("/loop", {}, "within 5 redirects"),
        ("/to-file", {}, "must begin with http://"),
        ("/to-nowhere", {}, "redirects to what is no URL"),
        ("/talk.mp4", {"max_bytes": len(BODY) - 1}, "fetch.max_bytes"),
        ("/endless", {"max_bytes": 1_000_000}, "fetch.max_bytes"),
        ("/endless", {"timeout_s": 0.5, "max_bytes": 10**12}, "fetch.timeout_s"),
        ("/silent", {"silence_s": 0.2, "attempts": 1}, "after 1 attempts"),
        ("/dripping-headers", {"silence_s": 0.2, "attempts": 1}, "fetch.silence_s"),
        ("/dripping", {"silence_s": 0.2}, "fetch.min_bytes_per_s"),
    ],
)
async def test_limits(
    server: ThreadingHTTPServer, tmp_path: Path, path: str, settings: dict[str, Any], says: str
) -> None:
    assert says in await refused(url(server, path), tmp_path / "a", **{**OPEN, **settings})


async def test_a_broken_redirect_is_told_to_who_posts_or_looks(server: ThreadingHTTPServer) -> None:
    for call in (describe(url(server, "/to-nowhere"), FetchConfig(**OPEN)), _post(url(server, "/to-nowhere"))):
        with pytest.raises(MediaError, match="redirects to what is no URL"):
            await call


async def _post(address: str) -> int:
    return await post(address, b"", {}, FetchConfig(**OPEN))


@pytest.mark.parametrize("encoding", ["gzip,+gzip", "gzip", "br", "zstd", "identity,+gzip"])
async def test_a_packed_answer_is_refused_unread(server: ThreadingHTTPServer, tmp_path: Path, encoding: str) -> None:
    before_bytes = peak_bytes()
    assert "content encoding" in await refused(url(server, f"/packed?{encoding}"), tmp_path / "a", **OPEN)
    assert peak_bytes() - before_bytes < 100_000_000


async def test_an_answer_that_says_it_is_not_packed_comes_whole(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    await fetch(url(server, "/packed?identity"), tmp_path / "a", FetchConfig(**OPEN))
    assert (tmp_path / "a").read_bytes() == BODY


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433"])
async def test_private_addresses_are_refused_however_they_are_written(
    server: ThreadingHTTPServer, tmp_path: Path, host: str
) -> None:
    message = await refused(url(server, "/talk.mp4", host), tmp_path / "a", schemes=("http",))
    assert "public address" in message or "exists" in message
    assert server.RequestHandlerClass.num_requests == {}  # type: ignore[attr-defined]


async def test_a_redirect_into_the_private_network_is_refused(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    settings = {"schemes": ("http",), "allow_hosts": ("127.0.0.1",)}
    assert "public address" in await refused(url(server, "/to-private"), tmp_path / "a", **settings)


async def test_a_name_that_changes_its_address_is_not_asked_twice(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public while it is checked, private when connected to."""
    answers = ["203.0.113.7", "127.0.0.1"]  # documentation's address, for the test of what is resolved only

    async def resolve(self: object, host: str, port: int, **options: object) -> list[Any]:
        if host == "rebind.test":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    monkeypatch.setattr("cluster.storage.http.is_public", lambda address: str(address) != "127.0.0.1")
    settings = {"schemes": ("http",), "silence_s": 0.2, "attempts": 1}
    await refused(url(server, "/talk.mp4", "rebind.test"), tmp_path / "a", **settings)
    assert answers == ["127.0.0.1"]
    assert server.RequestHandlerClass.num_requests == {}  # type: ignore[attr-defined]


async def test_the_server_is_asked_by_its_name(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    await fetch(url(server, "/host", "localhost"), tmp_path / "a", FetchConfig(**OPEN))
    assert (tmp_path / "a").read_text() == f"localhost:{server.server_port}"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("2002:0a00:0001::1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("64:ff9b:1::808:808", False),
        ("fec0::1", False),
        ("192.0.0.192", False),
        ("168.63.129.16", False),
        ("::ffff:168.63.129.16", False),
    ],
)
def test_which_addresses_are_public(address: str, expected: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is expected


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("https://", "must name a host"),
        ("ftp://example.com/a", "must begin with https://"),
        ("http://example.com/a", "must begin with https://"),
        ("https://exa mple.com/a", "URL"),
        ("not a url", "URL"),
        ("file:///etc/passwd", "must name a host"),
        ("https://nowhere.invalid/a", "must name a host that exists"),
    ],
)
async def test_what_is_no_url_to_fetch(tmp_path: Path, bad: str, says: str) -> None:
    assert says in await refused(bad, tmp_path / "a")


def test_secrets_are_not_shown() -> None:
    assert shown("https://me:secret@host/talk.mp4?signature=secret#x") == "https://host/talk.mp4"


@pytest.mark.parametrize(
    ("path", "identity"),
    [
        ("/tagged", f'{len(BODY)}:"a"'),
        ("/part", f'{len(BODY)}:"a"'),
        ("/dated", f"{len(BODY)}:Tue, 24 Nov 2026 21:07:06 GMT"),
        ("/moved", None),
        ('/tagged?W/"weak"', None),
    ],
)
async def test_what_a_server_says_of_a_file(server: ThreadingHTTPServer, path: str, identity: str | None) -> None:
    found = await describe(url(server, path), FetchConfig(**OPEN))
    assert (found.num_bytes, found.identity) == (len(BODY), identity)


@pytest.mark.parametrize("path", ["/none", "/to-private", "/loop"])
async def test_what_may_not_be_fetched_is_not_asked_about(server: ThreadingHTTPServer, path: str) -> None:
    with pytest.raises(MediaError):
        await describe(url(server, path), FetchConfig(**{**OPEN, "allow_private": path != "/to-private"}))


def test_the_results_of_a_url_stand_until_its_file_changes(server: ThreadingHTTPServer) -> None:
    config = load_config("offline", ["fetch.schemes=[http]", "fetch.allow_private=true"])

    def mark(path: str) -> str:
        items = [Item.model_validate({"source": url(server, path), "from": "en", "to": ["pt"]})]
        [job] = jobs_of(items, "out", config)
        return Fingerprints(config).of(job)

    assert mark("/tagged.mp4") == mark("/tagged.mp4") != mark('/tagged.mp4?"b"')
    assert mark("/talk.mp4") != mark("/talk.mp4"), "nothing tells whether it is another one"


async def test_the_longest_url_comes_first(server: ThreadingHTTPServer) -> None:
    config = load_config("offline", ["fetch.schemes=[http]", "fetch.allow_private=true"])
    items = [Item.model_validate({"source": url(server, path), "to": ["pt"]}) for path in ("/talk.mp4", "/none.mp4")]
    found, missing = [await look_at_input(job, config) for job in jobs_of(items, "out", config)]
    assert found == len(BODY) / GUESSED_BYTES_PER_S
    assert missing == 0.0, "the driver that dubs it tells what is wrong with it"
