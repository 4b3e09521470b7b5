"""Starting Ray: what may be wrong is told in one line, before or instead of a traceback."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors.errors import ConfigError
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.pools.ray_session import MIN_FREE_BYTES, ray_session


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Config:
    # Set first, so that what a start puts into the environment is taken back.
    for name in ("RAY_worker_niceness", "RAY_raylet_start_wait_time_s", "RAY_gcs_server_port_wait_time_s"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    return load_config("offline", ["ray.mode=local"])


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Has each start end with the next of these errors, or well; returns the addresses asked for."""

    def plan(*errors: Exception | None) -> list[str]:
        addresses: list[str] = []
        remaining = iter(errors)

        def init(*, address: str, **_: object) -> None:
            addresses.append(address)
            error = next(remaining)
            if error is not None:
                raise error

        monkeypatch.setattr("ray.init", init)
        return addresses

    return plan


def enter(config: Config) -> None:
    with ray_session(config):
        pass


TIMED_OUT = Exception("The current node timed out\nduring startup.")


@pytest.mark.parametrize("error", [TIMED_OUT, TimeoutError("no answer")])
def test_a_start_that_takes_too_long_is_tried_once_more(
    error: Exception, local: Config, starts: Callable[..., list[str]]
) -> None:
    addresses = starts(error, None)
    enter(local)
    assert addresses == ["local", "local"]


def test_a_second_start_that_takes_too_long_ends_in_one_line(local: Config, starts: Callable[..., list[str]]) -> None:
    starts(TIMED_OUT, TIMED_OUT)
    with pytest.raises(ConfigError) as raised:
        enter(local)
    assert str(raised.value) == (
        "Ray must start on this machine; The current node timed out during startup.; "
        "free processors or memory, or set ray.mode to inline"
    )


def test_a_start_that_fails_is_not_tried_again(local: Config, starts: Callable[..., list[str]]) -> None:
    addresses = starts(RuntimeError("no GCS"))
    with pytest.raises(ConfigError, match="must start on this machine; no GCS; see `raydub doctor`"):
        enter(local)
    assert len(addresses) == 1


def test_a_defect_keeps_its_traceback(local: Config, starts: Callable[..., list[str]]) -> None:
    starts(AttributeError("a defect"))
    with pytest.raises(AttributeError):
        enter(local)


def test_a_full_temporary_folder_is_told_before_ray_starts(
    local: Config, starts: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = starts()
    asked: list[Path] = []

    def disk_usage(folder: Path) -> SimpleNamespace:
        asked.append(folder)
        return SimpleNamespace(free=MIN_FREE_BYTES - 1 if folder == tmp_path else MIN_FREE_BYTES)

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    with pytest.raises(ConfigError, match=rf"no space in {tmp_path} \(\$TMPDIR\): 20\.0 MB are free; free some"):
        enter(local)
    assert (addresses, asked) == ([], [tmp_path])


def test_a_temporary_folder_that_cannot_be_written_is_told(
    local: Config, starts: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = starts()
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("RAY_TMPDIR", str(file))
    with pytest.raises(ConfigError, match=rf"cannot write to {file} \(\$RAY_TMPDIR\): Not a directory"):
        enter(local)
    assert addresses == []


def test_a_temporary_folder_may_be_made_by_ray(
    local: Config, starts: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = starts(None)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "new" / "folder"))
    enter(local)
    assert addresses == ["local"]
    assert list(tmp_path.iterdir()) == []
