"""Small files that would fill memory or days: refused at every door, and the service is none the larger for it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import bombs
from tests.api.server import NO_MODELS, Running, running

OPEN_BYTES = 60_000_000
REPEATED = bombs.repeated_samples(8_000_000)
BOMBS = {
    "a sample table that is all repetition": (REPEATED, "media.max_open_bytes"),
    "a compressed header": (bombs.compressed_header(150_000_000), "media.max_open_bytes"),
    "a compressed header in a compressed header": (bombs.nested_header(150_000_000), "media.max_open_bytes"),
    "a cover of 81 million pixels": (bombs.huge_cover(9000), "media.max_"),
    "seven hours in a kilobyte": (bombs.hours_of_nothing(7 * 3600.0), "media.max_duration_s"),
    "a packed file, which is not unpacked": (bombs.packed(bombs.hours_of_nothing(10.0)), "media file"),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limit = f"media.max_open_bytes={OPEN_BYTES}"
    with running(tmp_path_factory.mktemp("data"), *NO_MODELS, limit, config="base") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(service: Running, client: httpx.Client, name: str) -> None:
    data, limit = BOMBS[name]
    assert len(data) < 200_000
    before_bytes = peak_bytes()
    answer = client.post("/v1/dubs", data={"to": "pt", "source": "en"}, files={"file": ("talk.mp4", data)})
    assert answer.status_code == 422, answer.text
    assert limit in answer.json()["detail"]
    assert service.dispatcher.settings.data_dir not in answer.text
    assert peak_bytes() - before_bytes < OPEN_BYTES
    assert not list((Path(service.dispatcher.settings.data_dir) / "dubs").iterdir())


def test_no_other_door_opens_one(client: httpx.Client) -> None:
    def send(data: bytes) -> list[httpx.Response]:
        heard = client.post("/v1/audio/transcriptions", data={"model": "whisper-1"}, files={"file": ("a.mp4", data)})
        return [heard, client.post("/v1/dub/stream?to=pt&source=en", content=data)]

    assert {answer.status_code for answer in send(b"no media")} <= {400, 422}  # imports what these routes need
    before_bytes = peak_bytes()
    for answer in send(REPEATED):
        assert answer.status_code in (400, 422), answer.text
        assert "media.max_open_bytes" in answer.text
    assert peak_bytes() - before_bytes < OPEN_BYTES


def test_pictures_have_a_limit_of_their_own(tmp_path: Path) -> None:
    with running(tmp_path, *NO_MODELS, "media.max_pixels=1000000", config="base") as strict, strict.client() as client:
        cover = bombs.huge_cover(1001)
        answer = client.post("/v1/dubs", data={"to": "pt"}, files={"file": ("a.flac", cover)})
    assert answer.status_code == 422
    assert "1001 × 1001" in answer.json()["detail"]
