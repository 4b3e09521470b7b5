"""The pieces of a request, checked and cut out."""

from __future__ import annotations

import numpy as np

from actors.errors import ItemError
from actors.types import ASR_HZ, MAX_PIECE_S, ItemFailure, Samples, Span, VoiceRequest

MIN_PIECE_S = 0.03
"""One frame of any model."""
TOLERANCE_S = 1 / ASR_HZ


def piece_failure(request: object) -> ItemFailure | None:
    """The failure of a request that no engine could work on; None for a good one."""
    try:
        _check(request)
    except ItemError as error:
        return ItemFailure(error=error)
    return None


def piece_samples(request: VoiceRequest, piece: Span) -> Samples:
    """The part of the request's samples that is the piece."""
    return request.samples[round(piece.start_s * ASR_HZ) : round(piece.end_s * ASR_HZ)]


def _check(request: object) -> None:
    if not isinstance(request, VoiceRequest):
        raise ItemError(f"a request for voices must be a VoiceRequest; found {type(request).__name__}")
    samples = request.samples
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise ItemError(f"samples must be one channel of finite numbers; found shape {samples.shape}")
    length_s = len(samples) / ASR_HZ
    for piece in request.pieces:
        is_inside = piece.start_s > -TOLERANCE_S and piece.end_s < length_s + TOLERANCE_S
        if not is_inside or not MIN_PIECE_S <= piece.duration_s <= MAX_PIECE_S + TOLERANCE_S:
            raise ItemError(
                f"a piece must lie within the {length_s:.2f} s of samples and have {MIN_PIECE_S} to {MAX_PIECE_S} s; "
                f"found {piece.start_s:.2f} to {piece.end_s:.2f} s"
            )
