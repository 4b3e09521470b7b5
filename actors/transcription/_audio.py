"""Checks of audio before it is transcribed."""

from __future__ import annotations

import numpy as np

from actors.errors import ItemError
from actors.types import ASR_HZ, VOICE_FRAME_SAMPLES, Samples

MAX_S = 30.0
"""whisper's window (Radford et al. 2022, §2.1): more would be decoded as several."""


def check_audio(samples: Samples, voice: Samples | None = None) -> None:
    """Raise ItemError unless it is one window of mono audio, and ``voice`` its probabilities of speech."""
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise ItemError(f"samples must be float32 (num_samples,); found {samples.dtype} {samples.shape}")
    if len(samples) > MAX_S * ASR_HZ:
        raise ItemError(
            f"a window must be at most {MAX_S:.0f} s; found {len(samples) / ASR_HZ:.2f} s: cut it in a pause"
        )
    if not np.isfinite(samples).all():
        raise ItemError("samples must be finite; found NaN or infinity: decode the audio again")
    num_frames = -(-len(samples) // VOICE_FRAME_SAMPLES)
    if voice is not None and voice.shape != (num_frames,):
        raise ItemError(
            f"voice must hold one probability for each {VOICE_FRAME_SAMPLES} samples, {num_frames} here; found "
            f"{voice.shape}: leave it out, and the engine detects speech itself"
        )
