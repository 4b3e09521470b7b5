"""Downmixing: to mono for recognition, without cancelling antiphase speech, and to stereo for the mix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from actors.types import Samples

Gains = npt.NDArray[np.float32]

SIDE_WEIGHT = 0.5
SURROUND_WEIGHT = 0.25
"""Dialogue is mixed to the centre, music to the sides and little but effects to the surrounds; so for
listening each goes 6 dB below the one before."""
ITU_WEIGHT = 2**-0.5
"""ITU-R BS.775: centre and surrounds go into stereo at -3 dB."""

SURROUNDS = frozenset({"BL", "BR", "BC", "SL", "SR", "TFL", "TFR", "TBL", "TBR", "TFC", "TBC", "TC", "WL", "WR"})
LEFTS = frozenset({"FL", "FLC", "BL", "SL", "TFL", "TBL", "WL", "DL"})
RIGHTS = frozenset({"FR", "FRC", "BR", "SR", "TFR", "TBR", "WR", "DR"})

MEMORY_BLOCKS = 5.0
"""Blocks over which channel correlation is remembered: long enough not to follow a word, short
enough to follow a scene."""
SURE_CORRELATION = 0.25
"""Channels that correlate less are unrelated, and keep the sign they had."""
RAMP_SAMPLES = 480


def fold_to_mono(blocks: Iterable[Samples], channel_names: Sequence[str]) -> Iterator[Samples]:
    """Blocks of float32 (num_samples, num_channels) to blocks of float32 (num_samples,).

    Every channel is given the sign in which it agrees with the loudest one before they are averaged:
    a plain average silences speech recorded in antiphase. Stereo in phase, or unrelated, gives the
    plain average. With a centre channel the centre leads, and LFE is left out.
    """
    weights = speech_weights(channel_names)
    covariance: npt.NDArray[np.float64] | None = None
    gains = weights
    for block in blocks:
        if block.shape[1] == 1:
            yield block[:, 0]
            continue
        first = covariance is None
        covariance = _remember(covariance, block)
        previous, gains = gains, _aligned(gains, weights, covariance)
        yield _apply(block, gains if first else previous, gains)


def speech_weights(channel_names: Sequence[str]) -> Gains:
    """float32 (num_channels,), summing to 1: how much each channel counts for speech."""
    if "FC" not in channel_names or len(channel_names) == 1:
        weights = [0.0 if name == "LFE" and len(channel_names) > 1 else 1.0 for name in channel_names]
    else:
        weights = [_surround_weight(name) for name in channel_names]
    total = sum(weights)
    return np.array(weights, np.float32) / np.float32(total)


def to_channels(samples: Samples, channel_names: Sequence[str], num_channels: int) -> Samples:
    """float32 (num_samples, any) to (num_samples, num_channels): repeats mono, folds to stereo, else cuts or pads."""
    found = samples.shape[1]
    if found == num_channels:
        return samples
    if found == 1:
        return np.repeat(samples, num_channels, axis=1)
    if num_channels == 1:
        return samples @ speech_weights(channel_names)[:, None]
    if num_channels == 2:
        return samples @ stereo_matrix(channel_names)
    return np.pad(samples[:, :num_channels], ((0, 0), (0, max(0, num_channels - found))))


def stereo_matrix(channel_names: Sequence[str]) -> Gains:
    """float32 (num_channels, 2): the downmix of ITU-R BS.775, scaled so that it cannot clip."""
    matrix = np.zeros((len(channel_names), 2), np.float32)
    for row, name in enumerate(channel_names):
        gain = ITU_WEIGHT if name in SURROUNDS or name not in LEFTS | RIGHTS else 1.0
        if name != "LFE":
            matrix[row] = (gain * (name not in RIGHTS), gain * (name not in LEFTS))
    return matrix / max(1.0, float(matrix.sum(axis=0).max()))


def _surround_weight(name: str) -> float:
    if name == "LFE":
        return 0.0
    if name == "FC":
        return 1.0
    return SURROUND_WEIGHT if name in SURROUNDS else SIDE_WEIGHT


def _remember(covariance: npt.NDArray[np.float64] | None, block: Samples) -> npt.NDArray[np.float64]:
    found = (block.T @ block).astype(np.float64)
    if covariance is None:
        return found
    # Decay, not a mean: silence adds nothing, so the correlations of the last loud block stand.
    return covariance * (1.0 - 1.0 / MEMORY_BLOCKS) + found


def _aligned(gains: Gains, weights: Gains, covariance: npt.NDArray[np.float64]) -> Gains:
    """The weights, signed so that every channel agrees with the loudest one, which keeps the sign it had."""
    power = np.diag(covariance)
    loudest = int(np.argmax(power * weights))
    scale = np.sqrt(power * power[loudest])
    correlation = np.divide(covariance[loudest], scale, out=np.zeros_like(scale), where=scale > 0)
    lead = np.sign(gains[loudest])
    sure = np.abs(correlation) >= SURE_CORRELATION
    signs = np.where(sure, lead * np.sign(correlation), np.sign(gains))
    return (weights * signs).astype(np.float32)


def _apply(block: Samples, previous: Gains, gains: Gains) -> Samples:
    mono: Samples = block @ gains
    if not np.array_equal(previous, gains):
        # A sign that flips from one sample to the next is a click; VAD hears clicks as plosives.
        ramp = np.linspace(0.0, 1.0, min(RAMP_SAMPLES, len(block)), dtype=np.float32)
        mono[: len(ramp)] = mono[: len(ramp)] * ramp + (block[: len(ramp)] @ previous) * (1 - ramp)
    return mono
