"""The files of a finished dub: those that no check changes are written while the last checks run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import raydub
from cluster import manifest
from cluster.quality import Metric
from cluster.steps import write
from cluster.storage import outputs
from tests.media import AudioSpec, VideoSpec, make_media, tone

CUES = "WEBVTT\n\n00:00.200 --> 00:01.800\nThe first line.\n"
TIMEOUT_S = 60.0


async def test_the_media_file_is_written_while_the_last_check_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk, hold, mux = tmp_path / "talk.mp4", tmp_path / "hold", write.mux
    make_media(talk, audio=[AudioSpec(samples=tone(4.0))], video=[VideoSpec(duration_s=4.0, rate=5)])
    talk.with_suffix(".vtt").write_text(CUES)
    hold.touch()

    def mux_then_let_checks_end(*args: Any, **kwargs: Any) -> Any:
        muxed = mux(*args, **kwargs)
        hold.unlink()  # until here the check waits
        return muxed

    monkeypatch.setattr(write, "mux", mux_then_let_checks_end)
    settings = {
        "ray.mode": "inline",
        "store.url": "none",
        "transcription": {"engine": "tests.standins.waiting_listener", "options": {"folder": str(tmp_path)}},
        "translation": {"engine": "tests.standins.translates", "num_candidates": 1},
        "speech.engine": "tests.standins.speaks",
        "alignment.strategy": "length",
    }
    async with asyncio.timeout(TIMEOUT_S), raydub.Dubber("base", settings=settings) as dubber:
        await dubber.dub(
            talk, to=["pt"], source_language="en", out=tmp_path / "out", subtitles=talk.with_suffix(".vtt")
        )
    assert not hold.exists()
    out = tmp_path / "out" / "talk"
    found = {path.name for path in out.iterdir()}
    assert found == {"talk.mp4", "en.srt", "en.vtt", "pt.srt", "pt.vtt", outputs.REPORT_NAME, outputs.MANIFEST_NAME}
    [line] = manifest.read(out / outputs.MANIFEST_NAME).dubs[0].utterances
    assert line.value_of(Metric.WER) == 1.0  # heard again, and nothing was understood
