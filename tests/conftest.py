"""What every test runs under: offline, one thread, derived weights kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import settings

from tests.whole_trees import parse_one_at_a_time

ROOT = Path(__file__).parent.parent

# Before any test imports numpy or a model library: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAYDUB_CACHE", str(ROOT / ".pytest_cache" / "raydub"))

# Read when Ray is imported, here or in another process: a busy machine starts its nodes late.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")
os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "300")

# No test may find what an earlier one left, or touch the user's: those of the store name one of their own.
os.environ["RAYDUB_STORE"] = "none"

# No test may fail because the machine was busy.
settings.register_profile("raydub", deadline=None)
settings.load_profile("raydub")

# No failure may end the run instead of being printed.
parse_one_at_a_time()
