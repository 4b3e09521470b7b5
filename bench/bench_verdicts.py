"""Counts how many good lines the checks flag, and how many planted faults they catch.

Good are the lines of a dub as it came out, of the demo's talk unless files are given. Each of them is then spoiled in
turn: another line's words are spoken, it is sped up, the source's words are spoken by the target's voice, or its
translation is that of another line. Beside the present rule stands the former: more than 15 % of the words wrong.

The transcriber's own error is that of the same sentences by several voices of the speech engine, where each sentence
counts with its best voice. Bound: under 10 % of good lines are flagged, and over 90 % of each fault are caught.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from actors import phonemes
from actors.engine import make_engine
from actors.types import ASR_HZ, Clip, EmbedRequest, PlanRequest, SynthesiseRequest, TranscribeRequest
from bench.bench_speech import SENTENCES
from cluster.audio.tempo import at_tempo
from cluster.batch.runner import run
from cluster.casting.voices import speech_stage
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.demo.talk import make_talk
from cluster.flags import Flag
from cluster.manifest import Manifest, UtteranceRecord, read
from cluster.pipeline import Job
from cluster.pools.ray_session import ray_session
from cluster.quality import Measure, Metric, heard_measures, hearing_errors, measured
from cluster.steps.doubt import suspicion
from cluster.verdicts import flags_of_measures

MEDIA_SUFFIXES = {".mp4", ".mkv", ".mov", ".flac", ".wav"}
TOO_FAST = 1.6
FORMER_MAX_WER = 0.15
FAULTS = {
    "other words": {Flag.HEARD_WRONG},
    "too fast": {Flag.TOO_FAST, Flag.HEARD_WRONG},
    "source language": {Flag.OFF_LANGUAGE, Flag.HEARD_WRONG},
    "other meaning": {Flag.DRIFTED},
}
"""Planted fault → the flags of which one must be raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    lines: str
    num_lines: int
    num_flagged: int

    @property
    def share(self) -> float:
        return self.num_flagged / max(1, self.num_lines)


class Models:
    """The engines of a configuration for one pair of languages."""

    def __init__(self, config: Config, target: str) -> None:
        stage = speech_stage(config, target)
        self._target = target
        self._ear: Any = make_engine("transcription", config.transcription.engine, config.transcription.options)
        self.voice: Any = make_engine("speech", stage.engine, stage.options)
        self._embedding: Any = make_engine("embedding", config.embedding.engine, config.embedding.options)
        for engine in (self._ear, self.voice, self._embedding):
            engine.load()

    def speak(self, text: str, voice: str | None = None) -> Clip:
        [plan] = self.voice.run([PlanRequest(text=text, language=self._target, voice=voice)])
        [clip] = self.voice.run([SynthesiseRequest(plan=plan, duration_s=plan.natural_s)])
        return clip  # type: ignore[no-any-return]

    def hear(self, clip: Clip) -> str:
        samples = soxr.resample(clip.samples, clip.sample_hz, ASR_HZ).astype(np.float32)
        [transcript] = self._ear.run([TranscribeRequest(samples=samples, language=self._target)])
        return " ".join(segment.text for segment in transcript.segments)

    def cosine(self, source: str, text: str) -> float:
        one, other = self._embedding.run([EmbedRequest(text=each) for each in (source, text)])
        return float(one.vector @ other.vector)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", nargs="*", type=Path, help="media, folders of media, or manifests of finished dubs")
    parser.add_argument("--from", dest="source", default="en")
    parser.add_argument("--to", default="pt")
    parser.add_argument("--duration", type=float, default=60.0, help="length of the demo's talk in seconds")
    parser.add_argument("--planted", type=int, default=8, help="lines of each fault")
    parser.add_argument("--sentences", type=int, default=5, help="sentences for the transcriber's own error")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    args = parser.parse_args()
    config = load_config("offline", ["ray.mode=inline"])
    lines = [line for made in manifests_of(args, config) for dub in made.dubs for line in dub.utterances if line.text]
    counts = good_counts(lines, config)
    for count in counts:
        show(count)
    models = Models(config, args.to)
    for fault in FAULTS:
        counts.append(planted(fault, lines[: args.planted], args.source, args.to, models, config))
        show(counts[-1])
    own_error = transcriber_error(args.to, models, args.sentences)
    print(f"the transcriber's own error in {args.to}: {own_error:.3f} of the words")
    if args.json:
        print(json.dumps({"counts": [asdict(count) for count in counts], "transcriber_error": own_error}))
    caught = {count.lines: count.share for count in counts}
    raise SystemExit(0 if caught["good"] < 0.1 and all(caught[fault] > 0.9 for fault in FAULTS) else 1)


def show(count: Count) -> None:
    flagged = f"{count.num_flagged:4} of {count.num_lines:4} flagged, {100 * count.share:5.1f} %"
    print(f"{count.lines:36} {flagged}", flush=True)


def manifests_of(args: argparse.Namespace, config: Config) -> list[Manifest]:
    """The dubs to judge: finished ones as they are, media dubbed now."""
    finished = [read(path) for path in args.inputs if path.suffix == ".json"]
    media = [
        file
        for path in args.inputs
        for file in (sorted(path.iterdir()) if path.is_dir() else [path])
        if file.suffix in MEDIA_SUFFIXES
    ]
    if finished and not media:
        return finished
    with tempfile.TemporaryDirectory() as folder:
        if not media:
            media = [Path(folder) / "talk.mp4"]
            make_talk(media[0], args.duration)
        return finished + dubbed(media, Path(folder), args.source, args.to, config)


def dubbed(media: Sequence[Path], folder: Path, source: str, target: str, config: Config) -> list[Manifest]:
    jobs = [
        Job(source=path, targets=(target,), source_language=source, audio_track=None, out=folder / f"{number}")
        for number, path in enumerate(media)
    ]
    with ray_session(config):
        outcomes = asyncio.run(run(jobs, config, lambda progress: None, lambda outcome: None))
    for outcome in outcomes:
        if outcome.error is not None:
            print(f"{outcome.job.source.name}: {outcome.error}")
    return [outcome.manifest for outcome in outcomes if outcome.manifest is not None]


def good_counts(lines: Sequence[UtteranceRecord], config: Config) -> list[Count]:
    """The lines as they came out, by the present rule, each of its flags, and the former rule."""
    flags = [flags_of_record(line, config) for line in lines]
    num_former = sum((line.value_of(Metric.WER) or 0.0) > FORMER_MAX_WER for line in lines)
    return [
        Count(lines="good", num_lines=len(lines), num_flagged=sum(map(bool, flags))),
        *(
            Count(lines=f"good, {flag}", num_lines=len(lines), num_flagged=sum(flag in own for own in flags))
            for flag in (Flag.HEARD_WRONG, Flag.TOO_FAST, Flag.DRIFTED)
        ),
        Count(lines="good, by the former rule", num_lines=len(lines), num_flagged=num_former),
    ]


def flags_of_record(line: UtteranceRecord, config: Config) -> tuple[Flag, ...]:
    measures = [
        Measure(metric=each.metric, value=each.value, verdict=each.verdict, why=each.why) for each in line.quality
    ]
    return flags_of_measures(measures, config.quality)


def planted(
    fault: str, lines: Sequence[UtteranceRecord], source: str, target: str, models: Models, config: Config
) -> Count:
    """Spoil each line, and count those that are flagged for it."""
    others = [*lines[1:], *lines[:1]]
    found = [
        spoiled_flags(fault, line, other, (source, target), models, config)
        for line, other in zip(lines, others, strict=True)
    ]
    return Count(lines=fault, num_lines=len(found), num_flagged=sum(bool(FAULTS[fault] & own) for own in found))


def spoiled_flags(
    fault: str,
    line: UtteranceRecord,
    other: UtteranceRecord,
    languages: tuple[str, str],
    models: Models,
    config: Config,
) -> set[Flag]:
    quality, target = config.quality, languages[1]
    if fault == "other meaning":
        measures = [measured(Metric.COSINE, models.cosine(line.source_text, other.text), quality)]
        return set(flags_of_measures(measures, quality))
    if fault == "other words":
        heard = models.hear(models.speak(other.text))
        return set(flags_of_measures(heard_measures(line.text, heard, target, quality), quality))
    if fault == "source language":
        heard = models.hear(models.speak(line.source_text))
        doubt = suspicion(line.source_text, line.source_text, *languages)
        flags = flags_of_measures(heard_measures(line.text, heard, target, quality), quality)
        return {*flags, *([] if doubt is None else [doubt.flag])}
    clip = models.speak(line.text)
    samples = at_tempo(clip, TOO_FAST)
    fast = Clip(samples=samples, sample_hz=clip.sample_hz)
    pace = phonemes.num_syllables(line.text, target) / fast.duration_s
    measures = [
        *heard_measures(line.text, models.hear(fast), target, quality),
        measured(Metric.SYLLABLES_PER_S, pace, quality),
    ]
    return set(flags_of_measures(measures, quality))


def transcriber_error(target: str, models: Models, num_sentences: int) -> float:
    """Mean over sentences of the error rate of the voice that is heard best."""
    texts = SENTENCES.get(target, ())[:num_sentences]
    voices = [voice.name for voice in models.voice.voices][:3]
    best = []
    for text in texts:
        errors = [hearing_errors(text, models.hear(models.speak(text, voice)), target) for voice in voices]
        best.append(min(found.wer for found in errors if found is not None))
    return statistics.fmean(best) if best else 0.0


if __name__ == "__main__":
    main()
