"""Runs on disks that fill, in a mount namespace of its own; ``test_full_disk.py`` starts it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from actors.errors import MediaError
from cluster.batch import ledger
from cluster.batch.ledger import ItemStatus
from cluster.batch.runner import ItemOutcome, run
from cluster.config.load import load_config
from cluster.pipeline import Job
from cluster.storage.outputs import MANIFEST_NAME
from serve.storage.files import folder_bytes
from tests.api.server import STANDINS, Running, finished, running
from tests.media import AudioSpec, make_media, speech

LARGE_KIB = 64 * 1024
IS_FULL = "No space left|must have room"


class SmallDisk:
    """A file system in memory, of a size that can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LARGE_KIB}k", "tmpfs", folder], check=True)

    def resize(self, num_kib: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={num_kib}k", self.folder], check=True)

    def clear(self) -> None:
        for path in self.folder.iterdir():
            shutil.rmtree(path)

    @contextlib.contextmanager
    def filled(self, except_bytes: int = 0) -> Iterator[None]:
        """Nothing but so much is free."""
        filler = self.folder / "filler"
        size = shutil.disk_usage(self.folder).free - except_bytes
        with filler.open("wb") as file, contextlib.suppress(OSError):
            file.write(bytes(max(0, size)))
        yield
        filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> SmallDisk:
    return SmallDisk(tmp_path / "disk")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sound = AudioSpec(samples=speech("Good morning, everyone, and welcome."))
    return make_media(tmp_path_factory.mktemp("talk") / "talk.mka", audio=[sound])


async def dub(talk: Path, out: Path) -> ItemOutcome:
    job = Job(source=talk, targets=("pt",), source_language="en", audio_track=None, out=out)
    config = load_config("base", ["ray.mode=inline", "quality.check=none", *STANDINS])
    [outcome] = await run([job], config, lambda progress: None, lambda outcome: None)
    return outcome


async def test_a_dub_says_that_the_disk_is_full_leaves_nothing_half_and_is_made_when_there_is_room(
    talk: Path, disk: SmallDisk
) -> None:
    out = disk.folder / "batch" / "talk"
    assert (await dub(talk, out)).error is None
    num_kib = folder_bytes(out) // 1024
    for share in (0.05, 0.9):
        disk.clear()
        disk.resize(max(8, int(num_kib * share)))
        outcome = await dub(talk, out)
        assert outcome.error is not None
        assert any(words in outcome.error for words in IS_FULL.split("|")), outcome.error
        assert "\n" not in outcome.error
        assert list(out.parent.iterdir()) == []
    disk.resize(LARGE_KIB)
    assert (await dub(talk, out)).error is None
    assert (out / MANIFEST_NAME).exists()


def test_a_status_stays_what_it_was_on_a_full_disk(disk: SmallDisk) -> None:
    status = ItemStatus(source="a", out=str(disk.folder / "a"), state="running", fingerprint="", error=None, ended=None)
    ledger.write_status(status)
    done = status.model_copy(update={"state": "done", "flags": ("x" * 10_000,)})
    with disk.filled(), pytest.raises(MediaError, match="must be writable: No space left"):
        ledger.write_status(done)
    assert ledger.read_status(status.out) == status
    ledger.write_status(done)
    assert ledger.read_status(status.out) == done


def upload(client: httpx.Client, talk: Path) -> httpx.Response:
    with talk.open("rb") as file:
        return client.post("/v1/dubs", data={"to": "pt", "source": "en"}, files={"file": ("talk.mka", file)})


@contextlib.contextmanager
def service_on(data: Path, *settings: str) -> Iterator[Running]:
    with running(data, *STANDINS, *settings, "serve.storage.min_free_bytes=0", config="base") as service:
        yield service


def test_a_service_whose_media_have_no_room(talk: Path, disk: SmallDisk, tmp_path: Path) -> None:
    database = f"serve.database_url=sqlite+aiosqlite:///{tmp_path / 'elsewhere.db'}"
    with service_on(disk.folder / "data", database) as service, service.client() as client:
        with disk.filled(talk.stat().st_size + 40_960):  # room for the source, not for the results
            made = upload(client, talk)
            assert made.status_code == 201, made.text
            ended = finished(client, made.json()["id"])
        assert ended["state"] == "failed"
        assert any(words in str(ended["error"]) for words in IS_FULL.split("|")), ended
        with disk.filled():
            refused = upload(client, talk)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert finished(client, upload(client, talk).json()["id"])["state"] == "done"


def test_a_service_whose_database_has_no_room(talk: Path, disk: SmallDisk, tmp_path: Path) -> None:
    """What it accepted is dubbed as soon as there is room; what it could not note was not accepted."""
    database = f"serve.database_url=sqlite+aiosqlite:///{disk.folder / 'a.db'}"
    with service_on(tmp_path / "data", database) as service, service.client() as client:
        accepted = upload(client, talk).json()["id"]
        with disk.filled():
            refused = upload(client, talk)
            while refused.status_code == 201:  # the log of the database had some room left
                accepted = refused.json()["id"]
                refused = upload(client, talk)
        assert refused.status_code == 503
        assert finished(client, accepted)["state"] == "done"
        assert finished(client, upload(client, talk).json()["id"])["state"] == "done"
