"""Measures the speed of the mix against playback. One core, stereo, three loads.

quiet: nothing reaches the limiter. usual: a dub at -20 LUFS over music. limited: the limiter works all the time.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import math
import platform
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version

import numpy as np

from cluster.audio.config import MixConfig
from cluster.audio.limiter import RATE_HZ, Block
from cluster.audio.mixer import Mixer, PlacedClip, Placement, mix_track

LOADS = {"quiet": 0.02, "usual": 0.15, "limited": 0.8}
BLOCK_SAMPLES = RATE_HZ // 2
CLIP_HZ = 24_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    load: str
    audio_s: float
    p50_x_realtime: float
    worst_x_realtime: float
    num_runs: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = [bench(load, level, 60 * args.minutes, args.runs) for load, level in LOADS.items()]
    if args.json:
        print(json.dumps(provenance() | {"results": [asdict(result) for result in results]}, indent=2))
        return
    for result in results:
        print(f"{result.load:8} {result.p50_x_realtime:6.0f} x realtime (worst {result.worst_x_realtime:.0f})")


def bench(load: str, level: float, audio_s: float, num_runs: int) -> Result:
    original = music(audio_s, level)
    clips = dub(audio_s, level)
    mix_once(original[: 10 * RATE_HZ], clips[:2])
    speeds = sorted(audio_s / mix_once(original, clips) for _ in range(num_runs))
    return Result(
        load=load,
        audio_s=audio_s,
        p50_x_realtime=round(statistics.median(speeds), 1),
        worst_x_realtime=round(speeds[0], 1),
        num_runs=num_runs,
    )


def mix_once(original: Block, clips: list[PlacedClip]) -> float:
    """CPU seconds of one mix, clips resampled included."""
    blocks = (original[at : at + BLOCK_SAMPLES] for at in range(0, len(original), BLOCK_SAMPLES))
    start = time.process_time()
    num_samples = sum(
        len(block)
        for block in mix_track(Mixer(MixConfig(), 2), blocks, [Placement(clips=tuple(clips), horizon_s=math.inf)])
    )
    spent_s = time.process_time() - start
    if num_samples != len(original):
        raise SystemExit(f"the mix must have {len(original)} samples, has {num_samples}")
    return spent_s


def music(audio_s: float, level: float) -> Block:
    rng = np.random.default_rng(0)
    num_samples = round(audio_s * RATE_HZ)
    swell = 1 + 0.5 * np.sin(np.arange(num_samples) / RATE_HZ)
    audio = level * rng.standard_normal((num_samples, 2)) * swell[:, None]
    return audio.astype(np.float32)


def dub(audio_s: float, level: float) -> list[PlacedClip]:
    """3 s of voice every 4 s."""
    rng = np.random.default_rng(1)
    samples = (level * rng.standard_normal(3 * CLIP_HZ)).astype(np.float32)
    return [
        PlacedClip(id=str(at), start_s=float(at), samples=samples, sample_hz=CLIP_HZ, gain_db=0.0)
        for at in range(0, int(audio_s) - 4, 4)
    ]


def provenance() -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() or None,
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one used",
        "versions": {name: version(name) for name in ("numpy", "scipy", "soxr")}
        | {"python": platform.python_version()},
        "config": MixConfig().model_dump(),
        "block_samples": BLOCK_SAMPLES,
        "warm_up": "10 s of audio",
    }


if __name__ == "__main__":
    main()
