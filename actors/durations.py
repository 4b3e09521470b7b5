"""Durations of an utterance's tokens that sum to an exact length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def fit_frames(
    natural_frames: npt.NDArray[np.floating], num_frames: int, *, min_frames: int = 1
) -> npt.NDArray[np.int64]:
    """Whole durations that sum to ``num_frames``, in proportion to the natural ones.

    All tokens share one scale; tokens that would fall below ``min_frames`` are held there and the others
    scaled a little more. Fractions are rounded by largest remainder (Hamilton's method), so that no
    token is off by a whole frame. A longer token is never given fewer frames than a shorter one.

    natural_frames: float (num_tokens,), finite, ≥ 0, not all zero. Returns int64 (num_tokens,), each
    ≥ ``min_frames``. Raises ValueError if the target cannot hold every token's minimum.
    """
    natural = np.asarray(natural_frames, dtype=np.float64)
    if not natural.size or not np.isfinite(natural).all() or natural.min() < 0 or not natural.any():
        raise ValueError(f"natural durations must be finite, ≥ 0 and not all zero; found {natural_frames!r}")
    if num_frames < min_frames * natural.size:
        raise ValueError(
            f"{natural.size} tokens of at least {min_frames} frames need {min_frames * natural.size} frames; "
            f"found a target of {num_frames}; shorten the text or lengthen the target"
        )
    wanted = _scaled(natural / natural.max(), num_frames, min_frames)
    frames = np.floor(wanted).astype(np.int64)
    # Equal remainders go to the longer token first, then to the earlier: deterministic, order kept.
    ranked = np.lexsort((-natural, frames - wanted))
    frames[ranked[: num_frames - int(frames.sum())]] += 1
    return frames


def _scaled(natural: npt.NDArray[np.float64], num_frames: int, min_frames: int) -> npt.NDArray[np.float64]:
    """``max(min_frames, scale · natural)`` for the one scale that makes the sum ``num_frames``.

    If the k shortest tokens are held at the minimum, the others' scale is what remains divided by
    their natural sum; the right k is the least that leaves none of the others below the minimum.
    """
    ascending = np.sort(natural)
    num_held = np.arange(natural.size)
    free_sum = np.cumsum(ascending[::-1])[::-1]
    scales = (num_frames - min_frames * num_held) / free_sum
    scale = float(scales[np.argmax(scales * ascending >= min_frames)])
    wanted: npt.NDArray[np.float64] = np.maximum(scale * natural, min_frames)
    return wanted
