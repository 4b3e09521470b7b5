"""Measures what whisper's preparation costs the CPU for each window of 30 s, alone and in a dub.

    python bench/bench_preparation.py [--windows 12] [--json]

Alone, the engine listens for speech in the window before it computes the features. In a dub the driver sends along what
its own detector found when it cut the window. Seconds are of one thread's CPU, large-v3's 128 mels, the mean of the
fastest half of the windows; the audio is speech-like noise.

Bound: at most 60 ms in a dub.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor

from actors.engine import make_engine
from actors.transcription.faster_whisper import Engine
from actors.types import ASR_HZ, VOICE_FRAME_SAMPLES, Samples, TranscribeRequest

WINDOW_S, NUM_MELS, MAX_S = 30, 128, 0.060


def made_window(seed: int) -> Samples:
    """Noise whose loudness follows syllables."""
    randomly, at_s = np.random.default_rng(seed), np.arange(WINDOW_S * ASR_HZ) / ASR_HZ
    loudness = np.clip(np.sin(2 * np.pi * (2.5 + 0.3 * seed) * at_s), 0, None)
    return np.asarray(0.1 * loudness * randomly.standard_normal(len(at_s)), np.float32)


def cpu_ms(call: Callable[[Samples], object], windows: Sequence[Samples]) -> float:
    """Mean of the fastest half of the windows, so that other work on the machine counts little."""
    call(windows[0])
    took_s = []
    for window in windows:
        start_s = time.thread_time()
        call(window)
        took_s.append(time.thread_time() - start_s)
    return 1e3 * statistics.mean(sorted(took_s)[: max(1, len(took_s) // 2)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    given = parser.parse_args()
    windows = [made_window(seed) for seed in range(given.windows)]
    engine = make_engine("transcription", "faster_whisper", {})
    assert isinstance(engine, Engine)
    engine._extractor = FeatureExtractor(feature_size=NUM_MELS)
    voice = np.ones(-(-WINDOW_S * ASR_HZ // VOICE_FRAME_SAMPLES), np.float32)

    def in_a_dub(window: Samples) -> object:
        return engine._prepare(TranscribeRequest(samples=window, language="en", voice=voice))

    def alone(window: Samples) -> object:
        return engine._voice(window), in_a_dub(window)

    found = {"alone": cpu_ms(alone, windows), "in_a_dub": cpu_ms(in_a_dub, windows)}
    for what, took_ms in found.items():
        print(f"{what.replace('_', ' '):10} {took_ms:6.1f} ms of CPU a window")
    shows = found["in_a_dub"] <= 1e3 * MAX_S
    print("yes" if shows else "NO")
    if given.json:
        print(json.dumps(found | {"shows": shows}))


if __name__ == "__main__":
    main()
