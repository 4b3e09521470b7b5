import itertools
import math
from collections.abc import Iterator
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.errors import DubbingError, ItemError
from actors.types import Span
from cluster.audio.config import MixConfig
from cluster.audio.limiter import RATE_HZ, Block
from cluster.audio.mixer import Ducking, Mixer, PlacedClip, Placement, mix_track

CONFIG = MixConfig()
DUCKED = 10 ** (CONFIG.duck_db / 20)


def clip_at(
    start_s: float,
    duration_s: float = 0.5,
    *,
    id: str = "u1",
    level: float = 0.1,
    sample_hz: int = 24_000,
    gain_db: float = 0.0,
    replaces: Span | None = None,
) -> PlacedClip:
    samples = np.full(round(duration_s * sample_hz), level, dtype=np.float32)
    return PlacedClip(id=id, start_s=start_s, samples=samples, sample_hz=sample_hz, gain_db=gain_db, replaces=replaces)


def noise(duration_s: float, num_channels: int = 2, level: float = 0.05, seed: int = 0) -> Block:
    rng = np.random.default_rng(seed)
    return (level * rng.uniform(-1, 1, size=(round(duration_s * RATE_HZ), num_channels))).astype(np.float32)


def mixed(original: Block, *clips: PlacedClip, cuts: list[int] | None = None, config: MixConfig = CONFIG) -> Block:
    blocks = np.split(original, sorted(cuts or []))
    placements = [Placement(clips=clips, horizon_s=math.inf)]
    mixer = Mixer(config, original.shape[1])
    return np.concatenate([np.zeros((0, original.shape[1]), np.float32), *mix_track(mixer, blocks, placements)])


clips_strategy = st.lists(
    st.builds(
        clip_at,
        start_s=st.floats(0.0, 3.0),
        duration_s=st.floats(0.0, 1.5),
        id=st.text("abc", min_size=1, max_size=3),
        level=st.floats(-1.0, 1.0),
        sample_hz=st.sampled_from([16_000, 22_050, 24_000, 48_000]),
        gain_db=st.floats(-20.0, 20.0),
    ),
    max_size=5,
)


@settings(max_examples=30, deadline=None)
@given(clips_strategy, st.integers(0, 2 * RATE_HZ), st.integers(1, 2))
def test_as_long_as_the_original_and_never_over_the_ceiling(
    clips: list[PlacedClip], num_samples: int, num_channels: int
) -> None:
    original = noise(2.0, num_channels, level=0.9)[:num_samples]
    out = mixed(original, *clips)
    assert out.shape == original.shape
    assert out.dtype == np.float32
    assert np.abs(out).max(initial=0.0) <= 10 ** (CONFIG.ceiling_dbtp / 20) + 1e-6


@settings(max_examples=30, deadline=None)
@given(clips_strategy, st.lists(st.integers(0, 2 * RATE_HZ), max_size=6), st.randoms())
def test_depends_neither_on_blocks_nor_on_arrival(clips: list[PlacedClip], cuts: list[int], random: Random) -> None:
    original = noise(2.0)
    expected = mixed(original, *clips)
    shuffled = random.sample(clips, len(clips))
    np.testing.assert_allclose(mixed(original, *shuffled, cuts=cuts), expected, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, RATE_HZ), max_size=6))
def test_without_clips_the_original_is_untouched(cuts: list[int]) -> None:
    original = noise(1.0, level=0.5)
    np.testing.assert_array_equal(mixed(original, cuts=cuts), original)


def test_silence_stays_silent() -> None:
    silence = np.zeros((RATE_HZ, 2), dtype=np.float32)
    assert not mixed(silence, clip_at(0.2, level=0.0)).any()


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 1.0), st.floats(0.05, 0.5), st.floats(-40.0, -3.0))
def test_the_original_is_ducked_by_exactly_the_depth(start_s: float, duration_s: float, duck_db: float) -> None:
    config = MixConfig(duck_db=duck_db)
    original = noise(2.0)
    out = mixed(original, clip_at(start_s, duration_s, level=0.0), config=config)
    start, end = round(start_s * RATE_HZ), round((start_s + duration_s) * RATE_HZ)
    np.testing.assert_allclose(
        out[start + 1 : end - 1], original[start + 1 : end - 1] * 10 ** (duck_db / 20), rtol=1e-5
    )
    before, after = start - round(config.attack_s * RATE_HZ) - 1, end + round(config.release_s * RATE_HZ) + 2
    np.testing.assert_array_equal(out[:before], original[:before])
    np.testing.assert_array_equal(out[after:], original[after:])


def test_ducking_is_smooth_and_monotone() -> None:
    ducking = Ducking(CONFIG)
    ducking.add(1.0, 1.5)
    gains_db = 20 * np.log10(ducking.gains(0, 2 * RATE_HZ))
    steepest_db = np.pi / 2 * -CONFIG.duck_db / (CONFIG.attack_s * RATE_HZ)
    assert np.abs(np.diff(gains_db)).max() <= steepest_db * 1.01
    assert (np.diff(gains_db[:RATE_HZ]) <= 1e-6).all()
    assert (np.diff(gains_db[round(1.5 * RATE_HZ) :]) >= -1e-6).all()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.0, 4.0), st.floats(0.0, 1.0)), max_size=6),
    st.lists(st.integers(0, 5 * RATE_HZ), max_size=5),
)
def test_ducking_covers_every_interval_and_never_pumps(spans: list[tuple[float, float]], cuts: list[int]) -> None:
    ducking = Ducking(CONFIG)
    for start_s, length_s in spans:
        ducking.add(start_s, start_s + length_s)
    edges = [0, *sorted(cuts), 5 * RATE_HZ]
    gains = np.concatenate([ducking.gains(start, end) for start, end in itertools.pairwise(edges)])
    assert gains.min(initial=1.0) >= np.float32(DUCKED)
    for start_s, length_s in spans:
        np.testing.assert_allclose(
            gains[round(start_s * RATE_HZ) : round((start_s + length_s) * RATE_HZ)], DUCKED, rtol=1e-6
        )
    # Whenever it leaves the depth, it gets all the way up before it goes down again.
    rising = np.flatnonzero((gains[:-1] == np.float32(DUCKED)) & (gains[1:] > np.float32(DUCKED)))
    for at in rising:
        later = gains[at + 1 :]
        next_down = np.flatnonzero(later == np.float32(DUCKED))
        until = next_down[0] if len(next_down) else len(later)
        if len(next_down):
            assert later[:until].max() > 0.999


@settings(max_examples=30, deadline=None)
@given(st.floats(0.0, 1.2), st.sampled_from([16_000, 22_050, 24_000, 44_100, 48_000]), st.floats(-12.0, 6.0))
def test_a_clip_lands_within_one_sample(start_s: float, sample_hz: int, gain_db: float) -> None:
    time_s = np.arange(round(0.4 * sample_hz)) / sample_hz
    tone = (0.2 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)
    clip = PlacedClip(id="u", start_s=start_s, samples=tone, sample_hz=sample_hz, gain_db=gain_db)
    out = mixed(np.zeros((2 * RATE_HZ, 2), np.float32), clip)
    np.testing.assert_array_equal(out[:, 0], out[:, 1])
    assert not out[: max(0, round(start_s * RATE_HZ) - 1)].any()
    expected = 0.2 * 10 ** (gain_db / 20) * np.sin(2 * np.pi * 440 * (np.arange(2 * RATE_HZ) / RATE_HZ - start_s))
    inside = slice(round((start_s + 0.05) * RATE_HZ), round((start_s + 0.35) * RATE_HZ))
    error = np.abs(out[inside, 0] - expected[inside]).max()
    one_sample = 2 * np.pi * 440 / RATE_HZ * np.abs(expected).max()
    assert error <= one_sample


def test_clips_fade_in_and_out() -> None:
    out = mixed(np.zeros((RATE_HZ, 1), np.float32), clip_at(0.25, 0.5, level=0.5, sample_hz=RATE_HZ))
    heard = out[RATE_HZ // 4 : 3 * RATE_HZ // 4, 0]
    fade = round(CONFIG.fade_s * RATE_HZ)
    assert abs(heard[0]) < 1e-4
    assert abs(heard[-1]) < 1e-4
    assert (np.diff(heard[:fade]) > 0).all()
    np.testing.assert_allclose(heard[fade:-fade], 0.5, atol=1e-6)


def test_what_a_clip_replaces_is_ducked_too() -> None:
    original = noise(3.0)
    out = mixed(original, clip_at(1.0, 0.3, level=0.0, replaces=Span(start_s=0.8, end_s=2.0)))
    ducked = slice(round(0.8 * RATE_HZ), round(2.0 * RATE_HZ))
    np.testing.assert_allclose(out[ducked], original[ducked] * DUCKED, rtol=1e-5)


def test_not_a_number_in_the_original_harms_only_itself() -> None:
    original = noise(1.0)
    broken = original.copy()
    broken[1000] = np.nan
    broken[2000, 0] = np.inf
    expected = original.copy()
    expected[1000] = 0.0
    expected[2000, 0] = 0.0
    np.testing.assert_array_equal(mixed(broken), expected)


def test_the_mix_leaves_as_the_horizon_moves() -> None:
    original = noise(10.0)
    clips = [clip_at(start_s, id=f"u{start_s}") for start_s in (1.0, 2.5, 6.0)]
    horizons_s = [0.5, 2.0, 4.0, math.inf]
    asked_for: list[float] = []

    def placements() -> Iterator[Placement]:
        known_s = 0.0
        for horizon_s in horizons_s:
            asked_for.append(horizon_s)
            now = tuple(clip for clip in clips if known_s <= clip.start_s < horizon_s)
            yield Placement(clips=now, horizon_s=horizon_s)
            known_s = horizon_s

    heard = 0
    out = []
    for block in mix_track(Mixer(CONFIG, 2), np.split(original, 10), placements()):
        heard += len(block)
        out.append(block)
        assert heard / RATE_HZ <= asked_for[-1]
        # no earlier placement would have been enough for this block
        if len(asked_for) > 1:
            assert heard / RATE_HZ > asked_for[-2] - CONFIG.attack_s - CONFIG.release_s - 0.01
    np.testing.assert_allclose(np.concatenate(out), mixed(original, *clips), atol=1e-6)


def test_played_clips_are_let_go() -> None:
    mixer = Mixer(CONFIG, 1)
    silence = np.zeros((RATE_HZ, 1), np.float32)
    for second in range(30):
        mixer.place(Placement(clips=(clip_at(second + 1.0, id=str(second)),), horizon_s=second + 2.0))
        mixer.mix(silence)
        assert len(mixer._clips) <= 2
        assert len(mixer._ducking._intervals) <= 2


def test_a_broken_promise_is_an_error() -> None:
    mixer = Mixer(CONFIG, 2)
    mixer.place(Placement(clips=(), horizon_s=5.0))
    with pytest.raises(DubbingError, match=r"horizon of 5\.000 s; clip u1 begins at 4\.900 s"):
        mixer.place(Placement(clips=(clip_at(4.9),), horizon_s=6.0))
    with pytest.raises(DubbingError, match=r"horizon of 5\.000 s; clip u1 begins at 4\.000 s"):
        mixer.place(Placement(clips=(clip_at(5.1, replaces=Span(start_s=4.0, end_s=5.5)),), horizon_s=6.0))
    with pytest.raises(DubbingError, match="place first"):
        mixer.mix(noise(5.0))
    assert mixer.horizon_s == 5.0


def test_placements_that_end_early_are_an_error() -> None:
    with pytest.raises(DubbingError, match="horizon_s=inf"):
        list(mix_track(Mixer(CONFIG, 2), [noise(2.0)], [Placement(clips=(), horizon_s=1.0)]))


def test_a_clip_that_is_not_finite_is_refused_alone() -> None:
    mixer = Mixer(CONFIG, 2)
    with pytest.raises(ItemError, match="finite"):
        mixer.place(Placement(clips=(clip_at(0.1, id="good"), clip_at(0.5, level=math.nan)), horizon_s=math.inf))
    assert mixer.horizon_s == 0.0
    assert not mixer._clips


@pytest.mark.parametrize("option", [{"duck_db": 3.0}, {"attack_s": 0.0}, {"ceiling_dbtp": 1.0}, {"duckdb": -6.0}])
def test_wrong_options_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        MixConfig(**option)
