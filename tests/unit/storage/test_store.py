"""The store: whole values or none, damage found, sizes kept, processes side by side, disks that are full."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ConfigError
from cluster.storage.config import StoreConfig
from cluster.storage.framing import CorruptValueError, framed, unframed
from cluster.storage.keys import Key
from cluster.storage.store import LocalStore, Store, StoreError, open_store

KEY = Key("speech", "ab" * 32)
_names = itertools.count()


def keys(number: int) -> list[Key]:
    return [Key("speech", f"{index:064x}") for index in range(number)]


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return local(tmp_path / "store") if request.param == "folder" else remote()


def local(folder: Path, **settings: Any) -> LocalStore:
    opened = open_store(StoreConfig(url=str(folder), **settings))
    assert isinstance(opened, LocalStore)
    return opened


def remote(**settings: Any) -> Store:
    opened = open_store(StoreConfig(url=f"memory://store{next(_names)}", **settings))
    assert opened is not None
    return opened


def path_of(store: Store) -> str:
    [listed] = store.list()
    return listed.path


def test_what_was_put_is_there(store: Store) -> None:
    assert store.get(KEY) is None
    store.put(KEY, b"value")
    assert store.get(KEY) == b"value"
    store.put(KEY, b"other")
    assert store.get(KEY) == b"other"
    assert store.get(Key("translation", KEY.digest)) is None


def test_values_are_listed_with_their_task_and_size(store: Store) -> None:
    store.put(KEY, b"x" * 100)
    [listed] = store.list()
    assert listed.task == "speech"
    assert listed.num_bytes == len(framed(KEY, b"x" * 100))
    assert listed.used_s == pytest.approx(time.time(), abs=3600)


def test_nothing_is_listed_before_something_is_put(store: Store) -> None:
    assert list(store.list()) == []


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:-1] + b"?"])
def test_a_damaged_value_is_found_and_removed(store: Store, damage: Any) -> None:
    store.put(KEY, b"value")
    fs, path = store._fs, path_of(store)
    fs.pipe_file(path, damage(fs.cat_file(path)))
    with pytest.raises(CorruptValueError):
        store.get(KEY)
    assert store.get(KEY) is None


def test_verify_removes_only_the_damaged(store: Store) -> None:
    good, bad = keys(2)
    store.put(good, b"value")
    store.put(bad, b"value")
    path = next(listed.path for listed in store.list() if listed.path.endswith(bad.digest))
    store._fs.pipe_file(path, b"rubbish")
    assert sorted(store.verify(listed) for listed in list(store.list())) == [False, True]
    assert store.get(good) == b"value"
    assert [store.verify(listed) for listed in store.list()] == [True]


@given(st.binary(), st.data())
def test_any_change_of_a_framed_value_is_found(value: bytes, data: st.DataObject) -> None:
    whole = framed(KEY, value)
    assert unframed(KEY, whole) == value
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    for changed in (flipped, whole[:at]):
        with pytest.raises(CorruptValueError):
            unframed(KEY, changed)


def test_a_value_under_another_name_is_found() -> None:
    with pytest.raises(CorruptValueError):
        unframed(Key("speech", "cd" * 32), framed(KEY, b"value"))


# --- sizes


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    store = local(tmp_path, max_bytes=1_000_000)
    value = b"x" * 200_000
    for age, key in enumerate(keys(5)[:4]):
        store.put(key, value)
        long_ago = time.time() - 100_000 + age
        os.utime(store._path(key), (long_ago, long_ago))
    used, *unused, new = keys(5)
    assert store.get(used) == value  # which is a use
    store.put(new, value)
    kept = [key for key in keys(5) if store.get(key) is not None]
    assert used in kept
    assert new in kept
    assert unused[0] not in kept
    assert sum(listed.num_bytes for listed in store.list()) <= 1_000_000


def test_gc_to_nothing(store: Store) -> None:
    for key in keys(3):
        store.put(key, b"value")
    num_removed, num_bytes = store.gc(0)
    assert (num_removed, num_bytes) == (3, 3 * len(framed(KEY, b"value")))
    assert list(store.list()) == []


def test_what_a_killed_process_left_aside_goes(tmp_path: Path) -> None:
    store = local(tmp_path)
    store.put(KEY, b"value")
    folder = Path(path_of(store)).parent
    old, young = folder / ".aside-old", folder / ".aside-young"
    for aside in (old, young):
        aside.write_bytes(b"half")
    os.utime(old, (0, 0))
    store.gc()
    assert not old.exists()
    assert young.exists()
    assert [listed.path for listed in store.list()] == [str(folder / KEY.digest)]


# --- faults


def flaky(store: Store, monkeypatch: pytest.MonkeyPatch, name: str, errors: list[Exception]) -> list[Exception]:
    """The first calls raise; returns what is still to be raised."""
    real = getattr(store, name)

    def call(*args: Any) -> Any:
        if errors:
            raise errors.pop(0)
        return real(*args)

    monkeypatch.setattr(store, name, call)
    return errors


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionError(), RuntimeError("500"), OSError(errno.EIO, "i/o")])
@pytest.mark.parametrize("name", ["_read", "_write"])
def test_what_may_pass_is_tried_again(
    store: Store, error: Exception, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    left = flaky(store, monkeypatch, name, [error, error])
    store.put(KEY, b"value")
    assert store.get(KEY) == b"value"
    assert left == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_what_lasts_is_not(store: Store, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left = flaky(store, monkeypatch, "_write", [OSError(code, "no")] * 3)
    with pytest.raises(StoreError):
        store.put(KEY, b"value")
    assert len(left) == 2
    assert not store.is_writable
    assert store.is_readable
    assert store.get(KEY) is None


def test_a_store_that_failed_rests_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    store = remote(max_attempts=1, pause_s=0.0)
    flaky(store, monkeypatch, "_read", [TimeoutError()])
    with pytest.raises(StoreError):
        store.get(KEY)
    assert store.is_readable  # the pause was nothing
    assert store.get(KEY) is None


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = local(tmp_path)
    store.put(KEY, b"old")

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError):
        store.put(KEY, b"new value")
    assert store.get(KEY) == b"old"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [KEY.digest]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = local(tmp_path / "file")
    with pytest.raises(StoreError):
        store.put(KEY, b"value")


def _put_and_get(folder: str, number: int) -> bool:
    store = local(Path(folder))
    value = bytes([number]) * 100_000
    for _ in range(50):
        store.put(KEY, value)
        found = store.get(KEY)
        if found is None or len(found) != len(value) or len(set(found)) != 1:
            return False
    return True


def test_two_processes_write_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as processes:
        assert processes.starmap(_put_and_get, [(str(tmp_path), 1), (str(tmp_path), 2)]) == [True, True]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [KEY.digest]


# --- where


def test_none_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_store(StoreConfig(url="none")) is None
    monkeypatch.setenv("RAYDUB_STORE", "none")
    assert open_store(StoreConfig()) is None


def test_by_default_it_is_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYDUB_CACHE", str(tmp_path))
    monkeypatch.delenv("RAYDUB_STORE")
    store = open_store(StoreConfig())
    assert store is not None
    store.put(KEY, b"value")
    assert [path.name for path in (tmp_path / "store").rglob("*") if path.is_file()] == [KEY.digest]


def test_a_url_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"store\.url"):
        open_store(StoreConfig(url="nowhere://bucket"))


def test_fsspec_is_what_it_runs_on() -> None:
    assert isinstance(remote()._fs, fsspec.AbstractFileSystem)


def test_a_file_is_put_and_got_as_a_value_is(store: Store, tmp_path: Path) -> None:
    value, here, there = os.urandom(3 * 2**20 + 1), tmp_path / "here", tmp_path / "there"
    here.write_bytes(value)
    assert not store.get_file(KEY, there)
    store.put_file(KEY, here)
    assert store.get_file(KEY, there)
    assert (there.read_bytes(), store.get(KEY)) == (value, value)
    store.put(KEY, b"value")
    assert store.get_file(KEY, there)
    assert there.read_bytes() == b"value"

    fs, path = store._fs, path_of(store)
    fs.pipe_file(path, fs.cat_file(path)[:-1])
    with pytest.raises(CorruptValueError):
        store.get_file(KEY, there)
    assert there.read_bytes() == b"value"
    assert store.get(KEY) is None
    assert {file.name for file in tmp_path.iterdir()} <= {"here", "there", "store"}


def test_a_file_larger_than_the_store_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1_000_001))
    store = local(tmp_path / "store", max_bytes=1_000_000)
    store.put_file(KEY, tmp_path / "a")
    assert not store.get_file(KEY, tmp_path / "b")
