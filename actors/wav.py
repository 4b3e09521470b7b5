"""WAV files of one channel of 16-bit samples."""

from __future__ import annotations

import io
import wave

import numpy as np
import numpy.typing as npt


def wav_file(pcm: npt.NDArray[np.number], sample_hz: int) -> bytes:
    """The file of (num_samples,) whole numbers from -32768 to 32767; fractions are cut off."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_hz)
        file.writeframes(pcm.astype("<i2").tobytes())
    return made.getvalue()
