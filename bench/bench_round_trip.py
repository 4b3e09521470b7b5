"""Is what a dub says heard as it was meant? The words of its lines, heard again by the pipeline's own check.

    python -m bench.bench_round_trip [--from en --to pt] [--lines 200] [--voices 60] [--max-wer 0.15] [--json]

Dubs the sentences of lines.en.txt into Portuguese and those of lines.pt.txt into English with the offline models, from
subtitles over quiet noise: a cue lasts as long as the source's own voice would speak it. Each direction is dubbed
with the closed loop (`quality.retry`) off and on, and into Portuguese also by the former, Japanese voices. Each clip is
heard alone, as the loop hears it, so that the arms differ in nothing but what is said. A line fails if more of its
words than `--max-wer` are heard wrongly; the loop is given the same bound (`quality.max_wer`).

Prints for each arm the median and mean WER, the lines that fail, DistillMOS if that package is installed, and the share
of lines that fit as bench_fit.py counts them. The recogniser's own part is that of the same sentences by three voices,
where each sentence counts with its best voice. `--out` keeps dubs and store: the same again is found there.

Bounds: median WER of at most 8 %, its mean and the naturalness no worse than the former voices', 92 % of the lines fit,
and at most half of all failing lines still fail with the loop on. Exit status 1 otherwise.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import dataclasses
import json
import random
import statistics
import sys
import tempfile
import wave
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from actors.types import Clip, Plan, PlanRequest, SynthesiseRequest
from bench.bench_fit import MIN_FIT_SHARE, fit_share
from bench.bench_voices import naturalness_score
from cluster.casting.voices import settled_stage, voices_for
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.flags import Flag
from cluster.manifest import Manifest
from cluster.media import sandbox
from cluster.pipeline import Job, PipelineEvent, dub
from cluster.pools.pool_set import PoolSet
from cluster.pools.ray_session import ray_session
from cluster.quality import Measure, Metric
from cluster.steps.check import Checker
from cluster.steps.progress import Progress
from cluster.steps.records import Spoken
from cluster.verdicts import flags_of_measures

DIRECTIONS = (("en", "pt"), ("pt", "en"))
MAX_MEDIAN_WER = 0.08
PAUSES_S = (0.3, 0.9)
NOISE_DB, NOISE_HZ = -55.0, 16_000
ARMS = {
    "off": (),
    "on": ("quality.retry=true",),
    "former voices": ("speech.by_language.pt.options.voices=bundled",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One arm of one direction."""

    direction: str
    arm: str
    num_lines: int
    median_wer: float
    mean_wer: float
    num_failing: int
    """Lines of which more words than ``--max-wer`` are heard wrongly."""
    naturalness: float | None
    """Mean DistillMOS; None without that package."""
    fit_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPart:
    """WER of the same sentences by several voices."""

    direction: str
    num_lines: int
    by_voice: dict[str, float]
    """Mean over the sentences."""
    best_voice: float
    """Mean over the sentences, each with its best voice: what is left is mostly the recogniser's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardLine:
    direction: str
    arm: str
    id: str
    text: str
    wer: float
    fails: bool


class Bench:
    """One direction: its talk, and its dubs on one set of pools."""

    def __init__(self, source: str, target: str, configs: Mapping[str, Config], pools: PoolSet, folder: Path) -> None:
        """``configs`` are those of the arms."""
        self.direction = f"{source} to {target}"
        self._source, self._target = source, target
        self._configs, self._config, self._pools, self._folder = configs, configs["off"], pools, folder
        self._score = naturalness_score()
        self._spoken: dict[str, dict[str, Spoken]] = {}
        self._heard: dict[str, list[Measure]] = {}
        self.lines: list[HeardLine] = []

    async def talk(self, num_lines: int) -> None:
        """Write the subtitles of the talk, and its quiet sound."""
        stage = await settled_stage(self._config, self._source, None)
        pool = await self._pools.get("speech", stage)
        rng, now_s, cues = random.Random(0), 0.5, []
        for number, text in enumerate(sentences(self._source)[:num_lines], 1):
            plan: Plan = await pool.submit(PlanRequest(text=text, language=self._source))
            cues.append(f"{number}\n{stamp(now_s)} --> {stamp(now_s + plan.natural_s)}\n{text}\n")
            now_s += plan.natural_s + rng.uniform(*PAUSES_S)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "talk.srt").write_text("\n".join(cues), encoding="utf-8")
        write_noise(self._folder / "talk.wav", now_s)

    async def dubbed(self, arm: str) -> Row:
        spoken: dict[str, Spoken] = {}

        def note(event: PipelineEvent) -> None:
            if isinstance(event, Spoken) and event.clip is not None:
                spoken[event.utterance.id] = event

        job = Job(
            source=self._folder / "talk.wav",
            targets=(self._target,),
            source_language=self._source,
            audio_track=None,
            out=self._folder / arm,
            subtitles=self._folder / "talk.srt",
        )
        manifest = await dub(job, self._configs[arm], self._pools, Progress(job=f"{self.direction}, {arm}"), note)
        self._spoken[arm] = spoken
        return await self._row(arm, manifest, list(spoken.values()))

    async def _row(self, arm: str, manifest: Manifest, spoken: Sequence[Spoken]) -> Row:
        heard = [await self._hear(line) for line in spoken]
        rates = [wer_of(measures) for measures in heard]
        fails = [Flag.HEARD_WRONG in flags_of_measures(measures, self._config.quality) for measures in heard]
        self.lines += [
            HeardLine(direction=self.direction, arm=arm, id=line.utterance.id, text=line.text, wer=rate, fails=failing)
            for line, rate, failing in zip(spoken, rates, fails, strict=True)
        ]
        utterances = manifest.dubs[0].utterances
        clips = [line.clip for line in spoken if line.clip is not None]
        return Row(
            direction=self.direction,
            arm=arm,
            num_lines=len(utterances),
            median_wer=statistics.median(rates),
            mean_wer=statistics.fmean(rates),
            num_failing=sum(fails),
            naturalness=None if self._score is None else self._score(clips),
            fit_share=fit_share(utterances),
        )

    async def own_part(self, num_lines: int) -> OwnPart:
        """The lines of the dub without the loop, spread evenly, by each of three voices at its own pace."""
        lines = list(self._spoken["off"].values())
        lines = lines[:: max(1, len(lines) // max(1, num_lines))][:num_lines]
        rates: dict[str, list[float]] = {}
        for voice in voices_for(self._config, self._target)[:3]:
            pool = await self._pools.get("speech", voice.stage)
            rates[voice.id] = []
            for line in lines:
                plan: Plan = await pool.submit(PlanRequest(text=line.text, language=self._target, voice=voice.id))
                clip: Clip = await pool.submit(SynthesiseRequest(plan=plan, duration_s=plan.natural_s))
                rates[voice.id].append(wer_of(await self._hear(dataclasses.replace(line, clip=clip))))
        best = [min(own) for own in zip(*rates.values(), strict=True)]
        return OwnPart(
            direction=self.direction,
            num_lines=len(lines),
            by_voice={voice: statistics.fmean(own) for voice, own in rates.items()},
            best_voice=statistics.fmean(best),
        )

    async def _hear(self, line: Spoken) -> list[Measure]:
        """The loop's own measures of a line; those of equal sounds are kept."""
        assert line.clip is not None
        key = f"{line.text}\n{hash(line.clip.samples.tobytes())}"
        if key not in self._heard:
            async with asyncio.TaskGroup() as group:
                checker = Checker(self._config, self._pools, self._target, Progress(job=self.direction), group)
                self._heard[key] = await checker.check(line)
        return self._heard[key]


def sentences(language: str) -> list[str]:
    return (Path(__file__).parent / f"lines.{language}.txt").read_text(encoding="utf-8").splitlines()


def stamp(time_s: float) -> str:
    """A time as SubRip has it."""
    time_ms = round(time_s * 1000)
    return f"{time_ms // 3_600_000:02}:{time_ms // 60_000 % 60:02}:{time_ms // 1000 % 60:02},{time_ms % 1000:03}"


def write_noise(path: Path, duration_s: float) -> None:
    noise = np.random.default_rng(0).standard_normal(round(duration_s * NOISE_HZ)) * 10 ** (NOISE_DB / 20)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, NOISE_HZ, 0, "NONE", ""))
        file.writeframes((noise * 32767).astype("<i2").tobytes())


def wer_of(measures: Sequence[Measure]) -> float:
    """The word error rate; of a line that cannot be heard, 1."""
    return next((each.value for each in measures if each.metric is Metric.WER and each.value is not None), 1.0)


def configured(folder: Path, mode: str, max_wer: float, *settings: str) -> Config:
    """The offline models, with lines heard by the bench alone, or by the loop."""
    common = (f"ray.mode={mode}", f"store.url={folder / 'store'}", f"quality.max_wer={max_wer}", "quality.check=none")
    return load_config("offline", [*common, *settings])


async def measured(
    source: str, target: str, configs: Mapping[str, Config], folder: Path, options: argparse.Namespace
) -> tuple[list[Row], OwnPart, list[HeardLine]]:
    async with PoolSet(configs["off"]) as pools:
        bench = Bench(source, target, configs, pools, folder)
        await bench.talk(options.lines)
        rows = []
        for arm in configs:
            if arm != "former voices" or target == "pt":
                rows.append(await bench.dubbed(arm))
                show(rows[-1])
        own = await bench.own_part(options.voices)
    voices = ", ".join(f"{voice} {wer:.1%}" for voice, wer in own.by_voice.items())
    print(f"{own.direction}: the best of {voices} is heard wrongly in {own.best_voice:.1%}, {own.num_lines} lines")
    return rows, own, bench.lines


def show(row: Row) -> None:
    mos = "-" if row.naturalness is None else f"{row.naturalness:.2f}"
    print(
        f"{row.direction}, {row.arm}: WER median {row.median_wer:.1%}, mean {row.mean_wer:.1%}; {row.num_failing} of "
        f"{row.num_lines} lines fail; naturalness {mos}; {row.fit_share:.1%} fit",
        flush=True,
    )


def bounds(rows: Sequence[Row]) -> dict[str, bool]:
    """Bound → whether it holds in one direction."""
    by_arm = {row.arm: row for row in rows}
    off, on, former = by_arm["off"], by_arm["on"], by_arm.get("former voices", by_arm["off"])
    return {
        "median WER": max(off.median_wer, on.median_wer) <= MAX_MEDIAN_WER,
        "mean WER": off.mean_wer <= former.mean_wer,
        "naturalness": off.naturalness is None or former.naturalness is None or off.naturalness >= former.naturalness,
        "fit": min(off.fit_share, on.fit_share) >= MIN_FIT_SHARE,
    }


def halves(rows: Sequence[Row]) -> bool:
    """True if the loop leaves at most half of the failing lines. One direction alone may have too few to tell."""
    num = {arm: sum(row.num_failing for row in rows if row.arm == arm) for arm in ("off", "on")}
    return 2 * num["on"] <= num["off"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", choices=["en", "pt"], help="default: both directions")
    parser.add_argument("--to", dest="target", choices=["en", "pt"], help="default: both directions")
    parser.add_argument("--lines", type=int, default=1000, help="of each language; default: all")
    parser.add_argument("--voices", type=int, default=60, help="lines that several voices say")
    parser.add_argument("--max-wer", type=float, default=0.15, help="share of wrong words above which a line fails")
    parser.add_argument("--out", type=Path, help="keep dubs and store here")
    parser.add_argument("--mode", default="inline", choices=["local", "inline"])
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    rows: list[Row] = []
    parts: list[OwnPart] = []
    lines: list[HeardLine] = []
    shows: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = options.out or Path(name)
        configs = {arm: configured(folder, options.mode, options.max_wer, *settings) for arm, settings in ARMS.items()}
        with ray_session(*configs.values()):
            sandbox.start()
            for source, target in DIRECTIONS:
                if options.source not in (None, source) or options.target not in (None, target):
                    continue
                found, own, heard = asyncio.run(measured(source, target, configs, folder / target, options))
                rows, parts, lines = [*rows, *found], [*parts, own], [*lines, *heard]
                shows |= {f"{source} to {target}: {bound}": holds for bound, holds in bounds(found).items()}
    shows["closed loop"] = halves(rows)
    for bound, holds in shows.items():
        print(f"{'yes' if holds else 'NO':4}{bound}")
    if options.json:
        tables = {"rows": map(asdict, rows), "own": map(asdict, parts), "lines": map(asdict, lines)}
        print(json.dumps({what: list(table) for what, table in tables.items()} | {"shows": shows}))
    sys.exit(0 if all(shows.values()) else 1)


if __name__ == "__main__":
    main()
