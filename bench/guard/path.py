"""The steps of a dub from its units to its lines' sound, on simulated replicas and in virtual time.

The steps and the pools are the product's own: translate, align, plan, fit, speak. A replica answers from a table, after
the time that ``Latencies`` gives it; in virtual time that passes at once, and is exact. Nothing is decoded or mixed.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from actors.engine import make_engine
from actors.errors import ItemError
from actors.host import BatchReport
from actors.sentences import as_sentence
from actors.types import (
    Candidate,
    Clip,
    Embedding,
    EmbedRequest,
    ItemFailure,
    PlanRequest,
    Segment,
    SynthesiseRequest,
    Task,
    TokenVectors,
    TranslateRequest,
    Translation,
    Unit,
)
from bench.guard.sentences import SENTENCES
from cluster.config.load import load_config
from cluster.config.schema import Config, StageConfig
from cluster.pipeline import speak_branch, translate_branch
from cluster.pools.pool_set import PoolSet
from cluster.pools.replicas import Replica
from cluster.pools.stats import PoolStats
from cluster.steps.check import Checker
from cluster.steps.progress import Progress
from cluster.steps.records import HeardUnit, Spoken, branches_of
from cluster.steps.source import DubContext
from tests.virtual_time import run_in_virtual_time

EXTRACT_S = 0.10
HZ = 16_000
VECTOR_DIM = 16
SEGMENT_S, PAUSE_S = 3.0, 0.5


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """Service time of one request: those of a dubbing service of one call per segment."""

    translate_s: float = 0.050
    """A unit takes this for each of its segments."""
    align_s: float = 0.020
    """A text that is embedded takes this; a unit has two of them, source and target."""
    plan_s: float = 0.0
    speak_s: float = 0.100

    def of(self, request: Any) -> float:
        match request:
            case TranslateRequest():
                return self.translate_s * len(_PAIRS[request.text][0])
            case EmbedRequest():
                return self.align_s
            case PlanRequest():
                return self.plan_s
            case _:
                return self.speak_s


@dataclass(frozen=True, kw_only=True)
class PathResult:
    """The lines that came out, and times by the event loop's clock."""

    lines: Sequence[Spoken]
    wall_s: float
    first_s: float
    stats: Sequence[PoolStats]


_PAIRS = {as_sentence(" ".join(source)): (source, target) for source, target in SENTENCES}


class Timed(Replica):
    """Serves batches one after another; each takes the sum of its requests' service times."""

    def __init__(self, latencies: Latencies, fails: Callable[[Any], bool]) -> None:
        self._latencies = latencies
        self._fails = fails
        self._free_at_s = 0.0

    async def load(self) -> None:
        pass

    async def run(self, batch: Sequence[Any]) -> BatchReport:
        loop = asyncio.get_running_loop()
        service_s = sum(self._latencies.of(request) for request in batch)
        self._free_at_s = max(loop.time(), self._free_at_s) + service_s
        await asyncio.sleep(self._free_at_s - loop.time())
        results = [ItemFailure(error=ItemError("refused")) if self._fails(each) else answer(each) for each in batch]
        return BatchReport(results=results, run_s=service_s)

    async def _unload(self) -> None:
        pass

    def kill(self) -> None:
        pass


def answer(request: Any) -> Any:
    match request:
        case TranslateRequest():
            return Translation(candidates=(Candidate(text=" ".join(_PAIRS[request.text][1]), score=None),))
        case EmbedRequest():
            return _embedding(request.text)
        case PlanRequest():
            [plan] = _speaker().run([request])
            return plan
        case SynthesiseRequest():
            return Clip(samples=np.zeros(round(request.duration_s * HZ), np.float32), sample_hz=HZ)
    raise TypeError(f"a request must be of a known type; found {type(request).__name__}")


@functools.cache
def _speaker() -> Any:
    return make_engine("speech", "tests.standins.speaks", {})


@functools.cache
def _embedding(text: str) -> Embedding:
    """Vectors by the words' hashes: the same text has the same ones in every run."""
    words = text.split()
    starts = itertools.accumulate((len(word) + 1 for word in words[:-1]), initial=0)
    spans = np.array([(start, start + len(word)) for start, word in zip(starts, words, strict=True)], np.int64)
    vectors = np.stack([np.random.default_rng(zlib.crc32(word.encode())).normal(size=VECTOR_DIM) for word in words])
    vectors = vectors.astype(np.float32)
    mean = vectors.mean(axis=0)
    return Embedding(vector=mean / np.linalg.norm(mean), tokens=TokenVectors(spans=spans, vectors=vectors))


def path_config(replicas: Mapping[Task, int], settings: Sequence[str] = ()) -> Config:
    """The base configuration with so many replicas, which work on one request at a time."""
    given = ["ray.mode=inline", "store.url=none", "quality.check=none", "translation.num_candidates=1"]
    given += ["translation.engine=tests.standins.translates", "speech.engine=tests.standins.speaks"]
    for task, number in replicas.items():
        given += [f"{task}.pool={{replicas: {number}, batch: {{max_items: 1}}}}"]
    return load_config("base", [*given, *settings])


FOUNDING: Mapping[Task, int] = {"translation": 4, "embedding": 2, "speech": 10}
ONE_EACH: Mapping[Task, int] = {"translation": 1, "embedding": 1, "speech": 1}


def make_units(num_segments: int) -> list[HeardUnit]:
    """Units of two and three segments, at least two in all, one after another."""
    units: list[HeardUnit] = []
    number = 0
    sources = itertools.cycle(source for source, _ in SENTENCES)
    while number < num_segments:
        source = next(source for source in sources if num_segments - number - len(source) not in (-1, 1))
        segments = tuple(_segment(number + at, text) for at, text in enumerate(source))
        number += len(segments)
        unit = Unit(id=segments[0].id, segments=segments, room_end_s=segments[-1].end_s + PAUSE_S)
        units.append(HeardUnit(unit=unit, source_lufs=-20.0))
    return units


def _segment(number: int, text: str) -> Segment:
    start_s = number * (SEGMENT_S + PAUSE_S)
    return Segment(
        id=f"u{number:06d}",
        start_s=start_s,
        end_s=start_s + SEGMENT_S,
        text=text,
        language="en",
        speaker="speaker0",
        words=(),
        mean_log_probability=0.0,
        no_speech_probability=0.0,
    )


@dataclass(frozen=True, kw_only=True)
class Video:
    """One dub to run: its units, and its name among the jobs."""

    units: Sequence[HeardUnit]
    job: str = "video"


async def dub_lines(video: Video, config: Config, pools: PoolSet) -> PathResult:
    """The path of ``cluster.pipeline.dub`` from its units to its lines."""
    loop = asyncio.get_running_loop()
    start_s, first_s, lines = loop.time(), 0.0, []
    progress = Progress(job=video.job)
    progress.begin(video.units[-1].unit.room_end_s)
    context = DubContext(config=config, pools=pools, progress=progress)
    source: Any = SimpleNamespace(lines=lambda *_: None, only=())
    [branch] = branches_of(("pt",), (), config)
    async with asyncio.TaskGroup() as group:
        checker = Checker(config, pools, "pt", progress, group)
        translated, similarity = await translate_branch(source, _heard(video.units), branch, context)
        spoken = await speak_branch(source, translated, similarity, checker, branch, context)
        async for line in spoken:
            first_s = first_s or loop.time() - start_s
            lines.append(line)
    return PathResult(lines=lines, wall_s=loop.time() - start_s, first_s=first_s, stats=pools.stats())


async def _heard(units: Sequence[HeardUnit]) -> AsyncIterator[HeardUnit]:
    await asyncio.sleep(EXTRACT_S)
    for unit in units:
        yield unit


@asynccontextmanager
async def pools_of(
    config: Config, latencies: Latencies | None = None, fails: Callable[[Any], bool] = lambda request: False
) -> AsyncIterator[PoolSet]:
    """Pools of simulated replicas, which fail the requests that ``fails`` says."""

    def start(task: Task, stage: StageConfig) -> Replica:
        return Timed(latencies or Latencies(), fails)

    async with PoolSet(config) as pools:
        with mock.patch.object(pools, "_start_replica", start), mock.patch("asyncio.to_thread", _at_once):
            yield pools


async def run_videos(
    videos: Sequence[Video],
    config: Config,
    latencies: Latencies | None = None,
    fails: Callable[[Any], bool] = lambda request: False,
) -> list[PathResult]:
    """Dub several videos at once on the same pools."""
    async with pools_of(config, latencies, fails) as pools:
        return list(await asyncio.gather(*(dub_lines(video, config, pools) for video in videos)))


async def _at_once(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Threads have no part in virtual time."""
    return function(*args, **options)


def run_path(num_segments: int, config: Config | None = None, latencies: Latencies | None = None) -> PathResult:
    """One video in virtual time."""
    videos = [Video(units=make_units(num_segments))]
    [result] = run_in_virtual_time(run_videos(videos, config or path_config(FOUNDING), latencies))
    return result
