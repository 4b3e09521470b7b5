"""Filters agree with the libraries that they stand in for, and load none of them."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.signal
from pyloudnorm import IIRfilter

from cluster.audio.biquads import filtered, high_pass, high_shelf

PROGRAM = """
import sys
import numpy as np
from cluster.audio.loudness import SpeechLoudness
loudness = SpeechLoudness(16_000)
loudness.feed(np.ones(16_000, np.float32))
assert loudness.lufs() is not None
print([name for name in ("scipy.signal", "scipy.stats", "scipy.optimize", "pyloudnorm") if name in sys.modules])
import scipy.signal  # SciPy still finds its own
print(scipy.signal.sosfilt([[1.0, 0, 0, 1, 0, 0]], [3.0]).tolist())
"""


@pytest.mark.parametrize("sample_hz", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_designs_are_those_of_pyloudnorm(sample_hz: int) -> None:
    shelf = IIRfilter(4.0, 1 / math.sqrt(2), 1500.0, sample_hz, "high_shelf")
    assert high_shelf(1500.0, 1 / math.sqrt(2), 4.0, sample_hz) == pytest.approx([*shelf.b, *shelf.a], abs=1e-12)
    passing = IIRfilter(0.0, 0.5, 38.0, sample_hz, "high_pass")
    assert high_pass(38.0, 0.5, sample_hz) == pytest.approx([*passing.b, *passing.a], abs=1e-12)


def test_filters_as_scipy_does_from_one_block_to_the_next() -> None:
    sections = np.stack((high_shelf(1500.0, 0.7, 4.0, 16_000), high_pass(38.0, 0.5, 16_000)))
    rng = np.random.default_rng(0)
    state = expected_state = np.zeros((2, 2))
    for num_samples in (1, 1000, 7, 4096):
        block = rng.standard_normal(num_samples).astype(np.float32)
        given = block.copy()
        expected, expected_state = scipy.signal.sosfilt(sections, block.astype(np.float64), zi=expected_state)
        before = state.copy()
        found, after = filtered(sections, block, state)
        assert found == pytest.approx(expected, abs=1e-12)
        assert after == pytest.approx(expected_state, abs=1e-12)
        assert (block == given).all()
        assert (state == before).all()
        state = after


def test_loudness_loads_little_of_scipy() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["[]", "[3.0]"]
