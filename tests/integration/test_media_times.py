"""Recordings whose times jump, and files that end before their header says."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from actors.errors import MediaError
from cluster.media import sandbox
from cluster.media.config import MediaConfig
from cluster.media.probe import MediaInfo, probe
from tests.integration.test_mux_out import dub, heard
from tests.media import AudioSpec, VideoSpec, click_error_s, clicks, make_media, tone, truncate

PART_S = 4.0
AT_S = (0.5, 1.5, 2.5)
"""Clicks of each part."""


def joined(path: Path, starts_s: tuple[float, ...], *, video: bool = True, between: bytes = b"") -> Path:
    """Parts of four seconds, one after the other, each with its own times."""
    parts = []
    for number, start_s in enumerate(starts_s):
        part = make_media(
            path.with_name(f"part{number}{path.suffix}"),
            audio=[AudioSpec(samples=clicks(PART_S, AT_S), codec="mp2")],
            video=[VideoSpec(duration_s=PART_S, codec="mpeg2video")] if video else [],
            start_s=start_s,
        )
        parts.append(part.read_bytes())
    path.write_bytes(between.join(parts))
    return path


def clicks_found_s(samples: np.ndarray, hz: int = 48_000) -> list[float]:
    """Times of the clicks, a second apart at least."""
    loud = np.flatnonzero(np.abs(samples) > 0.2) / hz
    return [float(time_s) for n, time_s in enumerate(loud) if n == 0 or time_s - loud[n - 1] > 0.4]


def num_pictures(path: Path) -> tuple[int, float]:
    with av.open(str(path)) as container:
        times_s = [frame.time for frame in container.decode(video=0)]
    return len(times_s), max(times_s) - min(times_s)


@pytest.mark.parametrize("video", [True, False])
@pytest.mark.parametrize("starts_s", [(0.0, 0.0), (1000.0, 5.0), (0.0, 5000.0), (10.0, 0.0, 700.0)])
def test_parts_whose_times_jump_follow_one_another(tmp_path: Path, starts_s: tuple[float, ...], video: bool) -> None:
    source = joined(tmp_path / "live.ts", starts_s, video=video)
    info = probe(source)
    assert sandbox.inspect(source, MediaConfig()) == info
    whole_s = PART_S * len(starts_s)
    assert len(info.parts) == len(starts_s)
    assert info.duration_s == pytest.approx(whole_s, abs=0.2 * len(starts_s))
    assert info.joins_s == pytest.approx([PART_S * n for n in range(1, len(starts_s))], abs=0.2)
    wanted_s = [PART_S * n + at_s for n in range(len(starts_s)) for at_s in AT_S]
    assert clicks_found_s(heard(source, 0)) == pytest.approx(wanted_s, abs=0.3)
    result = dub(source)
    assert clicks_found_s(heard(result.path, 1)) == pytest.approx(clicks_found_s(heard(source, 0)), abs=0.05)
    if video:
        number, span_s = num_pictures(result.path)
        assert number >= 25 * whole_s - 2 * len(starts_s)
        assert span_s == pytest.approx(whole_s, abs=0.3 * len(starts_s))


def test_times_that_do_not_jump_stay(tmp_path: Path) -> None:
    plain = joined(tmp_path / "plain.ts", (0.0,))
    followed = joined(tmp_path / "followed.ts", (0.0, PART_S))
    lost = make_media(
        tmp_path / "lost.ts",
        audio=[AudioSpec(samples=tone(8.0), codec="mp2", gaps=[(2.0, 6.0)])],
        video=[VideoSpec(duration_s=8.0, codec="mpeg2video")],
    )
    for source in (plain, followed, lost):
        assert probe(source).parts == (), source.name
    assert probe(lost).duration_s == pytest.approx(8.0, abs=0.1)


def test_how_far_times_may_jump_is_a_setting(tmp_path: Path) -> None:
    source = joined(tmp_path / "pause.ts", (0.0, PART_S + 3.0))
    assert len(probe(source).parts) == 2
    assert probe(source, MediaConfig(max_time_jump_s=5.0)).parts == ()
    assert click_error_s(heard(source, 0), AT_S[0]) < 0.1


def test_joined_parts_may_not_be_longer_than_allowed_in_all(tmp_path: Path) -> None:
    source = joined(tmp_path / "live.ts", (1000.0, 5.0))
    with pytest.raises(MediaError, match="must be at most 6 s long"):
        probe(source, MediaConfig(max_duration_s=6.0))


# --- files that end early


def whole(path: Path) -> Path:
    """Twenty seconds; an MP4 has its index in front."""
    samples = tone(20.0) * np.linspace(0.2, 1.0, 960_000, dtype=np.float32)[:, None]
    if path.suffix == ".wav":
        return make_media(path, audio=[AudioSpec(samples=samples, codec="pcm_s16le")])
    if path.suffix == ".mp3":
        return make_media(path, audio=[AudioSpec(samples=samples, codec="libmp3lame")])
    source = make_media(
        path.with_name(f"source{path.suffix}"), video=[VideoSpec(duration_s=20.0)], audio=[AudioSpec(samples=samples)]
    )
    return dub(source).path.rename(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".wav", ".mp3"])
def test_a_file_that_was_cut_off_is_known_as_such(tmp_path: Path, suffix: str) -> None:
    path = whole(tmp_path / f"talk{suffix}")
    before: MediaInfo = probe(path)
    assert not before.is_truncated
    after = probe(truncate(path, 0.5))
    assert after.is_truncated
    assert after.claimed_s == pytest.approx(20.0, abs=0.2)
    assert 2.0 < after.duration_s < 15.0
