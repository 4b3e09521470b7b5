"""Compares the gain that `raydub analyze` expects of one more replica with the gain that is measured.

    python bench/bench_what_if.py [--lines 24] [--case speech ...] [--json]

Dubs a made talk inline with stand-in engines that sleep: in each case another pool is the slowest. The dub is traced
with one replica of each pool, its trace is analysed, and the dub is made again with one replica more of that pool.
Nothing of a stand-in needs a processor, so a busy machine changes little. Times are without writing the files, which
takes processor time only, and as much with any number of replicas.

Bounds: predicted wall time within 10 % of the measured one in each case; exit 1 outside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from actors.errors import ConfigError
from cluster.analysis.bottleneck import analyse
from cluster.analysis.traced import analyse_trace
from cluster.batch.runner import run
from cluster.config.load import load_config
from cluster.manifest import Manifest
from cluster.pipeline import Job
from cluster.tracing.chrome import Trace, read_trace
from tests.media import AudioSpec, make_media, silence, speech

MAX_ERROR = 0.10
SENTENCES = ("Good morning to all of you.", "Today we talk about the sea.", "It covers most of the earth.")
LINE_S = 3.0
INNER = {"transcription": "hears", "translation": "translates", "speech": "speaks"}
MAX_ITEMS = 2
"""With few large batches, one replica is idle for long at the end, or not, by chance."""
SLOW, FAST = {"call_s": 0.2, "item_s": 1.0}, {"call_s": 0.05, "item_s": 0.05}


@dataclass(frozen=True, kw_only=True)
class Row:
    case: str
    bound: str
    """The pool that bounds the dub, by the analysis."""
    before_s: float
    predicted_s: float
    measured_s: float
    by_manifest_s: float | None
    """Prediction from the manifest alone; None where it refuses."""

    @property
    def error(self) -> float:
        return self.predicted_s / self.measured_s - 1


def make_lines(path: Path, num_lines: int) -> Path:
    """A talk with a sentence every ``LINE_S``."""
    said = [speech(sentence) for sentence in SENTENCES]
    samples = silence(num_lines * LINE_S)
    for number in range(num_lines):
        sound = said[number % len(said)][: round(48_000 * (LINE_S - 0.4))]
        samples[round(number * LINE_S * 48_000) :][: len(sound)] += sound[: len(samples)]
    return make_media(path, audio=[AudioSpec(samples=np.asarray(samples, np.float32))], video=[])


def dub(talk: Path, case: str, num_replicas: int, folder: Path) -> tuple[Manifest, Path]:
    """Dub with this many replicas of the slow pool and one of each other."""
    trace = folder / f"{case}-{num_replicas}.json"
    settings = ["ray.mode=inline", "store.url=none", "quality.check=none", "alignment.strategy=length"]
    settings += ["speakers.count=1", "translation.num_candidates=1"]
    settings += ["windows.first_target_s=1.0", "windows.first_max_s=3.0", "windows.target_s=1.0", "windows.max_s=3.0"]
    settings += [f"trace.path={trace}"]
    for task, inner in INNER.items():
        times = SLOW if task == case else FAST
        options = {"inner": f"tests.standins.{inner}", **times}
        settings += [f"{task}.engine=tests.standins.slow", f"{task}.options={json.dumps(options)}"]
        settings += [f"{task}.pool.replicas={num_replicas if task == case else 1}"]
        settings += [f"{task}.pool.batch.max_items={MAX_ITEMS}"]
    job = Job(source=talk, targets=("pt",), source_language="en", audio_track=None, out=folder / trace.stem)
    config = load_config("base", settings)
    [outcome] = asyncio.run(run([job], config, lambda progress: None, lambda outcome: None))
    if outcome.manifest is None:
        raise RuntimeError(outcome.error)
    return outcome.manifest, trace


def measure(talk: Path, case: str, folder: Path) -> Row:
    manifest, trace = dub(talk, case, 1, folder)
    before, writing_s = read_trace(trace), _writing_s(read_trace(trace))
    analysis = analyse_trace(before)
    [expected] = [more for more in analysis.what_if if more.pool.startswith(case)]
    after = read_trace(dub(talk, case, 2, folder)[1])
    return Row(
        case=case,
        bound=analysis.bound.pool,
        before_s=round(analysis.wall_s - writing_s, 3),
        predicted_s=round(expected.wall_s - writing_s, 3),
        measured_s=round(analyse_trace(after).wall_s - _writing_s(after), 3),
        by_manifest_s=_by_manifest_s(manifest, case, writing_s),
    )


def _writing_s(trace: Trace) -> float:
    [span] = [span for span in trace.spans if span.name == "write"]
    return span.end_s - span.begin_s


def _by_manifest_s(manifest: Manifest, case: str, writing_s: float) -> float | None:
    try:
        found = analyse(manifest)
    except ConfigError:
        return None
    return next(round(each.wall_s - writing_s, 3) for each in found.what_if if each.stage.pool.startswith(case))


def shows(rows: Sequence[Row]) -> dict[str, bool]:
    return {
        "the slow pool bounds in each case": all(row.bound.startswith(row.case) for row in rows),
        "predicted within 10 % of measured": all(abs(row.error) <= MAX_ERROR for row in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=24)
    parser.add_argument("--case", choices=list(INNER), action="append", help="may be repeated")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        talk = make_lines(Path(name) / "talk.m4a", options.lines)
        dub(make_lines(Path(name) / "short.m4a", 2), "warm-up", 1, Path(name))  # imports, and the sandbox's start
        for case in options.case or INNER:
            row = measure(talk, case, Path(name))
            rows.append(row)
            print(
                f"{row.case:14} 1 replica {row.before_s:6.2f} s; 2 replicas: predicted {row.predicted_s:6.2f} s, "
                f"measured {row.measured_s:6.2f} s ({row.error:+.1%}), by the manifest {row.by_manifest_s} s",
                flush=True,
            )
    found = shows(rows)
    for what, holds in found.items():
        print(f"{'yes' if holds else 'NO':4}{what}")
    if options.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "found": found, "shows": all(found.values())}))
    sys.exit(0 if all(found.values()) else 1)


if __name__ == "__main__":
    main()
