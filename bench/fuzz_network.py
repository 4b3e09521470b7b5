"""Hostile requests to the service, and hostile answers of the servers that it calls; parts of ``bench_fuzz.py``."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import resource
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from actors.errors import MediaError
from cluster.storage.config import FetchConfig
from cluster.storage.http import describe, fetch, post
from serve.jobs.api_keys import hash_key
from tests import bombs
from tests.api.server import STANDINS, running

KEY = "a key for tests"
ANSWER_S = 300.0
"""So long that a busy machine is no finding, and a hang is one."""
MAX_GROWTH_BYTES = 200 * 2**20
CRASHED = b"unexpected error"
CANNOT = b"cannot answer at the moment"
"""In the detail of a problem that is the service's fault: an exception, or a database that takes no such value."""


class HostileError(Exception):
    """Something that no request and no answer may bring about."""


class _Context(AbstractContextManager[None]):
    """Something that is open for the time of its block."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class Service(_Context):
    """The service with engines that stand in for models. Its answer to a request must be a result, or no crash."""

    def __enter__(self) -> None:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        limits = "{requests_per_min: 1000000, max_active_dubs: 100000, media_s_per_day: 100000000}"
        keys = f"serve.auth.keys=[{{name: tests, sha256: {hash_key(KEY)}, limits: {limits}}}]"
        settings = (*STANDINS, keys, "serve.max_queued_dubs=100000", "serve.allow_source_urls=false")
        self._url = urlsplit(self._stack.enter_context(running(Path(folder), *settings, config="base")).url)

    def read(self, path: Path) -> None:
        """Send a request: a line, some headers, an empty line and a body. Raises HostileError."""
        line, _, rest = path.read_bytes().partition(b"\r\n")
        head, _, body = rest.partition(b"\r\n\r\n")
        own = f"host: {self._url.netloc}\r\nconnection: close\r\nxi-api-key: {KEY}\r\ncontent-length: {len(body)}"
        answer = self._ask(b"\r\n".join((line, own.encode(), *([head] if head else ()), b"", body)))
        status = answer.split(b" ", 2)[1:2]
        if not status:
            raise HostileError("no answer")
        is_crash = status[0].startswith(b"5") and status[0] != b"503"
        if is_crash or CRASHED in answer or CANNOT in answer:
            raise HostileError(f"{line.decode('latin-1')}: {answer[:20]!r}")

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection((self._url.hostname, self._url.port), ANSWER_S) as raw:
            with contextlib.suppress(ConnectionError):  # refused before all of it was sent
                raw.sendall(request)
            answer = bytearray()
            with contextlib.suppress(ConnectionError):
                while part := raw.recv(2**16):
                    answer += part
        return bytes(answer)


def request_seeds() -> dict[str, bytes]:
    """Valid requests with a body, of each kind of endpoint."""
    sound = bombs.hours_of_nothing(1.0)
    dub = {"to": "pt", "source": "en", "voices": '{"pt": "hum"}', "name": "talk", "speakers": "2", "profile": "speed"}
    heard = {"model": "whisper-1", "language": "en", "response_format": "verbose_json", "temperature": "0"}
    said = {"model": "tts-1", "input": "Good morning.", "voice": "hum", "response_format": "wav", "speed": 1.1}
    texts = {"q": ["Good <b>morning</b>.", "Yes."], "source": "en", "target": "pt", "format": "html"}
    return {
        "dubs": _multipart("/v1/dubs", dub, sound),
        "dubbing": _multipart("/v1/dubbing", {"target_lang": "pt", "source_lang": "en", "num_speakers": "1"}, sound),
        "project": _multipart("/v1/dubbing/project", {"name": "talk", "source_lang": "en"}, sound),
        "stream": _multipart("/v1/dub/stream?to=pt&source=en", {}, sound),
        "transcriptions": _multipart("/v1/audio/transcriptions", heard, sound),
        "speech-to-text": _multipart("/v1/speech-to-text", {"model_id": "scribe_v1"}, sound),
        "speech": _json("/v1/audio/speech", said),
        "text-to-speech": _json("/v1/text-to-speech/hum", {"text": "Good morning.", "voice_settings": {"speed": 1.0}}),
        "translate": _json("/translate", texts),
        "detect": _json("/detect", {"q": "Good morning."}),
        "embeddings": _json("/v1/embeddings", {"model": "use", "input": ["Good morning.", "Yes."]}),
        "embed": _json("/embed", {"inputs": ["Good morning."], "normalize": True}),
        "edit": _json("/v1/dubs/dub_00000000000000000000000000/lines/pt:u1", {"text": "Bom dia."}, method="PATCH"),
    }


def _json(path: str, value: object, method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\ncontent-type: application/json\r\n\r\n{json.dumps(value)}".encode()


def _multipart(path: str, fields: dict[str, str], file: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=b\r\n\r\n".encode()
    parts = [f'--b\r\ncontent-disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
    named = '--b\r\ncontent-disposition: form-data; name="file"; filename="a.mka"\r\ncontent-type: audio/mka\r\n\r\n'
    return head + "".join((*parts, named)).encode() + file + b"\r\n--b--\r\n"


class Answers(_Context):
    """A server that answers as it is told, and a private one behind it, which nobody may reach."""

    def __enter__(self) -> None:
        self._answer, self._is_slow, self._is_endless = b"", False, False
        self._num_reached = 0
        self.port = self._serve(self._send)
        self._private_port = self._serve(self._reached)

    def read(self, path: Path) -> None:
        """Let a webhook, a download and a look at a file meet an answer. Raises HostileError."""
        self._answer = path.read_bytes().replace(b"PRIVATE", str(self._private_port).encode())
        self._is_slow, self._is_endless = path.name.startswith("slow"), path.name.startswith("endless")
        # Known by its name, so that a redirect to its address is one to a private network.
        config = FetchConfig(
            schemes=("http",), allow_hosts=("localhost",), timeout_s=2.0, silence_s=0.5, attempts=1, max_bytes=2**22
        )
        url = f"http://localhost:{self.port}/talk.mp4"
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for call in (
            lambda: post(url, b"{}", {"content-type": "application/json"}, config),
            lambda: describe(url, config),
            lambda: fetch(url, path.with_name("fetched"), config),
        ):
            asyncio.run(_ended(call))
        growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if growth > MAX_GROWTH_BYTES:
            raise HostileError(f"more than {MAX_GROWTH_BYTES} bytes of memory for an answer")
        if self._num_reached:
            raise HostileError("the private server was asked")

    def _serve(self, handle: Callable[[socket.socket], None]) -> int:
        server = self._stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))

        def accept() -> None:
            with contextlib.suppress(OSError):  # closed
                while True:
                    threading.Thread(target=handle, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return int(server.getsockname()[1])

    def _send(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.recv(2**16)
            if self._is_slow:
                for number in range(len(self._answer)):
                    client.sendall(self._answer[number : number + 1])
                    threading.Event().wait(0.02)
                return
            client.sendall(self._answer)
            for _ in itertools.count() if self._is_endless else ():
                client.sendall(self._answer[-1:] * 2**16)

    def _reached(self, client: socket.socket) -> None:
        self._num_reached += 1
        client.close()


async def _ended(call: Callable[[], object]) -> None:
    """A call must end in its time, by a result or by one of our errors in one line."""
    try:
        async with asyncio.timeout(10.0):
            await call()  # type: ignore[misc]
    except MediaError as error:
        if "\n" in error.message:
            raise HostileError("an error in several lines") from error


def answer_seeds() -> dict[str, bytes]:
    ok = b'HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\ncontent-length: 64\r\netag: "a"\r\n\r\n' + bytes(64)
    redirect = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:PRIVATE/\r\ncontent-length: 0\r\n\r\n"
    parts = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    part = b"HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-0/64\r\ncontent-length: 1\r\n\r\n\0"
    packed = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip, gzip\r\ncontent-length: 20\r\n\r\n" + bytes(20)
    headers = b"HTTP/1.1 200 OK\r\n" + b"x: yyyyyyyy\r\n" * 500 + b"\r\n"
    return {
        "ok": ok,
        "redirect": redirect,
        "elsewhere": redirect.replace(b"127.0.0.1", b"[::ffff:127.0.0.1]"),
        "parts": parts,
        "part": part,
        "packed": packed,
        "headers": headers,
        "failed": b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\nno",
        "slow": ok[:90],
        "endless": b"HTTP/1.1 200 OK\r\n\r\n\0",
        "endless headers": b"HTTP/1.1 200 OK\r\nx: y",
    }
