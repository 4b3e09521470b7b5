"""Reads the table of outcomes that are right: ``expected.tsv``."""

from __future__ import annotations

import functools
import json
from pathlib import Path

TABLE = Path(__file__).with_name("expected.tsv")


@functools.cache
def expected_outcomes() -> dict[tuple[str, str], str]:
    """(group, file's name) → outcome. Names are JSON, because some are no text."""
    rows = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()]
    return {(group, json.loads(name)): outcome for group, name, outcome in rows}
