"""Dubs one talk as raydub does, and as other dubbing programs do: on the same models, one way after the other.

    python bench/bench_peers.py [--minutes 2] [--repeats 1] [--json]

- raydub: its pipeline on local Ray, as configured offline: all stages at once, lines checked by ear beside them, and
  said again where they were not understood.
- raydub unchecked: the same with quality.check=none and speakers.count=1, which is closer to what the others do.
- models in turn: the way of pyVideoTrans. Each model is loaded, given the whole talk line by line, and dropped before
  the next is loaded.
- a model a line: the way of open-dubbing. The same, but the speech model is built for every line anew.

The other ways are those programs' order of work, written on raydub's engines: the same weights, on as many threads as
the machine has cores, in one process. They do less: they choose no translation, check nothing and tell no speakers
apart; a line that is too long is sped up. Each way has a process of its own. Printed for each: the wall time of the
command, the time until the first line is spoken, and the CPU time of the whole machine meanwhile, which should do
nothing else; each also as a multiple of raydub's.

Bounds: raydub ends before either, and its first line is spoken before either's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soxr

from actors.engine import make_engine
from actors.types import (
    ASR_HZ,
    Clip,
    PlanRequest,
    Samples,
    SynthesiseRequest,
    Task,
    TranscribeRequest,
    TranslateRequest,
)
from cluster.audio.tempo import at_tempo
from cluster.audio.windows import cut_windows
from cluster.batch.runner import run
from cluster.casting.voices import speech_stage
from cluster.config.load import load_config
from cluster.config.schema import Config, StageConfig
from cluster.demo.talk import make_talk
from cluster.media.decode import decode_audio
from cluster.media.encode import ENCODE_HZ, AudioEncoder
from cluster.media.mux import DubTrack, SourceText, mux
from cluster.media.probe import probe
from cluster.pipeline import Job
from cluster.pools.ray_session import ray_session

SOURCE, TARGET = "en", "pt"
BED = 0.2
"""Share of the source's sound that is left below the dub."""


BUSY = ("user", "nice", "system")


@dataclass(frozen=True, kw_only=True)
class Row:
    way: str
    wall_s: float
    first_line_s: float
    cpu_s: float
    num_lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    start_s: float
    end_s: float
    text: str


def engine_of(task: Task, stage: StageConfig) -> Any:
    """A loaded engine on all cores."""
    engine: Any = make_engine(task, stage.engine, {**stage.options, "threads": os.cpu_count() or 1})
    engine.load()
    return engine


# --- the ways


def raydub(talk: Path, out: Path, *more_settings: str) -> tuple[float, int]:
    """Returns the time at which the first line was spoken, by ``time.time``, and the number of lines."""
    config = load_config("offline", ["ray.mode=local", "store.url=none", *more_settings])
    job = Job(source=talk, targets=(TARGET,), source_language=SOURCE, audio_track=None, out=out)
    with ray_session(config):
        start_s = time.time()
        [outcome] = asyncio.run(run([job], config, lambda _: None, lambda _: None))
    made = outcome.manifest
    if made is None or made.timings.first_utterance_s is None:
        raise RuntimeError(f"the talk must be dubbed; {outcome.error}")
    return start_s + made.timings.first_utterance_s, len(made.dubs[0].utterances)


def raydub_unchecked(talk: Path, out: Path) -> tuple[float, int]:
    return raydub(talk, out, "quality.check=none", "speakers.count=1")


def models_in_turn(talk: Path, out: Path) -> tuple[float, int]:
    config = load_config("offline")
    lines = translated(heard(talk, config), config)
    engine = engine_of("speech", speech_stage(config, TARGET))
    return put_together(talk, out, config, lines, lambda line: spoken(engine, line))


def a_model_a_line(talk: Path, out: Path) -> tuple[float, int]:
    config = load_config("offline")
    lines = translated(heard(talk, config), config)
    stage = speech_stage(config, TARGET)
    return put_together(talk, out, config, lines, lambda line: spoken(engine_of("speech", stage), line))


WAYS: Mapping[str, Callable[[Path, Path], tuple[float, int]]] = {
    "raydub": raydub,
    "raydub unchecked": raydub_unchecked,
    "models in turn": models_in_turn,
    "a model a line": a_model_a_line,
}


def heard(talk: Path, config: Config) -> list[Line]:
    engine = engine_of("transcription", config.transcription)
    info = probe(talk, config.media)
    lines = []
    for window in cut_windows(decode_audio(info, info.audio[0], hz=ASR_HZ, channels="mono", config=config.media)):
        request = TranscribeRequest(samples=window.samples, language=SOURCE, voice=window.voice)
        [transcript] = engine.run([request])
        for each in transcript.segments:
            start_s, end_s = window.start_s + each.start_s, window.start_s + each.end_s
            lines.append(Line(start_s=start_s, end_s=end_s, text=each.text.strip()))
    engine.close()
    return lines


def translated(lines: Sequence[Line], config: Config) -> list[Line]:
    engine = engine_of("translation", config.translation)
    made = []
    for line in lines:
        [found] = engine.run([TranslateRequest(text=line.text, source_language=SOURCE, target_language=TARGET)])
        made.append(Line(start_s=line.start_s, end_s=line.end_s, text=found.candidates[0].text))
    engine.close()
    return made


def spoken(engine: Any, line: Line) -> Clip:
    [plan] = engine.run([PlanRequest(text=line.text, language=TARGET)])
    [clip] = engine.run([SynthesiseRequest(plan=plan, duration_s=plan.natural_s)])
    assert isinstance(clip, Clip), clip
    return clip


def put_together(
    talk: Path, out: Path, config: Config, lines: Sequence[Line], speak: Callable[[Line], Clip]
) -> tuple[float, int]:
    """Speak all lines, lay each over the source at its time, sped up if it is too long, and write the file."""
    info = probe(talk, config.media)
    track = info.audio[0]
    blocks = list(decode_audio(info, track, hz=ENCODE_HZ, channels="mono", config=config.media))
    mixed = BED * np.concatenate(blocks)
    clips, first_s = [], 0.0
    for line in lines:
        clips.append(speak(line))
        first_s = first_s or time.time()
    for line, clip in zip(lines, clips, strict=True):
        samples = _fitted(clip, line.end_s - line.start_s)
        at = round(line.start_s * ENCODE_HZ)
        room = max(0, min(len(samples), len(mixed) - at))
        mixed[at : at + room] += samples[:room]
    out.mkdir(parents=True)
    sound = out / "dub.m4a"
    with AudioEncoder(sound, num_channels=1) as encoder:
        encoder.write(np.clip(mixed, -1, 1).astype(np.float32)[:, None])
    dub = DubTrack(language=TARGET, audio=sound)
    mux(info, [dub], out / talk.name, source=SourceText(track=track, language=SOURCE), config=config.media)
    return first_s, len(lines)


def _fitted(clip: Clip, slot_s: float) -> Samples:
    factor = clip.duration_s / max(slot_s, 0.1)
    samples = at_tempo(clip, factor) if factor > 1 else clip.samples
    return np.asarray(soxr.resample(samples, clip.sample_hz, ENCODE_HZ), np.float32)


# --- each in a process of its own


def measure(way: str, talk: Path, out: Path) -> Row:
    before, start_s = psutil.cpu_times(), time.time()
    command = [sys.executable, __file__, "--way", way, "--talk", str(talk), "--out", str(out)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    wall_s, after = time.time() - start_s, psutil.cpu_times()
    return Row(
        way=way,
        wall_s=round(wall_s, 2),
        first_line_s=round(found["first_s"] - start_s, 2),
        cpu_s=round(sum(getattr(after, kind) - getattr(before, kind) for kind in BUSY), 2),
        num_lines=found["num_lines"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0, help="length of the talk")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each way; the fastest counts")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--talk", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is not None:
        first_s, num_lines = WAYS[options.way](options.talk, options.out)
        print(json.dumps({"first_s": first_s, "num_lines": num_lines}))
        return
    with tempfile.TemporaryDirectory() as folder:
        talk = Path(folder) / "talk.mp4"
        make_talk(talk, options.minutes * 60)
        turns = [
            [measure(way, talk, Path(folder) / f"{way}-{turn}") for way in WAYS] for turn in range(options.repeats)
        ]
    own, *others = (min(rows, key=lambda row: row.wall_s) for rows in zip(*turns, strict=True))
    for row in (own, *others):
        print(
            f"{row.way:16} wall {row.wall_s:.1f} s ({row.wall_s / own.wall_s:.2f} ×), first line after "
            f"{row.first_line_s:.1f} s ({row.first_line_s / own.first_line_s:.2f} ×), {row.cpu_s:.1f} CPU-s "
            f"({row.cpu_s / own.cpu_s:.2f} ×), {row.num_lines} lines"
        )
    peers = [row for row in others if not row.way.startswith("raydub")]
    shows = all(own.wall_s < row.wall_s and own.first_line_s < row.first_line_s for row in peers)
    if options.json:
        rows = [asdict(row) for row in (own, *others)]
        print(json.dumps({"minutes": options.minutes, "rows": rows, "num_cpus": os.cpu_count(), "shows": shows}))
    raise SystemExit(not shows)


if __name__ == "__main__":
    main()
