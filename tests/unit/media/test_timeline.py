"""Frames of sound are put on the timeline in chunks, with the outcome of one frame at a time."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.media.decode import Damage, _Frame, _on_timeline


def frame(start_s: float, num_samples: int, hz: int = 48_000) -> _Frame:
    samples = np.full((num_samples, 1), 0.5, np.float32)
    return _Frame(start_s=start_s, samples=samples, hz=hz, after_loss=False)


@pytest.mark.parametrize("hz", [48_000, 16_000])
def test_frames_after_the_end_are_no_damage(hz: int) -> None:
    """The second frame repeats times of the first, which alone reaches the end."""
    damage = Damage()
    pieces = list(_on_timeline([frame(0.0, 9_600), frame(0.1, 9_600)], hz, 1, hz // 10, damage))
    assert damage == Damage()
    assert sum(map(len, pieces)) >= hz // 10


def test_frames_without_samples_are_not_kept() -> None:
    pieces = list(_on_timeline((frame(0.0, 0) for _ in range(50)), 48_000, 1, 48_000, Damage()))
    assert sum(map(len, pieces)) == 0


@pytest.mark.parametrize("hz", [48_000, 44_100])
def test_chunks_change_no_sample(hz: int) -> None:
    random = np.random.default_rng(1)
    sound = random.uniform(-1.0, 1.0, (48_000, 2)).astype(np.float32)

    def heard(frame_samples: int) -> np.ndarray:
        frames = (
            _Frame(start_s=at / 48_000, samples=sound[at : at + frame_samples], hz=48_000, after_loss=False)
            for at in range(0, len(sound), frame_samples)
        )
        return np.concatenate(list(_on_timeline(frames, hz, 2, hz, Damage())))[:hz]

    np.testing.assert_allclose(heard(160), heard(len(sound)), atol=1e-6)
