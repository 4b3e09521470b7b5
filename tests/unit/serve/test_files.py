"""The service's media: the same in a folder and in a bucket."""

from __future__ import annotations

import asyncio
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from actors.errors import ConfigError
from actors.types import Clip
from cluster.media.hls import INIT, MASTER, PLAYLIST
from serve.api.responses import wanted_range
from serve.ids import new_dub_id
from serve.live.mirror import mirrored
from serve.settings import ServeSettings, StorageSettings
from serve.storage.bucket import Bucket, BucketError
from serve.storage.bucket_files import own_folder
from serve.storage.files import JobFiles, folder_bytes
from serve.storage.open import open_files

DUB = new_dub_id()
CLIP = Clip(samples=np.zeros(100, np.float32), sample_hz=16_000)


@pytest.fixture
def settings(tmp_path: Path) -> ServeSettings:
    storage = StorageSettings(scratch_dir=tmp_path / "scratch", scratch_max_bytes=1000, patience_s=0)
    return ServeSettings(data_dir=f"memory://{tmp_path}", storage=storage, database_url="sqlite+aiosqlite:///a.db")


@pytest.fixture(params=["folder", "bucket"])
def files(request: pytest.FixtureRequest, settings: ServeSettings, tmp_path: Path) -> Iterator[JobFiles]:
    place = str(tmp_path / "data") if request.param == "folder" else settings.data_dir
    with open_files(settings.model_copy(update={"data_dir": place})) as files:
        yield files


def test_a_job_s_files_from_its_upload_to_its_end(files: JobFiles) -> None:
    source, num_bytes = files.save_source(DUB, io.BytesIO(b"media"))
    assert num_bytes == 5
    files.publish(source, source)
    files.release(DUB)
    assert files.bring(source)
    assert source.read_bytes() == b"media"

    assert files.newest_output(DUB, None) is None
    (_, first), (name, second) = files.new_output(DUB), files.new_output(DUB)
    assert (files.newest_output(DUB, None), files.newest_output(DUB, first.name)) == (second, first)
    files.save_clip(DUB, "pt:u0000", CLIP)
    for output in (first, second):
        (output / "hls" / "pt").mkdir(parents=True)
        for file in ("manifest.json", "dub.mp4", f"hls/pt/{PLAYLIST}"):
            (output / file).write_text(file)
        files.publish_results(output)
    files.release(DUB)
    files.remove_other_attempts(DUB, name)

    assert files.read(second / "hls" / "pt" / PLAYLIST) == f"hls/pt/{PLAYLIST}".encode()
    assert [files.exists(output / "manifest.json") for output in (first, second)] == [False, True]
    assert files.exists(files.paths.clip(DUB, "pt:u0000"))
    with files.local_copy(second / "dub.mp4") as here:
        made = here.with_name("aside")
        made.write_bytes(here.read_bytes() * 2)
        files.publish(made, second / "twice")
    assert files.read(second / "twice") == b"dub.mp4" * 2
    with pytest.raises(FileNotFoundError), files.local_copy(second / "none") as here:
        here.read_bytes()

    files.delete(DUB)
    assert not files.exists(source)
    assert not files.bring(source)
    assert files.read(second / "dub.mp4") is None
    files.delete(DUB)


def test_there_is_room_until_so_much_lies_here(settings: ServeSettings) -> None:
    with open_files(settings) as files:
        assert files.has_room()
        files.save_source(DUB, io.BytesIO(bytes(1000)))
        assert not files.has_room()
        files.release(DUB)
        assert files.has_room()


def test_folders_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    with own_folder(tmp_path) as mine:
        left = tmp_path / "left"
        left.mkdir()
        (tmp_path / "left.lock").touch()
        with own_folder(tmp_path) as other:
            assert (mine.is_dir(), other.is_dir(), left.exists()) == (True, True, False)
        assert (mine.is_dir(), other.exists()) == (True, False)


def test_a_playlist_is_put_behind_what_it_names(settings: ServeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[str] = []
    monkeypatch.setattr(Bucket, "write", lambda self, name, data: put.append(name.rpartition("/")[2]))
    monkeypatch.setattr(Bucket, "put", lambda self, file, name, **_: put.append(name.rpartition("/")[2]))
    monkeypatch.setattr(Bucket, "check", lambda self: None)

    async def grow(files: JobFiles) -> list[str]:
        folder = files.paths.output(DUB, "0" * 32) / "hls" / "pt"
        folder.mkdir(parents=True)
        for name in (INIT, MASTER, "segment0.m4s", "segment1.m4s"):
            (folder / name).touch()
        async with mirrored(files) as on_written:
            assert on_written is not None
            on_written(folder)
            for text in ("#EXTM3U\nsegment0.m4s\n", "#EXTM3U\nsegment0.m4s\n", "#EXTM3U\nsegment0.m4s\nsegment1.m4s\n"):
                (folder / PLAYLIST).write_text(text)
                on_written(folder)
        return sorted(path.name for path in folder.iterdir())

    with open_files(settings) as files:
        left = asyncio.run(grow(files))
    assert left == sorted([INIT, MASTER, PLAYLIST])
    assert put[-1] == PLAYLIST
    assert put.index("segment1.m4s") < len(put) - 1
    assert [put.count(name) for name in ("segment0.m4s", "segment1.m4s")] == [1, 1]


def test_what_cannot_be_read_back_is_told_at_the_start(
    settings: ServeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bucket, "read", lambda self, name: None)
    with pytest.raises(ConfigError, match=r"serve\.data_dir"), open_files(settings):
        pass
    elsewhere = settings.model_copy(update={"data_dir": "nowhere://a"})
    with pytest.raises(ConfigError, match=r"nowhere://"), open_files(elsewhere):
        pass


def test_a_bucket_has_no_database_in_it(settings: ServeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYDUB_DATABASE_URL", raising=False)
    with pytest.raises(ConfigError, match=r"serve\.database_url"):
        _ = ServeSettings(data_dir=settings.data_dir).database


def test_where_it_lies_is_not_told(tmp_path: Path) -> None:
    bucket = Bucket(f"memory://{tmp_path}", timeout_s=1, patience_s=0)
    with pytest.raises(BucketError) as told:
        bucket.read_part("none", 0, 5)
    assert str(tmp_path) not in told.value.message


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, None),
        ("bytes=0-4", range(0, 5)),
        ("bytes=5-", range(5, 10)),
        ("bytes=-3", range(7, 10)),
        ("bytes=-30", range(0, 10)),
        ("bytes=8-99", range(8, 10)),
        ("bytes=10-", range(10, 10)),
        ("bytes=-0", range(10, 10)),
        ("bytes=4-3", None),
        ("bytes=0-1,3-4", None),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)
def test_ranges(header: str | None, wanted: range | None) -> None:
    assert wanted_range(header, 10) == wanted


def test_folders_that_are_removed_meanwhile_count_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"123")
    ended = Event()

    def come_and_go() -> None:
        while not ended.is_set():
            (tmp_path / "dub" / "attempt").mkdir(parents=True)
            shutil.rmtree(tmp_path / "dub")

    others = Thread(target=come_and_go)
    others.start()
    try:
        assert {folder_bytes(tmp_path) for _ in range(500)} == {3}
    finally:
        ended.set()
        others.join()
