"""The service as it is deployed: ``raydub serve`` on Ray Serve, real models; killed and replaced in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import httpx_sse
import psutil
import pytest

from tests.api.server import PATIENCE_S, PATIENT, finished, free_port

DEPLOY = """
import sys

import ray
from ray import serve
from serve.app import NAME, app

ray.init(address=sys.argv[1], log_to_driver=False)
serve.run(app({"set": sys.argv[2:], "on_loopback": True}), name=NAME, route_prefix="/", blocking=False)
"""


@dataclass(frozen=True)
class Service:
    url: str
    process: psutil.Process
    settings: tuple[str, ...]

    def dispatchers(self) -> list[psutil.Process]:
        return self.named("ServeReplica")

    def named(self, name: str) -> list[psutil.Process]:
        """Ray names its workers by what they run."""
        found = []
        for child in self.process.children(recursive=True):
            try:
                if name in " ".join(child.cmdline()):
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return found

    def deploy(self, *settings: str) -> None:
        """Another version, as `serve deploy` would: from a process of its own, replicas replaced one after another."""
        [raylet, *_] = self.named("--gcs-address=")
        address = next(part.partition("=")[2] for part in raylet.cmdline() if part.startswith("--gcs-address="))
        subprocess.run(
            [sys.executable, "-c", DEPLOY, address, *settings],
            check=True,
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("served")
    port = free_port()
    settings = (
        *(f"serve.data_dir={folder}", "serve.lease_s=10", "serve.poll_s=0.3", "serve.drain_s=1"),
        *("store.url=none", "quality.check=none", "pipeline.max_videos=1", PATIENT),
    )
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "serve.cli", "serve", "--port", str(port), *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        )
    running = Service(f"http://127.0.0.1:{port}", psutil.Process(process.pid), settings)
    try:
        wait_until(lambda: answers(f"{running.url}/healthz"), process)
        yield running
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 0, (folder / "log").read_text()[-3000:]
    finally:
        children = running.process.children(recursive=True) if process.poll() is None else []
        for child in [*children, *([running.process] if process.poll() is None else [])]:
            child.kill()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition: object, process: subprocess.Popen[bytes]) -> None:
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, "the service ended while starting"
        time.sleep(0.2)


def follow(client: httpx.Client, dub_id: str, after: int) -> Iterator[httpx_sse.ServerSentEvent]:
    with httpx_sse.connect_sse(
        client, "GET", f"/v1/dubs/{dub_id}/events", headers={"last-event-id": str(after)}
    ) as source:
        source.response.raise_for_status()
        # A comment, which keeps the connection open, is to this client an event without data.
        yield from (event for event in source.iter_sse() if event.data)


def upload(client: httpx.Client, talk: Path) -> str:
    with talk.open("rb") as file:
        made = client.post("/v1/dubs", data={"to": "pt", "source": "en"}, files={"file": ("talk.mp4", file)})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def seen_until(client: httpx.Client, dub_id: str, kind: str) -> list[httpx_sse.ServerSentEvent]:
    seen = []
    for event in follow(client, dub_id, 0):
        seen.append(event)
        if event.event == kind:
            break
    assert "done" not in [event.event for event in seen]
    return seen


def followed(client: httpx.Client, dub_id: str, seen: list[httpx_sse.ServerSentEvent]) -> list[str]:
    """All kinds of events, once it has ended: each told once, whoever was asked."""
    while seen[-1].event not in ("done", "failed"):
        try:
            for event in follow(client, dub_id, int(seen[-1].id)):
                seen.append(event)
        except (httpx.HTTPError, httpx_sse.SSEError):
            time.sleep(0.3)  # nobody answers at the moment
    assert [int(event.id) for event in seen] == list(range(1, len(seen) + 1))
    return [event.event for event in seen]


def test_a_dub_survives_the_death_of_its_dispatcher_and_of_the_proxy(service: Service, talk: Path) -> None:
    with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as client:
        dub_id = upload(client, talk)
        seen = seen_until(client, dub_id, "segment")
        [dispatcher] = service.dispatchers()
        [proxy] = service.named("ProxyActor")
        dispatcher.kill()
        proxy.kill()

        kinds = followed(client, dub_id, seen)
        assert kinds.count("done") == 1
        assert [event.json()["attempt"] for event in seen if event.event == "started"] == [1, 2]
        assert finished(client, dub_id)["revision"] == 1
        assert client.get(f"/v1/dubs/{dub_id}/media").status_code == 200
        assert client.get("/readyz").json() == {"status": "ready"}

    # Cores go first to who answers requests, and to translation: whoever asks for one waits for it.
    [dispatcher] = service.dispatchers()
    niceness = [host.nice() - dispatcher.nice() for host in service.named("ActorHost")]
    assert set(niceness) == {0, 10}


def test_dubs_survive_a_new_version(service: Service, talk: Path) -> None:
    """Somebody follows the events of one all the while, which keeps no replica from ending."""
    with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as client:
        dub_id, waiting = [upload(client, talk) for _ in range(2)]
        [before] = service.dispatchers()
        seen = seen_until(client, dub_id, "started")
        following = threading.Thread(target=lambda: followed(client, dub_id, seen))
        following.start()
        while "segment" not in [event.event for event in seen]:
            time.sleep(0.05)
        service.deploy(*service.settings, "pipeline.max_videos=2")
        following.join()

        for each in (dub_id, waiting):
            assert finished(client, each)["revision"] == 1
            told = list(follow(client, each, 0))
            assert [event.event for event in told].count("done") == 1
            # Handed on while it was under way: that counts as no attempt of its own.
            assert {event.json()["attempt"] for event in told if event.event == "started"} == {1}
        [after] = service.dispatchers()
        assert after.pid != before.pid
