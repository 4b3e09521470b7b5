"""A dub from somebody's subtitles: what they say is said, when they say it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pysubs2
import pytest

from cluster.batch.runner import run
from cluster.config.load import load_config
from cluster.flags import Flag
from cluster.manifest import Manifest
from cluster.pipeline import Job
from cluster.pools.ray_session import ray_session
from cluster.subtitles.cues import IssueKind
from tests.integration.dubbing import listen, spoken_text, word_error_rate
from tests.media import make_short_talk

CUES = [(1.0, 3.4, "Hoje vamos falar"), (3.5, 6.2, "sobre o mar."), (7.0, 11.0, "O mar é azul e profundo.")]
SOURCE_CUES = [(1.0, 3.4, "Today we are going to talk"), (3.5, 6.2, "about the sea."), (7.0, 11.0, "The sea is blue.")]
Cues = list[tuple[float, float, str]]


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_short_talk(tmp_path_factory.mktemp("talk") / "talk.mp4")


def write_cues(path: Path, cues: Cues) -> Path:
    subs = pysubs2.SSAFile()
    for start_s, end_s, text in cues:
        subs.append(pysubs2.SSAEvent(start=round(start_s * 1000), end=round(end_s * 1000), text=text))
    subs.save(str(path))
    return path


async def dub(talk: Path, out: Path, *, source: Path | None = None, target: Path | None = None) -> Manifest:
    """With one store for all of them: what one has spoken, the next need not."""
    config = load_config("offline", ["ray.mode=inline", "quality.check=none", f"store.url={talk.parent / 'store'}"])
    job = Job(
        source=talk,
        targets=("pt",),
        source_language="en",
        audio_track=None,
        out=out,
        subtitles=source,
        target_subtitles={} if target is None else {"pt": target},
    )
    with ray_session(config):
        [outcome] = await run([job], config, lambda progress: None, lambda outcome: None)
    assert outcome.manifest is not None, outcome.error
    return outcome.manifest


def pools(manifest: Manifest) -> set[str]:
    return {pool.name.split("/")[0] for pool in manifest.timings.pools}


@pytest.mark.parametrize("form", ["srt", "vtt", "ass"])
async def test_both_languages_brought(talk: Path, tmp_path: Path, form: str) -> None:
    source = write_cues(tmp_path / f"en.{form}", SOURCE_CUES)
    target = write_cues(tmp_path / f"pt.{form}", CUES)
    manifest = await dub(talk, tmp_path / "out", source=source, target=target)
    assert pools(manifest) == {"speech"}
    lines = manifest.dubs[0].utterances
    assert [(line.slot_start_s, line.slot_end_s, line.text) for line in lines] == CUES
    assert [line.source_text for line in lines] == [text for _, _, text in SOURCE_CUES]
    assert [unit.text for unit in manifest.units] == ["Today we are going to talk about the sea.", "The sea is blue."]
    assert all(line.end_s <= following.start_s for line, following in pairwise(lines))
    if form == "vtt":
        heard = listen(tmp_path / "out" / "talk.mp4", "pt")
        assert heard.language == "pt"
        assert word_error_rate(spoken_text(manifest, "pt"), heard.text) <= 0.3
    written = pysubs2.load(str(tmp_path / "out" / "en.srt"))
    assert [(event.start / 1000, event.end / 1000, event.plaintext) for event in written] == SOURCE_CUES


async def test_the_source_brought_is_translated_and_aligned_to_its_cues(talk: Path, tmp_path: Path) -> None:
    manifest = await dub(talk, tmp_path / "out", source=write_cues(tmp_path / "en.srt", SOURCE_CUES))
    assert pools(manifest) == {"translation", "embedding", "speech"}
    lines = manifest.dubs[0].utterances
    assert [(line.start_s, line.source_text) for line in lines] == [(start_s, text) for start_s, _, text in SOURCE_CUES]
    assert len({line.unit_id for line in lines}) == 2
    assert "mar" in lines[1].text


async def test_the_target_brought_is_spoken_over_what_was_heard(talk: Path, tmp_path: Path) -> None:
    manifest = await dub(talk, tmp_path / "out", target=write_cues(tmp_path / "pt.vtt", CUES))
    assert pools(manifest) == {"transcription", "speech"}
    assert manifest.segments
    lines = manifest.dubs[0].utterances
    assert [(line.slot_start_s, line.slot_end_s, line.text) for line in lines] == CUES
    assert {line.segment_id for line in lines} <= {segment.id for segment in manifest.segments}
    assert any(line.source_text for line in lines)


async def test_imperfect_cues_are_repaired_and_flagged_to_the_end(talk: Path, tmp_path: Path) -> None:
    source = write_cues(tmp_path / "en.srt", [*SOURCE_CUES, (12.0, 12.8, "[applause]")])
    over = (5.0, 6.9, "Sobre o mar?")
    late = (9000.0, 9001.0, "Legendas de outra pessoa.")
    target = write_cues(tmp_path / "pt.srt", [*CUES, over, late])
    manifest = await dub(talk, tmp_path / "out", source=source, target=target)
    assert manifest.flags == (Flag.SUBTITLES_REPAIRED,)
    own, given = manifest.given_subtitles
    assert [issue.kind for issue in own.issues] == [IssueKind.SOUND]
    assert [issue.kind for issue in given.issues] == [IssueKind.OVERLAP, IssueKind.PAST_END]
    lines = manifest.dubs[0].utterances
    assert [line.text for line in lines] == ["Hoje vamos falar", "sobre o mar.", "Sobre o mar?", CUES[2][2]]
    # The first of the two is said in good time before the second, which keeps its own.
    assert [Flag.RETIMED in line.flags for line in lines] == [False, True, False, False]
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "past the end of the media: 2:30:00.000" in report


async def test_subtitles_of_another_cut_fail_their_video_with_the_cue(talk: Path, tmp_path: Path) -> None:
    late = write_cues(tmp_path / "pt.srt", [(30.0, 31.0, "Tarde.")])
    with pytest.raises(AssertionError, match="another cut"):
        await dub(talk, tmp_path / "out", target=late)
    assert not (tmp_path / "out").exists()
