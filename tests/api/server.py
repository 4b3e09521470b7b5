"""A real server for tests: uvicorn on a free port, in this process, with replicas in it too."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import uvicorn

from serve.api.app import make_api
from serve.app import Choice, make_setup
from serve.cli import server_options
from serve.dispatch.dispatcher import Dispatcher

NO_MODELS = tuple(f"{task}.engine=tests.standins.refusing" for task in ("transcription", "translation", "speech"))
"""With the configuration ``base``: nothing is loaded, nothing heard, every dub is its source."""


STANDINS = (
    "transcription.engine=tests.standins.hears",
    "translation.engine=tests.standins.translates",
    "speech.engine=tests.standins.speaks",
)
"""With ``base``: dubs as ever, but for the models."""

PATIENCE_S = 300.0
"""For an answer, however busy the machine is: long enough to load every model for it."""
PATIENT = f"serve.request_timeout_s={PATIENCE_S}"


@dataclass(frozen=True)
class Running:
    url: str
    dispatcher: Dispatcher

    def client(self, key: str | None = None) -> httpx.Client:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S)


@contextlib.contextmanager
def running(
    data: Path | str,
    *settings: str,
    config: str = "offline",
    loop: Literal["auto", "asyncio"] = "auto",
    on_loopback: bool = True,
) -> Iterator[Running]:
    """The service on real models, loaded when first needed. The loop of asyncio resolves names by ``socket``."""
    given = ("ray.mode=inline", f"serve.data_dir={data}", "serve.drain_s=0", PATIENT, *settings)
    chosen = Choice(config=config, set=given, on_loopback=on_loopback)
    setup = make_setup(chosen)
    api = make_api(setup)
    served = uvicorn.Config(api, loop=loop, **(server_options(setup.settings) | {"port": 0}))
    server = uvicorn.Server(served)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server ended while starting"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Running(f"http://127.0.0.1:{port}", api.state.dispatcher)
    finally:
        server.should_exit = True
        thread.join()


def finished(client: httpx.Client, dub_id: str) -> dict[str, object]:
    """The dub once it has ended."""
    end_s = time.monotonic() + 2 * PATIENCE_S
    while True:
        assert time.monotonic() < end_s, f"the dub has not ended; {client.get('/readyz').text}"
        answer = client.get(f"/v1/dubs/{dub_id}")
        answer.raise_for_status()
        if answer.json()["state"] not in ("queued", "running"):
            return dict(answer.json())
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
