"""A power cut at any moment: what is read afterwards is the old state or the new one, and nothing told was lost."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
from sqlalchemy import text

from actors import weights
from cluster import manifest
from cluster.batch import ledger
from cluster.batch.ledger import ItemStatus
from cluster.storage import locations, output_lock, outputs
from cluster.storage.config import StoreConfig
from cluster.storage.framing import CorruptValueError
from cluster.storage.keys import Key
from cluster.storage.output_lock import UNKNOWN_OWNER, Owner
from cluster.storage.store import open_store
from serve.jobs.database import Database
from serve.storage.folder_files import FolderFiles
from tests.power_cut import recorded
from tests.unit.manifests import sample_manifest

ONE, TWO = sample_manifest(1), sample_manifest(2)
DUB_ID, ATTEMPT = "dub_" + "0" * 26, "a" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """Where the states after a power cut are made."""
    return tmp_path / "left"


def status(out: Path, state: str) -> ItemStatus:
    return ItemStatus(source="talk.mp4", out=str(out), state=state, fingerprint="f", error=None, ended=None)


def write_results(folder: Path, content: manifest.Manifest) -> None:
    """Files by a library that syncs nothing, and the manifest."""
    number = len(content.segments)
    (folder / "talk.mp4").write_bytes(b"%d" % number * 64)
    (folder / "talk.srt").write_bytes(b"%d" % number * 32)
    manifest.write(content, folder / outputs.MANIFEST_NAME)


def results_of(folder: Path) -> int | None:
    """Number of segments of the results, which must be whole; None if there are none."""
    path = folder / outputs.MANIFEST_NAME
    if not path.exists():
        return None
    number = len(manifest.read(path).segments)
    assert (folder / "talk.mp4").read_bytes() == b"%d" % number * 64
    assert (folder / "talk.srt").read_bytes() == b"%d" % number * 32
    return number


def publish(out: Path, content: manifest.Manifest) -> None:
    with outputs.scratch_folder(out) as scratch:
        write_results(scratch, content)
        outputs.publish(scratch, out)


def test_the_disk_of_these_tests_loses_what_is_not_synced(root: Path, left: Path) -> None:
    """Or they prove nothing: a rename without syncing loses the old content and the new."""
    (root / "a").write_bytes(b"old.")
    with recorded(root) as disk:
        (root / "b").write_bytes(b"new.")
        (root / "b").replace(root / "a")
    assert {cut.files.get("a") for cut in disk.cuts.values()} == {b"old.", b"new.", b"", bytes(4), b"ne"}


def test_a_file_is_the_old_or_the_new_one(root: Path, left: Path) -> None:
    path = root / "folder" / "status.json"
    with recorded(root) as disk:
        locations.write_bytes(str(path), b"first")
        disk.note("first")
        locations.write_bytes(str(path), b"second")
        disk.note("second")
    assert len(disk.cuts) > 10
    for cut in disk.cuts.values():
        allowed = {(): {None, b"first"}, ("first",): {b"first", b"second"}}.get(cut.notes, {b"second"})
        assert cut.files.get("folder/status.json") in allowed, cut


def test_an_item_of_a_batch_that_is_done_has_its_results(root: Path, left: Path) -> None:
    out = root / "batch" / "talk"
    with recorded(root) as disk:
        publish(out, ONE)
        ledger.write_status(status(out, "done"))
        disk.note("done")
    for cut in disk.cuts.values():
        there = cut.write(left) / "batch" / "talk"
        found, number = ledger.read_status(str(there)), results_of(there)
        assert found is None or number == 1
        assert found is not None or "done" not in cut.notes


def test_results_that_take_the_place_of_others_are_never_mixed_with_them(root: Path, left: Path) -> None:
    publish(root / "talk", ONE)
    with recorded(root) as disk:
        publish(root / "talk", TWO)
        disk.note("done")
    numbers = {results_of(cut.write(left) / "talk") for cut in disk.cuts.values()}
    assert numbers == {1, None, 2}
    assert {results_of(cut.write(left) / "talk") for cut in disk.cuts.values() if cut.notes} == {2}


def test_a_stored_value_is_whole_or_missing(root: Path, left: Path) -> None:
    key = Key("speech", "ab" * 32)
    store = open_store(StoreConfig(url=str(root)))
    assert store is not None
    with recorded(root) as disk:
        store.put(key, b"first value")
        store.put(key, b"other value")
    found = set()
    for cut in disk.cuts.values():
        after = open_store(StoreConfig(url=str(cut.write(left))))
        assert after is not None
        with contextlib.suppress(CorruptValueError):
            found.add(after.get(key))
            continue
        assert after.get(key) is None  # a damaged value is removed
    assert found == {None, b"first value", b"other value"}


def test_a_dub_that_was_accepted_has_its_source_and_one_that_is_done_its_results(root: Path, left: Path) -> None:
    files = FolderFiles(root)
    with recorded(root) as disk:
        source, _ = files.save_source(DUB_ID, io.BytesIO(b"source" * 10))
        files.publish(source, source)
        disk.note("accepted")
        name, out = files.new_output(DUB_ID)
        files.write(files.paths.clip(DUB_ID, "pt:u1"), b"clip")
        publish(out, ONE)
        files.publish_results(out)
        disk.note("done")
    for cut in disk.cuts.values():
        after = FolderFiles(cut.write(left))
        if "accepted" in cut.notes:
            assert after.read(after.paths.source(DUB_ID)) == b"source" * 10
        if "done" in cut.notes:
            assert after.newest_output(DUB_ID, None) == after.paths.output(DUB_ID, name)
            assert results_of(after.paths.output(DUB_ID, name)) == 1
            assert after.read(after.paths.clip(DUB_ID, "pt:u1")) == b"clip"


async def test_commits_of_sqlite_are_on_disk(root: Path) -> None:
    async with Database.open(f"sqlite+aiosqlite:///{root / 'a.db'}") as database, database.transaction() as session:
        assert await session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert await session.scalar(text("PRAGMA synchronous")) == 2  # FULL: the log is synced with each commit


def test_a_fetched_source_is_whole_or_missing(root: Path, left: Path) -> None:
    files = FolderFiles(root)
    path = files.paths.source(DUB_ID)
    with recorded(root) as disk:
        path.parent.mkdir(parents=True)
        path.with_name("source.holder").write_bytes(b"source" * 10)
        files.publish(path.with_name("source.holder"), path)
        disk.note("fetched")
    for cut in disk.cuts.values():
        after = FolderFiles(cut.write(left))
        found = after.read(after.paths.source(DUB_ID))
        assert found == b"source" * 10 or (found is None and not cut.notes)


def test_derived_weights_are_whole_or_missing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "cache_dir", lambda: root)

    def write(out: Path) -> None:
        out.mkdir()
        (out / "weights").write_bytes(b"weights")
        (out / "tokens").write_bytes(b"tokens")

    with recorded(root) as disk:
        weights.derived("digest/model", write)
    whole = {"digest/model/weights": b"weights", "digest/model/tokens": b"tokens"}
    for cut in disk.cuts.values():
        if "digest/model" in cut.folders:
            assert {name: data for name, data in cut.files.items() if name in whole} == whole


def test_the_lease_of_a_machine_that_lost_power_is_its_owners_or_nobodys(root: Path, left: Path) -> None:
    out = root / "talk"
    with recorded(root) as disk:
        owner = output_lock._try_acquire(out, output_lock.lease_path(out))
    owners: set[Owner | None] = set()
    for cut in disk.cuts.values():
        owners.add(output_lock._owner_of(output_lock.lease_path(cut.write(left) / "talk")))
    assert owners == {None, owner, UNKNOWN_OWNER}
    assert UNKNOWN_OWNER.is_dead()
