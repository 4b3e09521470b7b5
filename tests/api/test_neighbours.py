"""What one key does to the others: slow sources, many streams, full disks."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy.exc import InterfaceError

import cluster.storage.http as fetching
from serve.jobs.api_keys import hash_key
from serve.jobs.jobs import Jobs
from tests import bombs
from tests.api.server import NO_MODELS, PATIENCE_S, STANDINS, Running, finished, running
from tests.media import AudioSpec, make_media, speech
from tests.standins import hears, speaks, translates

ONE, TWO, SMALL = "first key", "second key", "a key with little"
KEYS = (
    f"serve.auth.keys=[{{name: one, sha256: {hash_key(ONE)}, limits: {{max_concurrent_requests: 3}}}}, "
    f"{{name: two, sha256: {hash_key(TWO)}}}, "
    f"{{name: small, sha256: {hash_key(SMALL)}, limits: {{max_stored_bytes: 20000, max_active_dubs: 1}}}}]"
)
SOUND = bombs.hours_of_nothing(1.0)


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """The URL of a server that takes requests and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/talk.mp4"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = ("fetch.schemes=[http, https]", "fetch.silence_s=600", "pipeline.max_videos=1", "serve.max_fetches=2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetching, "is_public", lambda address: str(address) == "127.0.0.1")
        data = tmp_path_factory.mktemp("data")
        with running(data, *NO_MODELS, KEYS, *settings, config="base", loop="asyncio") as service:
            yield service


def upload(client: httpx.Client, sound: bytes = SOUND, **data: str) -> httpx.Response:
    return client.post("/v1/dubs", data={"to": "pt", "source": "en", **data}, files={"file": ("a.mka", sound)})


def test_slow_sources_stop_nobody(service: Running, silent: str) -> None:
    """More than there are places for downloads, and only one video is dubbed at a time."""
    with service.client(ONE) as one, service.client(TWO) as two:
        waiting = [one.post("/v1/dubs", data={"to": "pt", "source_url": silent}).json()["id"] for _ in range(5)]
        assert finished(two, upload(two).json()["id"])["state"] == "done"
        assert finished(one, upload(one).json()["id"])["state"] == "done"
        for dub_id in waiting:
            assert one.get(f"/v1/dubs/{dub_id}").json()["state"] == "queued"
            one.post(f"/v1/dubs/{dub_id}/cancel").raise_for_status()
            assert one.delete(f"/v1/dubs/{dub_id}").status_code == 204


def test_long_dubs_of_one_key_hold_up_no_other(tmp_path: Path) -> None:
    """All places are taken by dubs that do not end: another key's is begun all the same, the same key's next is not."""
    hold = tmp_path / "engine" / "hold"
    hold.parent.mkdir()
    hold.touch()
    listens = ("transcription.engine=tests.standins.waiting_listener", f"transcription.options.folder={hold.parent}")
    settings = (*NO_MODELS[1:], *listens, KEYS, "pipeline.max_videos=1", "serve.poll_s=0.2")
    talk = make_media(tmp_path / "talk.mka", audio=[AudioSpec(samples=speech("Good morning, everyone."))]).read_bytes()
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(running(tmp_path / "data", *settings, config="base"))
        one, two = (stack.enter_context(service.client(key)) for key in (ONE, TWO))
        first, next_one = (upload(one, talk).json()["id"] for _ in range(2))
        other = upload(two, talk).json()["id"]
        while two.get(f"/v1/dubs/{other}").json()["state"] == "queued":
            time.sleep(0.05)
        assert one.get(f"/v1/dubs/{first}").json()["state"] == "running"
        assert one.get(f"/v1/dubs/{next_one}").json()["state"] == "queued"
        hold.unlink()
        assert {finished(one, dub_id)["state"] for dub_id in (first, next_one)} == {"done"}
        assert finished(two, other)["state"] == "done"


def test_streams_of_one_key_are_limited(service: Running, silent: str) -> None:
    with contextlib.ExitStack() as stack, service.client(ONE) as one, service.client(TWO) as two:
        dub_id = one.post("/v1/dubs", data={"to": "pt", "source_url": silent}).json()["id"]
        num_open = 0
        while num_open < 3:  # the request before may count for a moment after its answer
            num_open += stack.enter_context(one.stream("GET", f"/v1/dubs/{dub_id}/events")).status_code == 200
        refused = one.get("/v1/dubs")
        assert refused.status_code == 429
        assert "answered at a time" in refused.json()["detail"]
        assert "retry-after" in refused.headers
        assert two.get("/v1/dubs").status_code == 200
        stack.close()
        while one.get("/v1/dubs").status_code == 429:
            pass
        one.post(f"/v1/dubs/{dub_id}/cancel").raise_for_status()


@contextlib.contextmanager
def without_body(service: Running, key: str, path: str, length: int) -> Iterator[socket.socket]:
    """A connection with a request whose body never comes."""
    with socket.create_connection(("127.0.0.1", httpx.URL(service.url).port or 0)) as raw:
        raw.sendall(
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\nxi-api-key: {key}\r\ncontent-length: {length}\r\n"
            "content-type: multipart/form-data; boundary=b\r\n\r\n".encode()
        )
        yield raw


def only_headers(service: Running, key: str, path: str, length: int) -> str:
    """The answer to such a request."""
    with without_body(service, key, path, length) as raw:
        raw.settimeout(PATIENCE_S)
        return raw.recv(4000).decode()


UPLOADS = ("/v1/dubs", "/v1/dubbing", "/v1/dubbing/project")


@pytest.mark.parametrize("path", UPLOADS)
def test_an_upload_past_a_keys_bytes_is_refused_before_it_comes(service: Running, path: str) -> None:
    assert " 429 " in only_headers(service, SMALL, path, 30_000)


def test_an_upload_that_does_not_come_keeps_its_keys_place(service: Running) -> None:
    """Without that, all uploads of a flood would be received and inspected, to be refused then."""
    uploads = service.dispatcher.jobs.uploads
    with service.client(SMALL) as client:
        with without_body(service, SMALL, "/v1/dubs", 1000):
            while not uploads._under_way:
                time.sleep(0.01)
            refused = upload(client)
            assert refused.status_code == 429
            assert "1 dubs uploading, waiting or running" in refused.json()["detail"]
        while uploads._under_way:  # the client has hung up
            time.sleep(0.01)
        dub_id = upload(client).json()["id"]
        assert finished(client, dub_id)["state"] == "done"
        client.delete(f"/v1/dubs/{dub_id}").raise_for_status()


@pytest.mark.parametrize("path", [*UPLOADS, "/v1/dub/stream?to=pt", "/v1/audio/transcriptions", "/v1/speech-to-text"])
def test_an_upload_that_would_fill_the_disk_is_refused_before_it_comes(
    service: Running, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(service.dispatcher.files), "has_room", lambda self, more_bytes=0: more_bytes < 1000)
    assert " 503 " in only_headers(service, TWO, path, 5000)


def test_the_disk_keeps_its_floor(tmp_path: Path) -> None:
    floor = "serve.storage.min_free_bytes=1000000000000000"
    with running(tmp_path, *NO_MODELS, floor, config="base") as full, full.client() as client:
        answer = upload(client)
        assert answer.status_code == 503
        assert "disk space" in answer.json()["detail"]


def test_a_keys_bytes_count_what_was_made(service: Running) -> None:
    with service.client(SMALL) as small:
        dub_id = upload(small).json()["id"]
        assert finished(small, dub_id)["state"] == "done"
        while (answer := upload(small)).status_code == 201:
            assert finished(small, answer.json()["id"])["state"] == "done"
        assert answer.status_code == 429
        assert "take" in answer.json()["detail"]
        for made in small.get("/v1/dubs").json()["dubs"]:
            small.delete(f"/v1/dubs/{made['id']}").raise_for_status()
        assert upload(small).status_code == 201


def test_an_upload_outlives_a_lost_answer_of_the_database(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is there, though nobody heard so: its media must be too."""
    create = Jobs.create
    lost = threading.Event()

    async def create_unheard(self: Jobs, *arguments: object) -> object:
        made = await create(self, *arguments)  # type: ignore[arg-type]
        if not lost.is_set():
            lost.set()
            raise InterfaceError("COMMIT", None, ConnectionError("lost"))
        return made

    monkeypatch.setattr(Jobs, "create", create_unheard)
    with service.client(TWO) as client:
        before = {made["id"] for made in client.get("/v1/dubs").json()["dubs"]}
        assert upload(client).status_code == 503
        [dub_id] = {made["id"] for made in client.get("/v1/dubs").json()["dubs"]} - before
        assert finished(client, dub_id)["state"] == "done"


def test_a_manifest_tells_a_tenant_nothing_of_the_machines(service: Running) -> None:
    with service.client(TWO) as client:
        dub_id = upload(client).json()["id"]
        assert finished(client, dub_id)["state"] == "done"
        made = client.get(f"/v1/dubs/{dub_id}/manifest").json()
    assert made["config"] == made["versions"] == {}
    assert made["timings"]["driver"] == ""
    assert made["timings"]["pools"] == []
    assert made["input"]["path"] == ""
    assert socket.gethostname() not in str(made)


def test_voices_of_any_depth_are_an_error_of_the_caller(service: Running) -> None:
    with service.client(TWO) as client:
        assert upload(client, voices="[" * 7000).status_code == 422


def test_a_long_content_type_is_cut(service: Running) -> None:
    with service.client(TWO) as client:
        files = {"file": ("a.mka", SOUND, "audio/" + "x" * 1000)}
        assert client.post("/v1/dubs", data={"to": "pt"}, files=files).status_code == 201


def num_stored(folder: Path, talk: Path, *, is_shared: bool) -> int:
    """Number of results in the store after two keys asked for the same, and the first of them again."""
    settings = (KEYS, f"store.url={folder / 'store'}", f"serve.share_results={str(is_shared).lower()}")
    with running(folder / "data", *STANDINS, *settings, config="base") as service:
        for key in (ONE, TWO, ONE):
            with service.client(key) as client, talk.open("rb") as file:
                client.post("/translate", json={"q": "Hello.", "source": "en", "target": "pt"}).raise_for_status()
                made = client.post("/v1/dubs", data={"to": "pt", "source": "en"}, files={"file": ("talk.mp4", file)})
                assert finished(client, made.json()["id"])["state"] == "done"
    return len([path for path in (folder / "store").glob("*/*/*") if path.is_file()])


def test_results_are_found_for_other_keys_unless_kept_apart(
    tmp_path: Path, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAYDUB_STORE")
    for engine in (hears, translates, speaks):
        monkeypatch.setattr(engine.Engine, "weights_id", lambda self: "none")
    shared = num_stored(tmp_path / "shared", talk, is_shared=True)
    assert shared > 1
    assert num_stored(tmp_path / "apart", talk, is_shared=False) == 2 * shared
