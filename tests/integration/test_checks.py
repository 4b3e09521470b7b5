"""Checks of a real dub: every line is heard again, compared and translated back; nothing else changes."""

from __future__ import annotations

from pathlib import Path

from cluster.candidates import Standing
from cluster.demo import make_talk
from cluster.manifest import read
from cluster.quality import Metric
from tests.integration.dubbing import dub_all

TALK_S = 10.0


async def test_lines_are_checked_beside_the_dub_and_in_a_closed_loop(tmp_path: Path) -> None:
    talk = tmp_path / "talk.mp4"
    make_talk(talk, TALK_S)
    [dub] = [
        outcome.manifest.dubs[0]
        for outcome in await dub_all([talk], tmp_path / "out", settings=("quality.check=all", "quality.retry=true"))
        if outcome.manifest is not None
    ]
    spoken = [line for line in dub.utterances if line.text]
    assert spoken
    for line in spoken:
        assert [measure.metric for measure in line.quality] == list(Metric)
        assert all(measure.value is not None and measure.why is None for measure in line.quality), line.quality
        assert [candidate.standing for candidate in line.candidates].count(Standing.CHOSEN) == 1
        said = next(candidate for candidate in line.candidates if candidate.standing is Standing.CHOSEN)
        assert said.text == line.text
    means = {summary.metric: summary.value or 0.0 for summary in dub.quality}
    assert means[Metric.WER] < 0.35
    assert means[Metric.COSINE] > 0.6
    assert means[Metric.BACK_CHRF] > 50
    assert means[Metric.OVERLAP_S] == 0
    assert "word error rate, heard again" in (tmp_path / "out" / "talk" / "report.html").read_text()
    assert read(tmp_path / "out" / "talk" / "manifest.json").dubs[0] == dub
