"""What every test runs under: offline, one thread, derived weights kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import settings

ROOT = Path(__file__).parent.parent

# Before any test imports numpy or a model library: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAYDUB_CACHE", str(ROOT / ".pytest_cache" / "raydub"))

# No test may find what an earlier one left, or touch the user's: those of the store name one of their own.
os.environ["RAYDUB_STORE"] = "none"

# No test may fail because the machine was busy.
settings.register_profile("raydub", deadline=None)
settings.load_profile("raydub")
