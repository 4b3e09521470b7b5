"""Compiled parts of SciPy, asked for by several threads at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

NUM_TRIALS = 8
"""Before there was a lock, about every third of these failed."""
THREADS = """
import importlib, sys, threading
import scipy
from cluster.compiled import part_of_scipy

sys.setswitchinterval(1e-6)
start, failed = threading.Barrier(8), []

def use(number):
    start.wait()
    try:
        if number < int(sys.argv[1]):
            importlib.import_module("scipy.cluster.hierarchy")
        else:
            part_of_scipy("cluster", "_hierarchy").nn_chain
    except BaseException as error:
        failed.append(repr(error))

threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
from scipy.cluster import hierarchy
assert hierarchy._hierarchy is part_of_scipy("cluster", "_hierarchy")
assert not failed, failed
"""


@pytest.mark.parametrize("num_imports", [0, 3])
def test_a_part_is_loaded_once_whoever_asks_for_it(num_imports: int) -> None:
    for _ in range(NUM_TRIALS if num_imports == 0 else 1):
        made = subprocess.run(
            [sys.executable, "-c", THREADS, str(num_imports)], capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stderr
