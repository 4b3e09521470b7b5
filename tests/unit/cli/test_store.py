"""raydub store: what is there, what may go, what is damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from actors.errors import ConfigError
from cluster.cli import main
from cluster.storage.config import StoreConfig
from cluster.storage.keys import Key
from cluster.storage.store import open_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with three results."""
    store = open_store(StoreConfig(url=str(tmp_path)))
    assert store is not None
    for number in range(2):
        store.put(Key("speech", f"{number:064x}"), b"x" * 1000)
    store.put(Key("translation", "f" * 64), b"x" * 10)
    return tmp_path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main.app, ["store", *map(str, arguments)])
    if isinstance(result.exception, ConfigError):
        raise result.exception
    return result.exit_code, result.stdout


def as_json(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json")[1])
    return found


def test_stats_by_task(folder: Path) -> None:
    tasks = as_json("stats", "--url", folder)["tasks"]
    assert {task: found["num_values"] for task, found in tasks.items()} == {"speech": 2, "translation": 1}
    assert tasks["speech"]["num_bytes"] == 2 * 1040
    code, text = run("stats", "--url", folder)
    assert code == 0
    assert "speech" in text


def test_stats_of_an_empty_store(tmp_path: Path) -> None:
    assert as_json("stats", "--url", tmp_path / "none yet")["tasks"] == {}
    assert run("stats", "--url", tmp_path / "none yet")[0] == 0


def test_gc_removes_what_was_not_used_for_longest(folder: Path) -> None:
    old = folder / "speech" / "00" / f"{0:064x}"
    os.utime(old, (0, 0))
    assert as_json("gc", "--url", folder, "--max-size", "1.1k")["num_removed"] == 1
    assert not old.exists()
    assert as_json("gc", "--url", folder, "--max-size", "0")["num_removed"] == 2
    assert "removed 0 results" in run("gc", "--url", folder)[1]


def test_verify_removes_what_is_damaged(folder: Path) -> None:
    assert run("verify", "--url", folder)[0] == 0
    os.truncate(folder / "speech" / "00" / f"{0:064x}", 100)
    code, text = run("verify", "--url", folder)
    assert code == 1
    assert "3 results, 1 damaged" in text
    assert as_json("verify", "--url", folder) == {"url": f"file://{folder}", "num_values": 2, "num_damaged": 0}


def test_no_store_and_no_size_are_told() -> None:
    with pytest.raises(ConfigError, match="name one with --url"):
        run("stats")
    with pytest.raises(ConfigError, match="must look like 500M"):
        run("gc", "--url", "memory://x", "--max-size", "much")
