"""What plays of a dub while it is made; models are stood in for."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from cluster.audio.limiter import RATE_HZ
from cluster.config.load import load_config
from cluster.steps.records import MixedBlock
from serve.live.streams import LiveStreams, live_folder
from tests.api.server import STANDINS, Running, finished, running
from tests.api.test_dubs import create


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("data"), *STANDINS, config="base") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def done(client: httpx.Client, talk: Path) -> dict[str, Any]:
    return finished(client, create(client, talk)["id"])


def test_it_plays_to_the_end(client: httpx.Client, done: dict[str, Any], service: Running) -> None:
    folder = f"/v1/dubs/{done['id']}/hls/pt"
    playlist = client.get(f"{folder}/index.m3u8").raise_for_status()
    assert playlist.headers["content-type"] == "application/vnd.apple.mpegurl"
    assert playlist.text.rstrip().endswith("#EXT-X-ENDLIST")
    lengths_s = [float(length) for length in re.findall(r"#EXTINF:([\d.]+)", playlist.text)]
    assert sum(lengths_s) == pytest.approx(done["duration_s"], abs=0.1)
    with av.open(f"{service.url}{folder}/master.m3u8") as played:
        assert {stream.type for stream in played.streams} == {"video", "audio"}
        times_s = [float(frame.time or 0) for frame in played.decode(video=0)]
    assert times_s == sorted(times_s)
    assert times_s[-1] - times_s[0] == pytest.approx(done["duration_s"], abs=0.2)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command")
def test_ffmpeg_plays_it_without_a_complaint(done: dict[str, Any], service: Running) -> None:
    url = f"{service.url}/v1/dubs/{done['id']}/hls/pt/master.m3u8"
    played = subprocess.run(
        ["ffmpeg", "-v", "warning", "-i", url, "-f", "null", "-"], capture_output=True, text=True, check=True
    )
    assert played.stderr == ""


def test_only_its_own_files_are_served(client: httpx.Client, done: dict[str, Any]) -> None:
    folder = f"/v1/dubs/{done['id']}/hls"
    for path in ("pt/..%2f..%2fsource", "pt/manifest.json", "pt/segment1.m4s", "pt/.index.m3u8"):
        assert client.get(f"{folder}/{path}").status_code in (404, 422)
    assert client.get(f"{folder}/en/index.m3u8").status_code == 404


def test_what_is_mixed_after_its_end_goes_nowhere(talk: Path, tmp_path: Path) -> None:
    """A thread that mixes hears of no cancellation: it writes into what has been closed meanwhile."""
    live = LiveStreams(talk, tmp_path, load_config("offline"))
    block = MixedBlock(target="pt", samples=np.zeros((RATE_HZ // 50, 2), np.float32))
    written = threading.Event()

    def mix() -> None:
        for _ in range(500):
            live.write(block)
            written.set()

    mixing = threading.Thread(target=mix)
    with contextlib.suppress(TimeoutError), live:
        mixing.start()
        written.wait()
        raise TimeoutError
    mixing.join()
    assert not (live_folder(tmp_path, "pt") / "segment00001.m4s").exists()
