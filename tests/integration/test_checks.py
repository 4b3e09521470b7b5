"""Checks of a real dub: every line is heard again, compared and translated back; nothing else changes."""

from __future__ import annotations

import io
from pathlib import Path

from cluster.cli.display import PlainDisplay, SteadyConsole
from cluster.demo.talk import make_talk
from cluster.flags import Flag
from cluster.manifest import read
from cluster.quality import Metric
from cluster.timing.ranking import Standing
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


async def test_a_bound_of_no_error_makes_every_slip_a_line_to_look_at(tmp_path: Path) -> None:
    """One word is said otherwise than it is written, as whisper hears all others right on some processors."""
    talk = tmp_path / "talk.mp4"
    make_talk(talk, TALK_S)
    common = ("quality.check=all", f"store.url={tmp_path / 'store'}", "speech.lexicon={pt: {equações: emoções}}")
    shown, manifests = [], []
    for name, settings in (("usual", ()), ("strict", ("quality.max_wer=0.0",))):
        [outcome] = await dub_all([talk], tmp_path / name, settings=(*common, *settings))
        assert outcome.manifest is not None, outcome.error
        text = io.StringIO()
        PlainDisplay(SteadyConsole(file=text, width=500)).finish(outcome)
        shown.append(text.getvalue())
        manifests.append(outcome.manifest)
    usual, strict = (manifest.dubs[0].utterances for manifest in manifests)
    assert [line.text for line in usual] == [line.text for line in strict]
    slips = [line.id for line in strict if (line.value_of(Metric.WER) or 0.0) > 0]
    assert slips
    assert [line.id for line in strict if Flag.HEARD_WRONG in line.flags] == slips
    assert not any(Flag.HEARD_WRONG in line.flags for line in usual)
    assert f"{len(slips)} of {len(strict)} lines to look at: {tmp_path}/strict/talk/report.html\n" in shown[1]
    assert "to look at" not in shown[0]
    verdict = manifests[1].verdict
    assert verdict is not None
    assert (verdict.num_flagged, verdict.flags[Flag.HEARD_WRONG]) == (len(slips), len(slips))
