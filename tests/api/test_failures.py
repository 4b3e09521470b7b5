"""A test that fails beside a server of its own process is named, and the tests after it run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLANTED = '''
"""One test that fails while other threads parse, as numpy does which reads the header of an array, and one after it."""

import ast
import contextlib
import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.server import NO_MODELS, Running, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("data"), *NO_MODELS, config="base") as service:
        yield service


@pytest.fixture
def _parsing() -> Iterator[None]:
    """Every garbage collection of this thread lets others run, as finalizers may."""
    has_ended = threading.Event()

    def parse() -> None:
        while not has_ended.is_set():
            with contextlib.suppress(SystemError):
                ast.literal_eval("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)}")

    def let_others_run(*_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            time.sleep(0.0001)

    parsing, threshold = threading.Thread(target=parse), gc.get_threshold()
    parsing.start()
    gc.callbacks.append(let_others_run)
    gc.set_threshold(200)
    yield
    gc.set_threshold(*threshold)
    gc.callbacks.remove(let_others_run)
    has_ended.set()
    parsing.join()


@pytest.mark.usefixtures("_parsing")
def test_planted(service: Running) -> None:
    with service.client() as client:
        assert client.get("/healthz").status_code == 201


def test_after_it(service: Running) -> None:
    with service.client() as client:
        assert client.get("/healthz").status_code == 200
'''


def test_a_failure_is_named_and_the_run_goes_on(tmp_path: Path) -> None:
    planted = tmp_path / "test_planted.py"
    planted.write_text(PLANTED)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", ROOT / "pyproject.toml", planted]
    command += [f"--rootdir={tmp_path}", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    told = finished.stdout + finished.stderr
    summary = finished.stdout.partition("short test summary info")[2]
    assert "FAILED test_planted.py::test_planted - AssertionError: assert 200 == 201" in summary, told
    assert "assert client.get" in finished.stdout, told
    assert "1 failed, 1 passed" in summary, told
    assert finished.returncode == pytest.ExitCode.TESTS_FAILED, told
