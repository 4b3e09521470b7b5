"""Media in a bucket: any dispatcher goes on where another was killed, and serves what any of them made."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from serve.storage.bucket_files import own_folder
from tests.api.server import PATIENCE_S, STANDINS, Running, finished, free_port, running
from tests.api.test_dubs import create, events_of
from tests.media import AudioSpec, VideoSpec, make_media, silence, speech
from tests.s3 import S3, Fault, s3_server

FAULTS: list[tuple[str, Fault]] = [
    *(("PUT", fault) for fault in ("500", "slow", "500", "short")),
    *(("GET", fault) for fault in ("short", "500")),
    ("HEAD", "500"),
]
SHORT_LINES = [f"windows.{name}={seconds}" for name, seconds in (("target_s", 1), ("max_s", 4))]
SHORT_LINES += [f"windows.first_{name}={seconds}" for name, seconds in (("target_s", 1), ("max_s", 4))]
STALLING = (
    *STANDINS[:2],
    "speech.engine=tests.standins.stalls",
    "speech.options={num_lines: 3}",
    "speech.pool.batch={max_items: 1, in_flight: 1}",
)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of four lines and more: ``hears`` takes each window for one."""
    line = np.concatenate([silence(0.5), speech("Good morning, everyone, and welcome.")])
    samples = np.tile(line, (5, 1))
    picture = VideoSpec(duration_s=len(samples) / 48_000, options={"g": "50"})
    return make_media(tmp_path_factory.mktemp("talk") / "talk.mp4", audio=[AudioSpec(samples=samples)], video=[picture])


def settings(folder: Path, scratch: str) -> tuple[str, ...]:
    return (
        f"serve.database_url=sqlite+aiosqlite:///{folder / 'raydub.db'}",
        f"serve.storage.scratch_dir={folder / scratch}",
        "serve.lease_s=10",
        "serve.poll_s=0.3",
        "store.url=none",
        *SHORT_LINES,
    )


@contextmanager
def killed_at_the_end(url: str, given: tuple[str, ...], log: Path) -> Iterator[httpx.Client]:
    """A dispatcher that is a process of its own, in the middle of all it does."""
    port = free_port()
    chosen = ("ray.mode=inline", f"serve.data_dir={url}", *given)
    arguments = [argument for setting in chosen for argument in ("--set", setting)]
    command = [sys.executable, "-m", "serve.cli", "serve", "--config", "base", "--port", str(port), *arguments]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:
            wait_until(lambda: process.poll() is not None or answers(client))
            assert process.poll() is None, log.read_text()[-3000:]
            yield client
    finally:
        process.kill()
        process.wait()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "what is waited for did not come"
        time.sleep(0.1)


@dataclass(frozen=True)
class TakenOver:
    service: Running
    dub: dict[str, Any]
    whole: dict[str, Any]
    """The same talk's, by one dispatcher, with a bucket that failed now and then."""
    heard_elsewhere: bytes
    """A segment that the dispatcher which was killed had made, as the other one gave it before."""


@pytest.fixture(scope="module")
def taken_over(s3: S3, talk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TakenOver]:
    folder = tmp_path_factory.mktemp("served")
    url = f"{s3.url}/service"
    with killed_at_the_end(url, (*STALLING, *settings(folder, "first")), folder / "log") as first:
        dub_id = create(first, talk)["id"]
        base = f"/v1/dubs/{dub_id}"
        wait_until(lambda: first.get(f"{base}/clips/pt:u0002").status_code == 200)
        second = running(f"{url}/", *STANDINS, *settings(folder, "second"), config="base")
        service = second.__enter__()
        with service.client() as client:
            wait_until(lambda: "segment00000" in client.get(f"{base}/hls/pt/index.m3u8").text)
            heard = client.get(f"{base}/hls/pt/segment00000.m4s").raise_for_status().content
            assert client.get(f"{base}/hls/pt/init.mp4").status_code == 200
            assert client.get(f"{base}/clips/pt:u0000").content == first.get(f"{base}/clips/pt:u0000").content
            assert client.get(base).json()["state"] == "running"
    try:
        with service.client() as client:
            made = finished(client, dub_id)
            s3.faults += FAULTS
            whole = finished(client, create(client, talk)["id"])
            assert s3.faults == []
        yield TakenOver(service, made, whole, heard)
    finally:
        second.__exit__(None, None, None)
    with own_folder(folder / "first"):
        assert len(list((folder / "first").glob("*/"))) == 1, "what the killed one left there must be gone"
    assert not list((folder / "second").glob("*/"))


@pytest.fixture
def client(taken_over: TakenOver) -> Iterator[httpx.Client]:
    with taken_over.service.client() as client:
        yield client


def sound_of(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


def test_it_is_finished_as_if_nothing_had_happened(taken_over: TakenOver, client: httpx.Client) -> None:
    made, whole = taken_over.dub, taken_over.whole
    assert (made["state"], made["error"], made["revision"]) == ("done", None, 1)
    events = events_of(client, made["id"])
    assert [event.json()["attempt"] for event in events if event.event == "started"] == [1, 2]
    clips = [f"clips/{event.json()['id']}" for event in events if event.event == "utterance"]
    assert len(clips) > len(set(clips)) >= 4, "lines are told again by the second one"
    for path in ("transcripts/pt/srt", "transcripts/en/json", *clips, "hls/pt/segment00000.m4s"):
        first, other = (client.get(f"/v1/dubs/{each['id']}/{path}").raise_for_status() for each in (made, whole))
        assert first.content == other.content
    for path in ("audio/pt", "video/pt", "media"):
        first, other = (client.get(f"/v1/dubs/{each['id']}/{path}").raise_for_status() for each in (made, whole))
        assert np.array_equal(sound_of(first.content), sound_of(other.content))
    assert taken_over.heard_elsewhere == client.get(f"/v1/dubs/{made['id']}/hls/pt/segment00000.m4s").content


def test_its_stream_plays_to_the_end(taken_over: TakenOver, client: httpx.Client) -> None:
    folder = f"/v1/dubs/{taken_over.dub['id']}/hls/pt"
    assert client.get(f"{folder}/index.m3u8").text.rstrip().endswith("#EXT-X-ENDLIST")
    with av.open(f"{taken_over.service.url}{folder}/master.m3u8") as played:
        heard_s = sum(frame.samples / frame.sample_rate for frame in played.decode(audio=0))
    assert heard_s == pytest.approx(taken_over.dub["duration_s"], abs=0.1)


def test_only_the_attempt_that_was_finished_is_kept(taken_over: TakenOver, s3: S3) -> None:
    keys = s3.keys(f"service/dubs/{taken_over.dub['id']}/")
    assert len({match[0] for key in keys if (match := re.search("/[0-9a-f]{32}/", key))}) == 1


@pytest.mark.parametrize("size", [9, 2**20, 3 * 2**20])
def test_ranges(taken_over: TakenOver, client: httpx.Client, s3: S3, size: int) -> None:
    """Of what is read from the bucket in one piece, and in several."""
    data = os.urandom(size)
    files = taken_over.service.dispatcher.files
    name = files.paths.name_of(files.paths.clip(taken_over.dub["id"], "pt:u99"))
    s3.client.put_object(Bucket="media", Key=f"service/{name}", Body=data)

    def ask(**headers: str) -> httpx.Response:
        return client.get(f"/v1/dubs/{taken_over.dub['id']}/clips/pt:u99", headers=headers)

    whole = ask()
    assert (whole.status_code, whole.content) == (200, data)
    for given, wanted in (("3-5", data[3:6]), ("5-", data[5:]), ("-4", data[-4:]), (f"2-{size * 2}", data[2:])):
        part = ask(range=f"bytes={given}")
        assert (part.status_code, part.content) == (206, wanted)
        assert part.headers["content-range"].endswith(f"/{size}")
        assert ask(range=f"bytes={given}", **{"if-range": whole.headers["etag"]}).content == wanted
        assert ask(range=f"bytes={given}", **{"if-range": '"another"'}).content == data
    beyond = ask(range=f"bytes={size}-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    for odd in ("bytes=0-1,3-4", "lines=0-1", "bytes=-", "bytes=5-4"):
        assert ask(range=odd).content == data


def test_an_answer_of_which_half_comes_is_asked_for_again(taken_over: TakenOver, client: httpx.Client, s3: S3) -> None:
    path = f"/v1/dubs/{taken_over.dub['id']}/media"
    whole = client.get(path).content
    s3.faults += [("GET", "short"), ("GET", "500"), ("HEAD", "500")]
    assert client.get(path).content == whole
    assert s3.faults == []


def test_a_bucket_that_does_not_answer_is_told_as_such(taken_over: TakenOver, client: httpx.Client, s3: S3) -> None:
    s3.faults += [("HEAD", "500")] * 3
    answer = client.get(f"/v1/dubs/{taken_over.dub['id']}/media")
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert s3.url not in answer.text
    assert s3.faults == []


def test_an_edit_is_made_from_what_the_bucket_has(taken_over: TakenOver, client: httpx.Client) -> None:
    base = f"/v1/dubs/{taken_over.whole['id']}"
    before = client.get(f"{base}/clips/pt:u0000").content
    client.patch(f"{base}/lines/pt:u0000", json={"text": "Outra."}).raise_for_status()
    client.post(f"{base}/regenerate").raise_for_status()
    assert finished(client, taken_over.whole["id"])["revision"] == 2
    assert "Outra." in client.get(f"{base}/transcripts/pt/srt").text
    assert client.get(f"{base}/clips/pt:u0000").content != before


def test_what_is_deleted_or_refused_leaves_nothing(taken_over: TakenOver, client: httpx.Client, s3: S3) -> None:
    known = set(s3.keys())
    assert client.post("/v1/dubs", data={"to": "pt"}, files={"file": ("x.mp4", b"no media")}).status_code == 422
    assert set(s3.keys()) == known
    assert client.delete(f"/v1/dubs/{taken_over.whole['id']}").status_code == 204
    assert not s3.keys(f"service/dubs/{taken_over.whole['id']}")
    assert s3.keys(f"service/dubs/{taken_over.dub['id']}")
