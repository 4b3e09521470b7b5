"""Kinds of media that no container of ours holds as they are: nothing is lost, and it is said before the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet

from actors.errors import MediaError
from cluster.media.config import MediaConfig
from cluster.media.plan import plan_output
from cluster.media.probe import probe
from cluster.media.remux import Copy, source_packets
from cluster.media.verify import PromisedStream, verify
from tests.integration.test_mux_out import AT_S, dub, heard
from tests.media import AudioSpec, VideoSpec, click_error_s, clicks, make_media

SOUNDS = [
    ("call.wav", "pcm_alaw", 8_000, "flac"),
    ("call.au", "pcm_mulaw", 8_000, "flac"),
    ("memo.wav", "adpcm_ima_wav", 22_050, "flac"),
    ("memo.wma", "wmav2", 32_000, "flac"),
    ("radio.wav", "g722", 16_000, "flac"),
    ("take.aiff", "pcm_s16be", 32_000, "pcm_s16be"),
]
PICTURES = [
    ("flash.flv", "flv1", "yuv420p", "adpcm_swf", ".mkv", "h264", "flac"),
    ("desktop.avi", "msmpeg4v2", "yuv420p", "libmp3lame", ".mkv", "h264", "mp3"),
    ("screen.avi", "huffyuv", "yuv422p", "adpcm_ms", ".mkv", "h264", "flac"),
    ("raw.avi", "rawvideo", "yuv420p", "pcm_s16le", ".mkv", "h264", "pcm_s16le"),
    ("camera.avi", "mjpeg", "yuvj420p", "pcm_mulaw", ".mkv", "mjpeg", "flac"),
    ("vector.avi", "cinepak", "rgb24", "pcm_s16le", ".mov", "cinepak", "pcm_s16le"),
    ("edit.mov", "prores_ks", "yuv422p10le", "pcm_s16le", ".mov", "prores", "pcm_s16le"),
    ("player.mov", "svq1", "yuv410p", "pcm_s16be", ".mov", "svq1", "pcm_s16be"),
]


def num_pictures(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize(("name", "codec", "hz", "expected"), SOUNDS)
def test_every_kind_of_sound_stays_beside_its_dub(
    tmp_path: Path, name: str, codec: str, hz: int, expected: str
) -> None:
    samples = clicks(3.0, AT_S, hz=hz, channels=1)
    source = make_media(tmp_path / name, audio=[AudioSpec(samples=samples, hz=hz, codec=codec)])
    planned = plan_output(probe(source))
    assert [stream.new_codec or stream.codec for stream in planned.streams] == [expected]
    result = dub(source)
    assert [track.codec for track in probe(result.path).audio] == ["opus", expected]
    before, after = heard(source, 0), heard(result.path, 1)
    for at_s in AT_S:
        # Beside what the source decodes to: some of these codecs delay their sound themselves.
        moved_s = click_error_s(after, at_s) - click_error_s(before, at_s)
        assert abs(moved_s) < 0.0005
    shared = min(len(before), len(after))
    assert np.abs(before[:shared] - after[:shared]).max() < 0.01


@pytest.mark.parametrize(("name", "video", "pix_fmt", "audio", "suffix", "new_video", "new_audio"), PICTURES)
def test_every_kind_of_picture_stays(
    tmp_path: Path, name: str, video: str, pix_fmt: str, audio: str, suffix: str, new_video: str, new_audio: str
) -> None:
    source = make_media(
        tmp_path / name,
        video=[VideoSpec(duration_s=3.0, codec=video, pix_fmt=pix_fmt)],
        audio=[AudioSpec(samples=clicks(3.0, AT_S, hz=22_050, channels=1), hz=22_050, codec=audio)],
    )
    planned = plan_output(probe(source))
    assert planned.suffix == suffix
    assert [stream.action for stream in planned.streams] == [
        "copy" if stream.codec == new else "encode"
        for stream, new in zip(planned.streams, (new_video, new_audio), strict=True)
    ]
    result = dub(source)
    info = probe(result.path)
    assert result.dropped == ()
    assert [stream.codec for stream in info.video] == [new_video]
    assert info.audio[1].codec == new_audio
    assert num_pictures(result.path) == num_pictures(source) == 75


def test_the_plan_says_what_becomes_of_each_stream(tmp_path: Path) -> None:
    source = make_media(
        tmp_path / "flash.flv",
        video=[VideoSpec(duration_s=1.0, codec="flv1")],
        audio=[AudioSpec(samples=clicks(1.0, (0.5,), hz=22_050, channels=1), hz=22_050, codec="adpcm_swf")],
    )
    line = plan_output(probe(source)).describe()
    assert line == "mkv: video 0 (flv1) encoded as h264; audio 1 (adpcm_swf) encoded as flac"


# --- the finished file is compared with the plan


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return make_media(
        tmp_path / "film.mkv",
        video=[VideoSpec(duration_s=6.0)],
        audio=[AudioSpec(samples=clicks(6.0, AT_S), language="eng", default=True)],
        chapters=[(0.0, 3.0, "one"), (3.0, 6.0, "two")],
    )


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[[int, Packet[Any]], bool]) -> None:
    """Let ``change`` alter each source packet as it is written, or drop it by returning False."""

    def spoiled(copy: Copy) -> Iterator[tuple[float, Packet[Any]]]:
        for number, (time_s, packet) in enumerate(source_packets(copy)):
            if change(number, packet):
                yield time_s, packet

    monkeypatch.setattr("cluster.media.remux.source_packets", spoiled)


def test_a_picture_that_ends_early_fails_the_dub(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda _, packet: packet.stream.type != "video" or packet.pts * packet.time_base < 2)
    with pytest.raises(MediaError, match=r"as planned, found a picture until 2\.\d s instead of 6\.0 s"):
        dub(film)
    assert not film.with_name("out.mkv").exists()


def test_sound_that_moved_fails_the_dub(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(_: int, packet: Packet[Any]) -> bool:
        if packet.stream.type == "audio":
            packet.pts = packet.dts = packet.pts + round(0.5 / packet.time_base)
        return True

    spoil(monkeypatch, late)
    with pytest.raises(MediaError, match=r"other sound in track 1 at 0\.0 s"):
        dub(film)


def test_lost_chapters_fail_the_dub(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.media.mux._copy_metadata", lambda plan: None)
    with pytest.raises(MediaError, match="0 chapters instead of 2"):
        dub(film)


def test_a_missing_stream_and_a_wrong_language_are_named(film: Path, tmp_path: Path) -> None:
    info = probe(film)
    wanted = [
        PromisedStream(kind="video", language=None, default=True),
        PromisedStream(kind="audio", language="de", default=True),
    ]
    with pytest.raises(MediaError, match="audio 1 in en instead of de"):
        verify(film, wanted, info, 2, MediaConfig())
    with pytest.raises(MediaError, match="streams video, audio instead of video"):
        verify(film, wanted[:1], info, 2, MediaConfig())
