"""A full disk at any stage: words that say so, nothing half, and work goes on when there is room."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NAMESPACE = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
"""Mounts of its own, which end with the process; who is not root is root in there."""


def may_mount(folder: Path) -> bool:
    tried = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def test_disks_that_fill(tmp_path: Path) -> None:
    if not may_mount(tmp_path):
        pytest.skip("this kernel lets nobody mount a file system in memory")
    tests = Path(__file__).with_name("full_disk.py")
    command = [*NAMESPACE, sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", str(tests)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-10_000:]
    assert " passed" in ended.stdout
