"""A sound track is made once of the same source, settings and clips, and anew if any of them is another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.errors import MediaError
from actors.types import Span
from cluster.audio.limiter import RATE_HZ
from cluster.audio.mixer import Mixer, PlacedClip, Placement, mix_track
from cluster.config.load import load_config
from cluster.media.probe import AudioTrack
from cluster.steps.mix import mix_recipe
from cluster.steps.mix_cache import REVISION, MixCache
from cluster.storage.config import StoreConfig
from cluster.storage.keys import salted
from cluster.storage.store import Store, open_store

CLIPS = tuple(
    PlacedClip(
        id=f"u{number}",
        start_s=2.0 * number,
        samples=np.full(100, 0.1 * number, np.float32),
        sample_hz=16_000,
        gain_db=-3.0,
        replaces=Span(start_s=2.0 * number, end_s=2.0 * number + 1),
    )
    for number in range(3)
)
END = Placement(clips=(), horizon_s=math.inf)
TRACK = AudioTrack(
    number=0,
    index=1,
    codec="aac",
    channels=2,
    layout="stereo",
    channel_names=("FL", "FR"),
    sample_hz=48_000,
    language="en",
    title="",
    default=True,
    commentary=False,
)


def placed(clips: Iterable[PlacedClip] = CLIPS) -> Iterator[Placement]:
    """One by one; what comes after the last is never asked for."""
    for clip in clips:
        yield Placement(clips=(clip,), horizon_s=clip.start_s)
    yield END
    pytest.fail("the end of the clips was told")


@pytest.fixture
def store(tmp_path: Path) -> Store | None:
    return open_store(StoreConfig(url=str(tmp_path / "store")))


class Mixes:
    """Of one source; counts those that were made."""

    def __init__(self, store: Store | None, folder: Path, source: bytes = b"source", name: str = "talk.mp4") -> None:
        self._source = folder / name
        self._source.write_bytes(source)
        self._store = store
        self.made: list[tuple[str, ...]] = []

    def __call__(self, placements: Iterable[Placement] | None = None, settings: dict[str, Any] | None = None) -> bytes:
        path = self._source.with_suffix(".m4a")

        def mix(placements: Iterable[Placement]) -> None:
            clips: list[PlacedClip] = []
            for placement in placements:
                clips += placement.clips
                if placement.horizon_s == math.inf:
                    break
            self.made.append(tuple(clip.id for clip in clips))
            path.write_bytes(b"".join(clip.samples.tobytes() for clip in clips))

        MixCache(self._store, self._source).mixed(settings or {"bits": 1}, placements or placed(), path, mix)
        data = path.read_bytes()
        path.unlink()
        return data


def test_it_is_made_once(store: Store, tmp_path: Path) -> None:
    mixes = Mixes(store, tmp_path)
    assert [mixes(), mixes(), mixes()] == [b"".join(clip.samples.tobytes() for clip in CLIPS)] * 3
    assert mixes.made == [("u0", "u1", "u2")]
    assert {path.name for path in tmp_path.iterdir()} == {"talk.mp4", "store"}


def test_a_source_s_name_and_when_clips_became_known_change_nothing(store: Store, tmp_path: Path) -> None:
    mixes, renamed = Mixes(store, tmp_path), Mixes(store, tmp_path, name="other.mp4")
    mixes()
    together = iter([Placement(clips=CLIPS, horizon_s=0.0), END])
    assert renamed(together) == mixes()
    assert renamed.made == []


def test_with_another_salt_it_is_made_again(store: Store, tmp_path: Path) -> None:
    mixes = Mixes(store, tmp_path)
    for salt in ("one", "two", "one", "two"):
        with salted(salt):
            mixes()
    assert len(mixes.made) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"id": "u9"},
        {"start_s": 2.25},
        {"samples": np.full(100, 0.3, np.float32)},
        {"sample_hz": 24_000},
        {"gain_db": -2.0},
        {"replaces": Span(start_s=2.0, end_s=3.5)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_clip_is_another_mix(store: Store, tmp_path: Path, change: dict[str, Any]) -> None:
    mixes = Mixes(store, tmp_path)
    mixes()
    edited = [CLIPS[0], replace(CLIPS[1], **change), CLIPS[2]]
    assert mixes(placed(edited)) == mixes(placed(edited))
    assert mixes.made == [("u0", "u1", "u2"), tuple(clip.id for clip in edited)]


def test_a_clip_less_is_another_mix(store: Store, tmp_path: Path) -> None:
    mixes = Mixes(store, tmp_path)
    assert len({mixes(), mixes(placed(CLIPS[:2])), mixes(placed(()))}) == 3


def test_another_source_or_setting_is_another_mix(store: Store, tmp_path: Path) -> None:
    mixes = Mixes(store, tmp_path)
    mixes()
    mixes(settings={"bits": 2})
    assert len(mixes.made) == 2
    other = Mixes(store, tmp_path, b"other")
    other()
    assert len(other.made) == 1


def test_a_damaged_value_is_made_anew(store: Store, tmp_path: Path) -> None:
    mixes = Mixes(store, tmp_path)
    first = mixes()
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])
    assert mixes() == first
    assert len(mixes.made) == 2


def test_without_a_store_it_is_made_each_time(tmp_path: Path) -> None:
    mixes = Mixes(None, tmp_path)
    assert mixes() == mixes()
    assert len(mixes.made) == 2


def test_a_mix_that_fails_is_not_kept(store: Store, tmp_path: Path) -> None:
    sounds, path = MixCache(store, Mixes(store, tmp_path)._source), tmp_path / "a.m4a"

    def fail(placements: Iterable[Placement]) -> None:
        path.write_bytes(b"half")
        raise MediaError("full")

    with pytest.raises(MediaError):
        sounds.mixed({}, placed(), path, fail)
    assert list(store.list()) == []


def test_what_is_encoded_of_another_file_is_not_asked_for(store: Store, tmp_path: Path) -> None:
    path, original = tmp_path / "preview.m4a", tmp_path / "dub.m4a"
    made = []
    for content, settings in ((b"a", {"bits": 1}), (b"a", {"bits": 1}), (b"b", {"bits": 1}), (b"b", {"bits": 2})):
        original.write_bytes(content)
        sounds = MixCache(store, tmp_path / "talk.mp4")
        sounds.encoded(original, settings, path, lambda: made.append(path.write_bytes(original.read_bytes())))
        assert path.read_bytes() == content
    assert len(made) == 3


def recipe(settings: list[str]) -> dict[str, Any]:
    return mix_recipe(TRACK, 2, load_config("base", settings), ".m4a")


@pytest.mark.parametrize(
    "setting",
    [
        "mixing.duck_db=-18",
        "mixing.attack_s=0.2",
        "mixing.release_s=0.2",
        "mixing.fade_s=0.01",
        "mixing.ceiling_dbtp=-2",
        "output.audio_bits_per_s=96000",
    ],
)
def test_settings_that_are_heard_change_a_mix(setting: str) -> None:
    assert recipe([setting]) != recipe([])


def test_the_track_its_channels_and_the_form_change_a_mix() -> None:
    config = load_config("base")
    made = [mix_recipe(TRACK, 2, config, ".m4a"), mix_recipe(replace(TRACK, number=1), 2, config, ".m4a")]
    made += [mix_recipe(TRACK, 1, config, ".m4a"), mix_recipe(TRACK, 2, config, ".mka")]
    assert all(made.count(each) == 1 for each in made)


@pytest.mark.parametrize(
    "setting",
    ["mixing.loudness.min_lufs=-40", "translation.engine=echo", "output.per_language=true", "media.max_streams=9"],
)
def test_other_settings_change_no_mix_of_the_same_clips(setting: str) -> None:
    assert recipe([setting]) == recipe([])


FIRST = (
    "141.4 141.4 139.7 95.4 43.7 35.5 167.2 172.1 172.5 171.9 172.5 171.7 172.5 171.6 172.6 167 35.5 "
    "35.5 35.5 35.5 35.5 35.5 35.5 35.4 598 618.7 616.4 618.4 617.5 616.9 481 17 27.2 47.6 78.4 104.8 "
    "128.5 140.5 141.4 141.4"
)
LEVELS = {1: [float(level) for level in FIRST.split()]}
"""Per revision: levels of a fixed mix's left, 50 ms each, in thousandths of full scale."""


def levels_of_a_fixed_mix() -> list[float]:
    """A tone, a clip that is resampled and replaces speech, one so loud that it is limited."""
    at_s = np.arange(2 * RATE_HZ) / RATE_HZ
    original = np.stack([0.2 * np.sin(2 * np.pi * hz * at_s) for hz in (220, 330)], axis=1).astype(np.float32)
    tone = np.sin(np.arange(8_000) / 5).astype(np.float32)
    clips = (
        PlacedClip(
            id="u0",
            start_s=0.3,
            samples=0.3 * tone,
            sample_hz=16_000,
            gain_db=-2.0,
            replaces=Span(start_s=0.25, end_s=1.0),
        ),
        PlacedClip(id="u1", start_s=1.2, samples=0.9 * tone, sample_hz=24_000, gain_db=9.0),
    )
    mixer = Mixer(load_config("base").mixing, 2)
    mix = np.concatenate(list(mix_track(mixer, [original], [Placement(clips=clips, horizon_s=math.inf)])))
    windows = mix.reshape(-1, RATE_HZ // 20, 2)
    return [round(1000 * float(level), 1) for level in np.sqrt((windows**2).mean(axis=1))[:, 0]]


def test_a_mix_that_sounds_otherwise_has_another_revision() -> None:
    heard = levels_of_a_fixed_mix()
    assert REVISION in LEVELS, f"record what revision {REVISION} sounds like: LEVELS[{REVISION}] = {heard}"
    assert heard == pytest.approx(LEVELS[REVISION], abs=0.5), (
        f"the same clips sound otherwise, and mixes in stores would be taken for the same: raise REVISION in "
        f"cluster/steps/mix_cache.py to {REVISION + 1} and record LEVELS[{REVISION + 1}] = {heard}"
    )
