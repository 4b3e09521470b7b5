"""A database and a data folder that do not belong together are refused; SQLite is refused where it would be damaged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from actors.errors import ConfigError
from serve.app import check_database
from serve.ids import new_dub_id
from serve.jobs import file_systems
from serve.jobs.database import Database
from serve.jobs.file_systems import file_system_type
from serve.jobs.instance import check_instance, may_mark
from serve.jobs.jobs import DubOptions, Jobs, NewDub
from serve.settings import KeyLimits, load_service
from serve.storage.bucket import Bucket
from serve.storage.bucket_files import BucketFiles
from serve.storage.files import JobFiles
from serve.storage.folder_files import FolderFiles


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Database]:
    async with Database.open(f"sqlite+aiosqlite:///{path}") as database:
        yield database


@pytest.fixture(params=["folder", "bucket"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> JobFiles:
    if request.param == "folder":
        return FolderFiles(tmp_path / "data")
    bucket = Bucket(f"memory://{tmp_path}", timeout_s=1, patience_s=0)
    return BucketFiles(tmp_path / "scratch", bucket, 10**9)


async def add_job(database: Database, files: JobFiles) -> None:
    dub_id = new_dub_id()
    new = NewDub(id=dub_id, owner="a", name="x", options=DubOptions(), targets=("pt",), duration_s=1.0)
    await Jobs(database, 100).create(new, KeyLimits())
    files.write(files.paths.source(dub_id), b"x")


async def test_another_database_is_refused_and_changes_nothing(tmp_path: Path, files: JobFiles) -> None:
    async with opened(tmp_path / "a.db") as right:
        await check_instance(right, files)
        await add_job(right, files)
        await check_instance(right, files)
        mark = files.read(files.paths.instance)
        async with opened(tmp_path / "new.db") as new:
            for _ in range(2):
                with pytest.raises(ConfigError, match="the database is new, and the data folder has the mark"):
                    await check_instance(new, files)
        other_files = FolderFiles(tmp_path / "other")
        async with opened(tmp_path / "other.db") as other:
            await check_instance(other, other_files)
            with pytest.raises(ConfigError, match=r"has the mark \w+, and the data folder has the mark"):
                await check_instance(other, files)
        assert files.read(files.paths.instance) == mark
        await check_instance(right, files)


async def test_a_mistyped_data_folder_is_refused(tmp_path: Path, files: JobFiles) -> None:
    async with opened(tmp_path / "a.db") as database:
        await check_instance(database, files)
        await add_job(database, files)
        wrong = FolderFiles(tmp_path / "mistyped")
        with pytest.raises(ConfigError, match="the data folder has no mark"):
            await check_instance(database, wrong)
        # As the message says.
        mark = files.read(files.paths.instance)
        assert mark is not None
        wrong.write(wrong.paths.instance, mark + b"\n")
        await check_instance(database, wrong)


async def test_dispatchers_that_start_at_once_agree(tmp_path: Path, files: JobFiles) -> None:
    async with opened(tmp_path / "a.db") as one, opened(tmp_path / "a.db") as two, opened(tmp_path / "a.db") as three:
        await asyncio.gather(*(check_instance(database, files) for database in (one, two, three)))


@pytest.mark.parametrize(
    ("is_new", "has_jobs", "in_folder", "has_media", "expected"),
    [
        (True, False, None, False, True),  # the first start
        (True, True, None, True, True),  # the first start of this release
        (True, False, None, True, False),  # an empty database, and media of a release without marks
        (False, False, None, False, True),  # nothing was made yet, and the folder was moved
        (False, False, None, True, False),
        (False, True, None, False, False),
        (True, False, "another", False, False),
        (False, True, "another", True, False),
    ],
)
def test_which_folders_may_be_marked(
    is_new: bool, has_jobs: bool, in_folder: str | None, has_media: bool, expected: bool
) -> None:
    found = may_mark(is_new=is_new, has_jobs=has_jobs, in_folder=in_folder, has_media=has_media)
    assert found is expected


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:40 / /shared rw - nfs4 server:/export rw,vers=4.2
24 22 0:41 / /mnt/with\\040space rw - cifs //server/share rw
25 22 0:42 / /buckets rw - fuse.s3fs s3fs rw
26 23 8:2 / /shared/local rw - xfs /dev/sdb1 rw
27 22 0:43 / /run rw shared:5 master:6 - tmpfs tmpfs rw
28 22 8:3 / /usb rw - fuseblk /dev/sdc1 rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/data/raydub.db", "ext4"),
        ("/shared/service/raydub.db", "nfs4"),
        ("/shared/local/raydub.db", "xfs"),
        ("/sharedbutnot/raydub.db", "ext4"),
        ("/mnt/with space/raydub.db", "cifs"),
        ("/buckets/a/raydub.db", "fuse.s3fs"),
        ("/run/raydub.db", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert file_system_type(Path(path), MOUNTS) == kind


@pytest.mark.parametrize(
    ("kind", "is_refused"),
    [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("ceph", True), ("ext4", False), ("overlay", False)],
)
async def test_sqlite_is_refused_on_a_network_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_refused: bool
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:40 / {tmp_path} rw - {kind} x rw\n")
    monkeypatch.setattr(file_systems, "MOUNTS", mounts)
    if not is_refused:
        async with opened(tmp_path / "data" / "a.db"):
            return
    with pytest.raises(ConfigError, match=f"is on {kind}, where it would be damaged"):
        async with opened(tmp_path / "data" / "a.db"):
            pass
    assert not (tmp_path / "data").exists()


def test_sqlite_is_refused_for_several_dispatchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYDUB_DATABASE_URL", raising=False)
    check_database(load_service("offline")[0])
    several = "serve.scaling.max_dispatchers=2"
    with pytest.raises(ConfigError, match="found SQLite and up to 2 dispatchers"):
        check_database(load_service("offline", [several])[0])
    check_database(load_service("offline", [several, "serve.database_url=postgresql+asyncpg://a@b/c"])[0])


def test_sqlite_is_refused_on_several_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYDUB_DATABASE_URL", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True}, {"Alive": True}, {"Alive": False}])
    with pytest.raises(ConfigError, match="a cluster of 2 nodes"):
        check_database(load_service("offline")[0])
