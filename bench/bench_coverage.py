"""Is every sentence transcribed or flagged, and do words depend on threads and batch size?

Minutes of speech by two voices (hibari, joe) with pauses of 0.5 to 3 s, transcribed by whisper-base in int8 with 1, 2
and 4 threads and in batches of 1, 4 and 16, all windows of a batch in one call. A sentence counts as heard if half of
its words stand in the segments of its time, else as flagged if speech in its time is noted as not transcribed.
differs: word error rate against one thread and batches of one.
Bound: no sentence is lost, in all nine.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jiwer
import numpy as np
import soxr

from actors.engine import make_engine
from actors.host import EngineHost
from actors.types import ASR_HZ, PlanRequest, Samples, Span, SynthesiseRequest, TranscribeRequest, Transcript, Window
from cluster.audio.windows import cut_windows
from cluster.config.load import load_config
from cluster.demo.script import CHAPTERS
from cluster.speakers.turns import turns_of_one
from cluster.steps.progress import Progress
from cluster.steps.transcribe import Listener
from cluster.timing.grouping import segments_of

THREADS, BATCHES = (1, 2, 4), (1, 4, 16)
VOICES = ("hibari", "piper")
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    text: str
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    threads: int
    batch: int
    num_sentences: int
    num_heard: int
    num_flagged: int
    num_lost: int
    num_retries: int
    differs: float
    """Word error rate against one thread and batches of one."""


def talk(duration_s: float) -> tuple[Samples, list[Sentence]]:
    """Sentences of the demo by both voices in turn, with pauses, and when each is said."""
    rng, parts, sentences, at_s = np.random.default_rng(0), [np.zeros(ASR_HZ, np.float32)], [], 1.0
    hosts = [EngineHost("speech", name, {}) for name in VOICES]
    for host in hosts:
        host.load()
    for number, text in enumerate(_texts()):
        if at_s >= duration_s:
            break
        clip = _said(hosts[number % len(hosts)], text)
        pause = np.zeros(round(rng.uniform(SHORTEST_PAUSE_S, LONGEST_PAUSE_S) * ASR_HZ), np.float32)
        sentences.append(Sentence(text=text, span=Span(start_s=at_s, end_s=at_s + len(clip) / ASR_HZ)))
        parts += [clip, pause]
        at_s += (len(clip) + len(pause)) / ASR_HZ
    for host in hosts:
        host.close()
    return np.concatenate(parts), sentences


def _texts() -> Iterator[str]:
    while True:
        for chapter in CHAPTERS:
            yield from chapter.sentences


def _said(host: EngineHost, text: str) -> Samples:
    [plan] = host.run([PlanRequest(text=text, language="en")]).results
    [clip] = host.run([SynthesiseRequest(plan=plan, duration_s=plan.natural_s)]).results
    return np.asarray(soxr.resample(clip.samples, clip.sample_hz, ASR_HZ), np.float32)


class PreparedPool:
    """Answers windows from batches that were run before, and hears stretches alone."""

    name = "transcription/faster_whisper"

    def __init__(self, engine: Any, windows: Sequence[Window], batch: int) -> None:
        self._engine = engine
        self._known: dict[int, Transcript] = {}
        self.num_retries = 0
        for start in range(0, len(windows), batch):
            part = windows[start : start + batch]
            results = engine.run([TranscribeRequest(samples=window.samples, language="en") for window in part])
            self._known |= {id(window.samples): each for window, each in zip(part, results, strict=True)}

    async def submit(self, request: TranscribeRequest, *, order: float = 0.0) -> Transcript:
        known = self._known.get(id(request.samples))
        if known is not None:
            return known
        self.num_retries += 1
        [result] = self._engine.run([request])
        return result


async def heard(windows: Sequence[Window], threads: int, batch: int) -> tuple[list[tuple[float, str]], list[Span], int]:
    """(start, word) of all words, the stretches without words, and the number of stretches heard again."""
    options = {"model": "base", "threads": threads, "batched": "always", "max_batch": batch, "device": "cpu"}
    engine = make_engine("transcription", "faster_whisper", options)
    engine.load()
    config, pool = load_config("offline", ["ray.mode=inline"]), PreparedPool(engine, windows, batch)
    listener = Listener(config, pool, "en", ("pt",), Progress(job="bench"))  # type: ignore[arg-type]
    words: list[tuple[float, str]] = []
    for window in windows:
        _, transcript = await listener.transcribe(window)
        for segment in segments_of(window, transcript, turns_of_one(window.speech), config.grouping):
            words += [(word.start_s, plain) for word in segment.words for plain in plain_words(word.text)]
    engine.close()
    return words, list(listener.notes.not_transcribed), pool.num_retries


def plain_words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def fate(sentence: Sentence, words: Sequence[tuple[float, str]], gaps: Sequence[Span]) -> str:
    """heard, flagged or lost."""
    span = sentence.span
    said = plain_words(sentence.text)
    found = {word for at_s, word in words if span.start_s - 0.5 <= at_s <= span.end_s + 0.5}
    if sum(word in found for word in said) >= len(said) / 2:
        return "heard"
    return "flagged" if any(gap.start_s < span.end_s and span.start_s < gap.end_s for gap in gaps) else "lost"


def measure(duration_s: float, runs: Iterable[tuple[int, int]]) -> list[Row]:
    """A row for each run's number of threads and size of batch."""
    samples, sentences = talk(duration_s)
    windows = list(cut_windows(iter([samples]), load_config("offline").windows))
    rows: list[Row] = []
    first: str | None = None
    for num_threads, batch in runs:
        words, gaps, num_retries = asyncio.run(heard(windows, num_threads, batch))
        text = " ".join(word for _, word in words)
        first = text if first is None else first
        fates = [fate(sentence, words, gaps) for sentence in sentences]
        rows.append(
            Row(
                threads=num_threads,
                batch=batch,
                num_sentences=len(sentences),
                num_heard=fates.count("heard"),
                num_flagged=fates.count("flagged"),
                num_lost=fates.count("lost"),
                num_retries=num_retries,
                differs=round(float(jiwer.wer(first, text)), 4),
            )
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=600.0, help="seconds of speech")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measure(arguments.duration, itertools.product(THREADS, BATCHES))
    if arguments.json:
        print(json.dumps({"duration_s": arguments.duration, "rows": [asdict(row) for row in rows]}))
    if any(row.num_lost for row in rows):
        raise SystemExit("no sentence may be lost; some were")


if __name__ == "__main__":
    main()
