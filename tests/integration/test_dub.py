"""The main job on real models and media: what a dub must be, for a talk made here and for real clips."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from actors.types import Span
from cluster.audio.loudness import SpeechLoudness
from cluster.demo.talk import Script, make_talk
from cluster.manifest import Manifest, read
from cluster.media.decode import decode_audio
from cluster.media.probe import probe
from tests.integration.dubbing import (
    SHARED_MEDIA,
    dub_all,
    dub_one,
    listen,
    spoken_text,
    word_error_rate,
)
from tests.media import packets_of

TALK_S = 28.0
SHORT_TALK_S = 12.0


@pytest.fixture(scope="session")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("talk") / "talk.mp4"
    make_talk(path, TALK_S)
    return path


@pytest.fixture(scope="session")
def short_talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("short") / "talk.mp4"
    make_talk(path, SHORT_TALK_S)
    return path


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Settings of dubs that need not be computed each anew."""
    return (f"store.url={tmp_path_factory.mktemp('store')}",)


@pytest.fixture(scope="session")
def dubbed(talk: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    out = tmp_path_factory.mktemp("out")
    return out / "talk", asyncio.run(dub_one(talk, out))


def clip(name: str) -> Path:
    path = SHARED_MEDIA / name
    if not path.exists():
        pytest.skip(f"{name} is not on this machine")
    return path


def payloads(path: Path, kind: str) -> list[str]:
    """sha256 of the packets of each stream of a kind, streams in order."""
    with av.open(str(path)) as container:
        indices = [stream.index for stream in container.streams if stream.type == kind]
    return [
        hashlib.sha256(b"".join(payload for _, _, payload in packets_of(path, index))).hexdigest() for index in indices
    ]


def test_a_dub_leaves_what_the_readme_promises(dubbed: tuple[Path, Manifest]) -> None:
    folder, manifest = dubbed
    names = {path.name for path in folder.iterdir()}
    assert names == {"talk.mp4", "pt.srt", "pt.vtt", "en.srt", "en.vtt", "manifest.json", "report.html"}
    assert read(folder / "manifest.json") == manifest
    assert not list(folder.parent.glob(".*"))


def test_video_packets_are_those_of_the_source(talk: Path, dubbed: tuple[Path, Manifest]) -> None:
    folder, _ = dubbed
    assert payloads(folder / "talk.mp4", "video") == payloads(talk, "video")


def test_tracks_have_languages_and_dispositions(dubbed: tuple[Path, Manifest]) -> None:
    folder, _ = dubbed
    with av.open(str(folder / "talk.mp4")) as container:
        audio = [
            (stream.metadata["language"], bool(stream.disposition & Disposition.default))
            for stream in container.streams.audio
        ]
        subtitles = [stream.metadata["language"] for stream in container.streams.subtitles]
    assert audio == [("por", True), ("eng", False)]
    assert subtitles == ["por", "eng"]


def test_the_dub_is_as_long_as_the_source(talk: Path, dubbed: tuple[Path, Manifest]) -> None:
    folder, _ = dubbed
    with av.open(str(folder / "talk.mp4")) as container:
        dub = container.streams.audio[0]
        dub_s = float(dub.duration * dub.time_base)
    assert dub_s == pytest.approx(probe(talk).duration_s, abs=1 / 25)


def test_the_source_is_heard_to_its_end(talk: Path, dubbed: tuple[Path, Manifest]) -> None:
    """Every sentence; in how many segments is up to the recogniser."""
    script = Script.model_validate_json(talk.with_suffix(".json").read_text(encoding="utf-8"))
    said = " ".join(sentence.text for sentence in script.sentences)
    assert word_error_rate(said, " ".join(segment.text for segment in dubbed[1].segments)) <= 0.15


def test_the_dub_says_what_the_manifest_says(dubbed: tuple[Path, Manifest]) -> None:
    folder, manifest = dubbed
    heard = listen(folder / "talk.mp4", "pt")
    assert heard.language == "pt"
    assert word_error_rate(spoken_text(manifest, "pt"), heard.text) <= 0.2


def test_lines_start_with_their_source_and_never_overlap(dubbed: tuple[Path, Manifest]) -> None:
    _, manifest = dubbed
    [dub] = manifest.dubs
    segments = {segment.id: segment for segment in manifest.segments}
    assert [line.segment_id for line in dub.utterances] == list(segments)
    for line in dub.utterances:
        assert line.start_s == pytest.approx(segments[line.segment_id].start_s, abs=0.3)
        assert line.rate is None or line.rate <= manifest.config["fitting"]["max_rate"] + 1e-6
    for line, following in zip(dub.utterances, dub.utterances[1:], strict=False):
        assert line.end_s <= following.start_s + 0.05


def test_the_dub_is_as_loud_as_the_speech_it_replaces(talk: Path, dubbed: tuple[Path, Manifest]) -> None:
    folder, manifest = dubbed
    spoken = [Span(start_s=line.start_s, end_s=line.end_s) for line in manifest.dubs[0].utterances if line.text]
    source = [Span(start_s=segment.start_s, end_s=segment.end_s) for segment in manifest.segments]
    assert lufs(folder / "talk.mp4", spoken) == pytest.approx(lufs(talk, source), abs=2.0)


def lufs(path: Path, spans: list[Span]) -> float:
    info = probe(path)
    samples = np.concatenate(list(decode_audio(info, info.audio[0], hz=48_000, channels="mono")))
    loudness = SpeechLoudness(48_000)
    for span in spans:
        loudness.feed(samples[round(span.start_s * 48_000) : round(span.end_s * 48_000)])
    measured = loudness.lufs()
    assert measured is not None
    return measured


async def test_ray_and_inline_give_the_same_manifest(short_talk: Path, kept: tuple[str, ...], tmp_path: Path) -> None:
    inline = await dub_one(short_talk, tmp_path / "inline", settings=kept)
    by_ray = await dub_one(short_talk, tmp_path / "ray", mode="local")
    assert by_ray.comparable() == inline.comparable()


async def test_again_over_an_older_result(short_talk: Path, kept: tuple[str, ...], tmp_path: Path) -> None:
    """Own files are replaced, others are left alone."""
    (tmp_path / "talk").mkdir()
    (tmp_path / "talk" / "notes.txt").write_text("mine")
    (tmp_path / "talk" / "pt.srt").write_text("old")
    await dub_one(short_talk, tmp_path, settings=kept)
    assert (tmp_path / "talk" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "talk" / "pt.srt").read_text() != "old"


async def test_a_bad_input_costs_only_itself(short_talk: Path, kept: tuple[str, ...], tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no media")
    inputs = [short_talk, text, tmp_path / "missing.mp4"]
    good, bad, missing = await dub_all(inputs, tmp_path / "out", settings=kept)
    assert good.manifest is not None
    assert bad.manifest is None
    assert str(text) in (bad.error or "")
    assert missing.manifest is None
    assert "no such file" in (missing.error or "")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["talk"]


# --- real clips


async def test_a_real_talk(tmp_path: Path) -> None:
    source = clip("talk_en_42s.mp4")
    manifest = await dub_one(source, tmp_path, source=None)
    result = tmp_path / source.stem / source.name
    assert manifest.input.language == "en"
    assert payloads(result, "video") == payloads(source, "video")
    heard = listen(result, "pt")
    assert heard.language == "pt"
    assert any(abs(start_s - 40.0) <= 0.5 for start_s in heard.times_of("banana")), heard.words
    assert word_error_rate(spoken_text(manifest, "pt"), heard.text) <= 0.2
    assert probe(result).duration_s == pytest.approx(probe(source).duration_s, abs=1 / 30)


async def test_audio_in_audio_out(tmp_path: Path) -> None:
    source = clip("speech_pt_10s.wav")
    manifest = await dub_one(source, tmp_path, to="en", source=None)
    result = tmp_path / source.stem / "speech_pt_10s.mka"
    assert manifest.input.language == "pt"
    info = probe(result)
    assert [track.language for track in info.audio] == ["en", "pt"]
    assert [stream.language for stream in info.subtitles] == ["en", "pt"]
    assert payloads(result, "audio")[1] == payloads(source, "audio")[0]
    assert info.duration_s == pytest.approx(probe(source).duration_s, abs=0.02)
    heard = listen(result, "en")
    assert heard.language == "en"
    assert word_error_rate(spoken_text(manifest, "en"), heard.text) <= 0.2


async def test_every_stream_is_kept(tmp_path: Path) -> None:
    source = clip("two_video_two_audio_subs.mp4")
    manifest = await dub_one(source, tmp_path)
    result = tmp_path / source.stem / source.name
    assert manifest.dropped_streams == ()
    for kind in ("video", "audio", "subtitle"):
        kept = payloads(result, kind)
        assert all(payload in kept for payload in payloads(source, kind)), kind


async def test_quiet_speech_is_heard(tmp_path: Path) -> None:
    source = clip("quiet_en_10s.mp4")
    manifest = await dub_one(source, tmp_path)
    assert manifest.status in ("done", "degraded")
    assert manifest.dubs[0].utterances
