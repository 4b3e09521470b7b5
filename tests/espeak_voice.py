"""Speech in many languages, made by the espeak-ng that piper brings along: robotic, but without a download."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path

import numpy as np
import soxr

from actors.types import ASR_HZ, Samples

RETRIEVAL = 1
"""espeak_AUDIO_OUTPUT: samples go to the callback, and the call returns when all are made."""
UTF8 = 1

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@functools.cache
def _library() -> tuple[ctypes.CDLL, int]:
    """The library and its sample rate."""
    found = importlib.util.find_spec("piper")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent
    [shared] = folder.glob("espeakbridge*.so")
    library = ctypes.CDLL(str(shared))
    hz = library.espeak_Initialize(RETRIEVAL, 0, str(folder / "espeak-ng-data").encode(), 0)
    assert hz > 0, hz
    return library, hz


def espeak_speech(text: str, voice: str, *, words_per_minute: int = 150) -> Samples:
    """float32 (num_samples,), mono, at ``ASR_HZ``. Call it in a process that uses espeak for nothing else."""
    library, hz = _library()
    parts: list[np.ndarray] = []

    def take(samples: ctypes._Pointer, num: int, _: int | None) -> int:
        if samples and num:
            parts.append(np.ctypeslib.as_array(samples, (num,)).copy())
        return 0

    callback = _Callback(take)
    library.espeak_SetSynthCallback(callback)
    assert library.espeak_SetVoiceByName(voice.encode()) == 0, voice
    library.espeak_SetParameter(1, words_per_minute, 0)
    data = text.encode() + b"\0"
    assert library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 0, 0, UTF8, None, None) == 0
    library.espeak_Synchronize()
    return soxr.resample(np.concatenate(parts).astype(np.float32) / 32768, hz, ASR_HZ).astype(np.float32)
