"""Measures how well speakers are told apart, and for how much CPU time.

    python bench/bench_diarization.py [DIR] [--speakers true] [--json]

DIR holds recordings, each beside an RTTM file of the same stem (``a.wav`` or ``a.mix.wav`` beside ``a.rttm``); without
one, talks of one, two, three and five made voices are spoken. Prints the diarization error rate (collar 0.25 s) and its
parts, as a dub tells speakers apart: with its lookahead. ``--dub SECONDS`` dubs a demo talk of that length instead, and
prints the share of its CPU time that telling speakers apart takes.

Bounds: 10 % of error on each made talk, and 10 % of a dub's CPU time; exit 1 above. Recordings of DIR are only scored.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import contextlib
import functools
import glob
import json
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actors.engine import Engine, engine_class, make_engine
from actors.errors import ConfigError, MediaError
from actors.types import ASR_HZ, Samples, SpeakerTurn, VoicePrints, VoiceRequest, Window
from bench.diarization_error import DiarizationError, diarization_error
from bench.made_talks import make_talk
from cluster.audio.windows import cut_windows
from cluster.batch.runner import run
from cluster.config.load import load_config, overlaid
from cluster.config.schema import Config
from cluster.demo.talk import make_talk as make_talk_video
from cluster.media.config import MediaConfig
from cluster.media.probe import MediaInfo
from cluster.media.sandbox import decode_audio, inspect
from cluster.pipeline import Job
from cluster.speakers.config import SpeakersConfig
from cluster.speakers.rttm import read_rttm
from cluster.speakers.tracker import SpeakerTracker
from cluster.speakers.turns import joined
from cluster.steps.diarize import with_turns

MAX_PAUSE_S = 0.5
"""A shorter pause is part of a turn, as those who annotate have it."""
MAX_DER = MAX_SHARE = 0.10
MADE = (1, 2, 2, 3, 5)
"""Number of voices of each made talk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    name: str
    error: DiarizationError
    duration_s: float
    cpu_s: float
    """CPU time of finding speech, describing voices and grouping them, without decoding."""

    def record(self) -> dict[str, Any]:
        return {"name": self.name, "der": self.error.der, **asdict(self.error), "cpu_s": self.cpu_s}


@dataclass(frozen=True, slots=True, kw_only=True)
class CostInDub:
    speakers_cpu_s: float
    """CPU time of describing voices and grouping them. The dub finds speech in any case."""
    dub_cpu_s: float
    """CPU time of the whole dub, its models' loading included."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR")
    parser.add_argument("--speakers", default="auto", help="auto, a number, or 'true' for the true number of each file")
    parser.add_argument("--lookahead", type=float, default=SpeakersConfig().lookahead_s, help="seconds")
    parser.add_argument("--duration", type=float, default=120.0, help="seconds of each made talk")
    parser.add_argument("--dub", type=float, metavar="SECONDS", help="dub a demo talk of this length instead")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="as speakers.min_likeness=0.4")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    settings = load_config("offline", [*args.set, f"speakers.lookahead_s={args.lookahead}"])
    if args.dub is not None:
        _print_share(_cost_in_dub(args.dub, settings), args.json)
        return
    stage = settings.diarization
    engine = make_engine("diarization", stage.engine, stage.options)
    engine.load()
    rows = []
    for name, samples, reference in _scored(parser, args.folder) if args.folder else _made(args.duration):
        count = len({turn.speaker for turn in reference}) if args.speakers == "true" else args.speakers
        config = SpeakersConfig.model_validate({**settings.speakers.model_dump(), "count": count})
        start = time.process_time()
        found = asyncio.run(_diarize(samples, engine, config))
        row = Row(
            name=name,
            error=diarization_error(reference, found),
            duration_s=len(samples) / ASR_HZ,
            cpu_s=time.process_time() - start,
        )
        rows.append(row)
        _print(row)
    _summarise(rows, args.json)


def _cost_in_dub(duration_s: float, settings: Config) -> CostInDub:
    """Dub a demo talk in this process, into an empty store, with speakers told apart; loading models counts."""
    config = overlaid(settings, {"ray": {"mode": "inline"}, "store": {"url": None}, "speakers": {"count": "auto"}})
    engine, speakers_cpu_s = engine_class("diarization", settings.diarization.engine), [0.0]
    for owner, name in ((engine, "load"), (engine, "run"), (SpeakerTracker, "turns")):
        setattr(owner, name, _counted(getattr(owner, name), speakers_cpu_s))
    with tempfile.TemporaryDirectory() as folder:
        talk = Path(folder) / "talk.mp4"
        make_talk_video(talk, duration_s)
        start_s = _cpu_s()
        job = Job(source=talk, targets=("pt",), source_language="en", audio_track=None, out=Path(folder) / "out")
        [outcome] = asyncio.run(run([job], config, lambda progress: None, lambda outcome: None))
        assert outcome.manifest is not None, outcome.error
        return CostInDub(speakers_cpu_s=speakers_cpu_s[0], dub_cpu_s=_cpu_s() - start_s)


def _counted(function: Callable[..., Any], total_s: list[float]) -> Callable[..., Any]:
    """The function, adding the CPU seconds of its thread to ``total_s``."""

    @functools.wraps(function)
    def counted(*args: Any, **options: Any) -> Any:
        start_s = time.thread_time()
        try:
            return function(*args, **options)
        finally:
            total_s[0] += time.thread_time() - start_s

    return counted


def _cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _print_share(cost: CostInDub, as_json: bool) -> None:
    share = cost.speakers_cpu_s / cost.dub_cpu_s
    print(f"telling speakers apart: {cost.speakers_cpu_s:.2f} of {cost.dub_cpu_s:.2f} CPU-s of the dub, {share:.1%}")
    if as_json:
        print(json.dumps({"share": share, **asdict(cost)}))
    sys.exit(0 if share <= MAX_SHARE else 1)


async def _diarize(samples: Samples, engine: Engine[Any, Any], config: SpeakersConfig) -> list[SpeakerTurn]:
    async def windows() -> AsyncIterator[Window]:
        for window in cut_windows([samples]):
            yield window

    async def describe(request: VoiceRequest, order: float) -> VoicePrints:
        (prints,) = engine.run([request])
        assert isinstance(prints, VoicePrints)
        return prints

    tracker = SpeakerTracker(config)
    spoken = with_turns(windows(), describe, tracker, config)
    return joined([turn async for each in spoken for turn in each.turns], MAX_PAUSE_S)


def _scored(parser: argparse.ArgumentParser, folder: Path) -> Iterator[tuple[str, Samples, list[SpeakerTurn]]]:
    try:
        yield from _recordings(folder)
    except (ConfigError, MediaError) as error:
        parser.exit(2, f"{error}\n")


def _recordings(folder: Path) -> Iterator[tuple[str, Samples, list[SpeakerTurn]]]:
    """Raises ConfigError where there is nothing to score, or no recording to an RTTM file."""
    found = sorted(folder.glob("*.rttm"))
    if not found:
        raise ConfigError(f"{folder} must hold recordings, each beside an RTTM file of the same stem; it has no *.rttm")
    for rttm in found:
        recording = _recording_of(rttm)
        blocks = decode_audio(recording, recording.audio[0], hz=ASR_HZ, channels="mono", config=MediaConfig())
        yield rttm.stem, np.concatenate(list(blocks)), read_rttm(rttm)


def _recording_of(rttm: Path) -> MediaInfo:
    for path in sorted(rttm.parent.glob(f"{glob.escape(rttm.stem)}.*")):
        with contextlib.suppress(MediaError):
            return inspect(path, MediaConfig())
    raise ConfigError(f"{rttm} must have its recording beside it, as {rttm.stem}.wav; there is none with sound")


def _made(duration_s: float) -> Iterator[tuple[str, Samples, list[SpeakerTurn]]]:
    """Talks of the first voices of Kokoro, in the language that it has most of."""
    engine = make_engine("speech", "kokoro", {})
    languages = [voice.languages[0] for voice in engine.voices]
    language = max(languages, key=languages.count)
    voices = [voice.name for voice in engine.voices if voice.languages[0] == language]
    engine.load()
    first = 0
    for seed, count in enumerate(MADE):
        chosen = [voices[(first + index) % len(voices)] for index in range(count)]
        first += count
        samples, turns = make_talk(engine, chosen, language, duration_s, seed)
        yield f"{count} voices, seed {seed}", samples, turns


def _print(row: Row) -> None:
    error, speech_s = row.error, row.error.speech_s
    print(
        f"{row.name}: DER {error.der:.1%} (missed {error.missed_s / speech_s:.1%}, false alarm "
        f"{error.false_alarm_s / speech_s:.1%}, confusion {error.confused_s / speech_s:.1%}), speakers "
        f"{error.num_found} of {error.num_speakers}, {row.cpu_s / row.duration_s:.3f} CPU-s a second",
        flush=True,
    )


def _summarise(rows: Sequence[Row], as_json: bool) -> None:
    speech_s = sum(row.error.speech_s for row in rows)
    total = {
        part: sum(getattr(row.error, f"{part}_s") for row in rows) / speech_s
        for part in ("missed", "false_alarm", "confused")
    }
    der = sum(total.values())
    cpu = sum(row.cpu_s for row in rows) / sum(row.duration_s for row in rows)
    parts = ", ".join(f"{name.replace('_', ' ')} {share:.1%}" for name, share in total.items())
    print(f"all: DER {der:.1%} ({parts}), {cpu:.3f} CPU-s a second")
    if as_json:
        records = [row.record() for row in rows]
        print(json.dumps({"der": der, **total, "cpu_s_per_audio_s": cpu, "recordings": records}))


if __name__ == "__main__":
    main()
