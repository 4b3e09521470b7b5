"""The cost of the processes that read untrusted media, beside reading in the process itself.

    python bench/bench_sandbox.py [--minutes 5] [--rounds 5] [--json]

Makes a talk, then does what a dub into one language does with its source: describe it, decode it for transcription
and again for the mix, and mux. Both ways take turns; prints the median seconds of each, and the difference as a share
of a dub's wall time at ``--realtime`` times the talk's speed. Aim: at most 1 %.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from types import ModuleType

from actors.types import ASR_HZ
from cluster.audio.mixer import RATE_HZ
from cluster.demo.talk import make_talk
from cluster.media import decode, mux, plan, probe, sandbox
from cluster.media.config import MediaConfig
from cluster.media.encode import AudioEncoder
from cluster.media.mux import DubTrack, SourceText

MAX_SHARE = 0.01


def read_and_write(talk: Path, out: Path, dub: Path, *, apart: bool) -> dict[str, float]:
    """Wall seconds of each step of one dub's media, in processes of their own or in this one."""
    config = MediaConfig()
    decoder: ModuleType = sandbox if apart else decode
    seconds = {}
    started_s = time.perf_counter()

    def note(step: str) -> None:
        nonlocal started_s
        seconds[step], started_s = time.perf_counter() - started_s, time.perf_counter()

    info = sandbox.inspect(talk, config) if apart else probe.probe(talk, config)
    suffix = (sandbox if apart else plan).plan_output(info, config).suffix
    note("describe")
    for _ in decoder.decode_audio(info, info.audio[0], hz=ASR_HZ, channels="mono", config=config):
        pass
    note("decode for transcription")
    for _ in decoder.decode_audio(info, info.audio[0], hz=RATE_HZ, channels=2, config=config):
        pass
    note("decode for the mix")
    tracks = [DubTrack(language="pt", audio=dub)]
    muxer = sandbox if apart else mux
    text = SourceText(track=info.audio[0], language="en")
    muxer.mux(info, tracks, out.with_suffix(suffix), source=text, config=config)
    note("mux")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--realtime", type=float, default=3.0, help="media seconds that a dub does in a second")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        talk, dub = folder / "talk.mp4", folder / "dub.m4a"
        make_talk(talk, options.minutes * 60)
        info = probe.probe(talk)
        with AudioEncoder(dub, fast=True) as encoder:
            for block in decode.decode_audio(info, info.audio[0], hz=RATE_HZ, channels=2):
                encoder.write(block)
        started_s = time.perf_counter()
        sandbox.inspect(talk, MediaConfig())
        start_s = time.perf_counter() - started_s
        rounds = [
            [read_and_write(talk, folder / "out", dub, apart=apart) for apart in (False, True)]
            for _ in range(options.rounds)
        ]
        medians = [
            {step: statistics.median(each[way][step] for each in rounds) for step in rounds[0][way]} for way in (0, 1)
        ]
    here_s, apart_s = (sum(steps.values()) for steps in medians)
    share = (apart_s - here_s) / (info.duration_s / options.realtime)
    result = {"start_s": start_s, "here": medians[0], "apart": medians[1], "share_of_wall": share}
    if options.json:
        print(json.dumps(result))
        return
    for step in medians[0]:
        print(f"{step:26} here {medians[0][step]:7.3f} s, apart {medians[1][step]:7.3f} s")
    print(f"start of the server        {start_s:.3f} s, once for each process")
    print(f"difference {apart_s - here_s:+.3f} s: {share:.2%} of a dub's wall (aim: at most {MAX_SHARE:.0%})")


if __name__ == "__main__":
    main()
