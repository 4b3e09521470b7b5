"""The speakers of an item: their number, or a file with turns that is read before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.errors import ConfigError
from cluster.batch.items import Item, jobs_of
from cluster.config.load import load_config, overlaid


def settings_of(speakers: Any, out: Path) -> Any:
    config = load_config("offline")
    item = Item.model_validate({"source": "talk.mp4", "to": "pt", "from": "en", "speakers": speakers})
    [job] = jobs_of([item], str(out), config)
    return overlaid(config, job.settings).speakers


@pytest.mark.parametrize(("given", "count"), [("auto", "auto"), ("3", 3), (2, 2), (1, 1), (None, "auto")])
def test_speakers_are_a_number_or_found_out(given: Any, count: Any, tmp_path: Path) -> None:
    assert settings_of(given, tmp_path).count == count


def test_turns_are_read_before_anything_runs(tmp_path: Path) -> None:
    rttm = tmp_path / "talk.rttm"
    rttm.write_text("SPEAKER talk 1 0 2 <NA> <NA> Ana <NA> <NA>\n", encoding="utf-8")
    assert settings_of(str(rttm), tmp_path).rttm == str(rttm)
    rttm.write_text("1 2 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 1 of"):
        settings_of(str(rttm), tmp_path)


@pytest.mark.parametrize("given", ["many", "0", "-1", "101", "", "s3://bucket/talk.rttm", "none.rttm"])
def test_anything_else_is_refused(given: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        settings_of(given, tmp_path)
