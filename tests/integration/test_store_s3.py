"""The store on a real S3 server, by way of a proxy that fails as networks and servers do."""

from __future__ import annotations

import http.client
import threading
from collections import deque
from collections.abc import Iterator
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import numpy as np
import pytest

from actors.types import Clip
from cluster.pools.async_store import AsyncStore
from cluster.storage import codec
from cluster.storage.config import StoreConfig
from cluster.storage.framing import CorruptValueError
from cluster.storage.keys import Key
from cluster.storage.store import Store, StoreError, open_store

moto_server = pytest.importorskip("moto.server")
pytest.importorskip("s3fs")

KEY = Key("speech", "ab" * 32)
CLIP = Clip(samples=np.linspace(-1, 1, 100_000, dtype=np.float32), sample_hz=24_000)
VALUE = codec.encode(CLIP)


class Fault(Enum):
    """What befalls the next request."""

    ERROR_500 = auto()
    SLOW_DOWN_503 = auto()
    CLOSED = auto()
    """The connection ends without an answer."""
    SILENT = auto()
    """There is none, ever."""
    HALF_ANSWER = auto()
    HALF_WRITTEN = auto()
    """Only half of what was sent arrives, and all seems well."""


class Proxy(BaseHTTPRequestHandler):
    """Hands requests on to the server, but for ``faults``, one a request."""

    protocol_version = "HTTP/1.1"
    target: ClassVar[tuple[str, int]]
    faults: ClassVar[deque[Fault]] = deque()
    methods: ClassVar[list[str]] = []
    ended: ClassVar[threading.Event] = threading.Event()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.methods.append(self.command)
        fault = self.faults.popleft() if self.faults else None
        self.close_connection = fault is not None
        if fault is Fault.SILENT:
            self.ended.wait(30)
        if fault in (Fault.SILENT, Fault.CLOSED):
            return
        if fault in (Fault.ERROR_500, Fault.SLOW_DOWN_503):
            status, code = (500, "InternalError") if fault is Fault.ERROR_500 else (503, "SlowDown")
            return self._answer(status, {}, f"<Error><Code>{code}</Code><Message/></Error>".encode())
        if fault is Fault.HALF_WRITTEN:
            body = body[: len(body) // 2]
        self._answer(*self._forward(body), half=fault is Fault.HALF_ANSWER)

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        # The length and its checksums are those of what arrives: a server may not notice what is missing.
        dropped = ("content-length", "content-md5", "x-amz-", "expect", "transfer-encoding")
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith(dropped)}
        upstream = http.client.HTTPConnection(*self.target)
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, half: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if half else body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


for method in ("GET", "PUT", "HEAD", "DELETE", "POST"):
    setattr(Proxy, f"do_{method}", Proxy._handle)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL of the proxy before an S3 server with one bucket."""
    moto = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    Proxy.target = moto.get_host_and_port()
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{proxy.server_port}"
    Proxy.ended.set()
    proxy.shutdown()
    proxy.server_close()
    thread.join()
    moto.stop()


@pytest.fixture
def store(server: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    Proxy.faults.clear()
    opened = opened_store()
    if not opened._fs.exists("raydub"):
        opened._fs.mkdir("raydub")
    opened.gc(0)
    Proxy.methods.clear()
    return opened


def opened_store(bucket: str = "raydub", **settings: Any) -> Store:
    opened = open_store(StoreConfig(url=f"s3://{bucket}/store", **{"timeout_s": 1.0, "pause_s": 600.0} | settings))
    assert opened is not None
    return opened


def test_put_get_list_verify_gc(store: Store) -> None:
    assert store.get(KEY) is None
    store.put(KEY, VALUE)
    assert np.array_equal(codec.decode(store.get(KEY) or b"").samples, CLIP.samples)
    [listed] = store.list()
    assert listed.task == "speech"
    assert listed.used_s is not None
    assert store.verify(listed)
    assert store.gc(0)[0] == 1
    assert store.get(KEY) is None


def test_one_request_a_value(store: Store) -> None:
    store.put(KEY, VALUE)
    store.get(KEY)
    assert Proxy.methods == ["PUT", "GET"]


PASSING = [Fault.ERROR_500, Fault.SLOW_DOWN_503, Fault.CLOSED, Fault.SILENT]


@pytest.mark.parametrize("fault", PASSING)
def test_a_put_is_tried_again(fault: Fault, store: Store) -> None:
    Proxy.faults.append(fault)
    store.put(KEY, VALUE)
    assert not Proxy.faults
    assert store.get(KEY) == VALUE


@pytest.mark.parametrize("fault", [*PASSING, Fault.HALF_ANSWER])
def test_a_get_is_tried_again(fault: Fault, store: Store) -> None:
    store.put(KEY, VALUE)
    Proxy.faults.append(fault)
    assert store.get(KEY) == VALUE
    assert not Proxy.faults


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.SILENT])
def test_what_goes_on_failing_is_given_up(fault: Fault, store: Store) -> None:
    impatient = opened_store(max_attempts=2, timeout_s=0.3)
    Proxy.faults.extend([fault] * 2)
    with pytest.raises(StoreError):
        impatient.get(KEY)
    assert not impatient.is_readable
    assert Proxy.methods == ["GET", "GET"]


def test_a_value_half_written_is_found(store: Store) -> None:
    Proxy.faults.append(Fault.HALF_WRITTEN)
    store.put(KEY, VALUE)
    with pytest.raises(CorruptValueError):
        store.get(KEY)
    assert store.get(KEY) is None


def test_a_bucket_there_is_not(store: Store) -> None:
    missing = opened_store("nowhere")
    assert missing.get(KEY) is None
    with pytest.raises(StoreError):
        missing.put(KEY, VALUE)


async def test_work_goes_on_while_the_store_does_not(store: Store) -> None:
    failing = opened_store(max_attempts=1)
    Proxy.faults.extend([Fault.ERROR_500] * 2)
    async with AsyncStore(failing) as cache:
        assert await cache.find(KEY) is None
        assert await (await cache.keep(KEY, CLIP)) is False
        assert (failing.is_readable, failing.is_writable) == (False, False)
        assert await cache.find(KEY) is None  # it is not asked
    assert len(Proxy.methods) == 2
    assert store.get(KEY) is None
