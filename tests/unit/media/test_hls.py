from __future__ import annotations

import contextlib
import re
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.audio.limiter import RATE_HZ
from cluster.media.config import MediaConfig
from cluster.media.hls import PLAYLIST
from cluster.media.probe import probe
from cluster.media.sandbox import SandboxedHls
from tests.media import AudioSpec, VideoSpec, click_error_s, clicks, make_media, tone

DURATION_S = 12.0
CLICK_S = 6.5


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    video = VideoSpec(duration_s=DURATION_S, options={"g": "25"})
    return make_media(tmp_path / "talk.mp4", video=[video], audio=[AudioSpec(samples=tone(DURATION_S))])


def write_all(folder: Path, source: Path, samples: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    info = probe(source, MediaConfig())
    with SandboxedHls(folder, info, MediaConfig(), num_channels=samples.shape[1], bits_per_s=128_000) as writer:
        for start in range(0, len(samples), RATE_HZ):
            writer.write(samples[start : start + RATE_HZ])


def test_it_plays_to_the_end_with_sound_where_it_was(talk: Path, tmp_path: Path) -> None:
    out = tmp_path / "hls"
    write_all(out, talk, clicks(DURATION_S, [CLICK_S], channels=2))
    with av.open(str(out / PLAYLIST)) as played:
        assert [stream.type for stream in played.streams] == ["video", "audio"]
        pictures = [float(frame.time or 0) for frame in played.decode(video=0)]
    with av.open(str(out / PLAYLIST)) as played:
        frames = list(played.decode(audio=0))
    assert len(pictures) == round(DURATION_S * 25)
    assert max(np.diff(pictures)) == pytest.approx(1 / 25, abs=1e-3)
    mono = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    assert len(mono) / RATE_HZ == pytest.approx(DURATION_S, abs=0.05)
    first_s = float(frames[0].time or 0) - pictures[0]
    assert abs(click_error_s(mono, CLICK_S - first_s)) < 0.005


def test_what_the_playlist_names_is_there_before_the_end(talk: Path, tmp_path: Path) -> None:
    out = tmp_path / "hls"
    samples = tone(DURATION_S)
    with SandboxedHls(out, probe(talk, MediaConfig()), MediaConfig(), num_channels=2, bits_per_s=128_000) as writer:
        for start in range(0, 9 * RATE_HZ, RATE_HZ):
            writer.write(samples[start : start + RATE_HZ])
        playlist = (out / PLAYLIST).read_text()
        named = re.findall(r"^segment\d+\.m4s$", playlist, re.MULTILINE)
        assert "#EXT-X-ENDLIST" not in playlist
        assert len(named) >= 1
        assert all((out / name).stat().st_size > 0 for name in named)
        with av.open(str(out / "init.mp4")) as header:
            assert len(header.streams) == 2
    assert "#EXT-X-ENDLIST" in (out / PLAYLIST).read_text()


def test_a_failure_leaves_the_playlist_open(talk: Path, tmp_path: Path) -> None:
    out = tmp_path / "hls"
    info = probe(talk, MediaConfig())
    writer = SandboxedHls(out, info, MediaConfig(), num_channels=2, bits_per_s=128_000)
    with contextlib.suppress(ZeroDivisionError), writer:
        writer.write(tone(6.0))
        1 / 0  # noqa: B018
    assert "#EXT-X-ENDLIST" not in (out / PLAYLIST).read_text()


@pytest.mark.parametrize("codec", [None, "mpeg4"])
def test_without_video_that_browsers_play_there_is_sound(codec: str | None, tmp_path: Path) -> None:
    video = [] if codec is None else [VideoSpec(duration_s=DURATION_S, codec=codec)]
    source = make_media(tmp_path / "talk.mkv", video=video, audio=[AudioSpec(samples=tone(DURATION_S))])
    write_all(tmp_path / "hls", source, tone(DURATION_S, channels=1))
    with av.open(str(tmp_path / "hls" / PLAYLIST)) as played:
        assert [stream.type for stream in played.streams] == ["audio"]
