"""The measures of the guard, each in a process of its own: ``python -m bench.guard.measures NAME``.

A process prepares its work and runs it once, to warm up. Then it runs it once for every line on standard input, and
answers with a line of JSON: metric → value. Values of ``cpu`` metrics are CPU time of the process; those of the others
are the same in every run.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from actors.engine import make_engine
from actors.host import BatchReport
from actors.sentences import as_sentence
from actors.types import EmbedRequest, PlanRequest, SynthesiseRequest, Task, TranslateRequest
from bench.guard.sentences import SENTENCES

ROOT = Path(__file__).parents[2]
Values = dict[str, float]
Run = Callable[[], Values]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure that is compared between two trees."""

    kind: Literal["cpu", "count", "score"]
    """``cpu`` and ``count``: less is better. ``score``: more is better. Only ``cpu`` differs from run to run."""
    unit: str


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Work that gives one or more metrics."""

    prepare: Callable[[], contextlib.AbstractContextManager[Run]]
    metrics: Mapping[str, Metric]
    runs: int = 12
    """Runs of each process; one where they are all the same."""
    warm_up: bool = True

    @property
    def is_exact(self) -> bool:
        return all(metric.kind != "cpu" for metric in self.metrics.values())


def _cpu_ms(work: Callable[[], object], number: int) -> float:
    gc.collect()
    start_s = time.process_time()
    work()
    return (time.process_time() - start_s) / number * 1e3


# --- pools and the path


@contextmanager
def _pool() -> Iterator[Run]:
    from cluster.config.schema import BatchLimits, PoolConfig, StageConfig
    from cluster.pools.pool import Pool
    from tests.standins.echo import Item

    class Idle:
        def __init__(self, task: Task, stage: StageConfig) -> None: ...

        async def place(self) -> None: ...

        async def load(self) -> None: ...

        async def run(self, batch: Sequence[Item]) -> BatchReport:
            return BatchReport(results=list(batch), run_s=0.0)

        async def close(self) -> None: ...

        def kill(self) -> None: ...

    stage = StageConfig(engine="tests.standins.echo", pool=PoolConfig(replicas=4, batch=BatchLimits(max_items=8)))
    num_items = 600

    async def work() -> float:
        factory: Any = Idle
        async with Pool("translation", stage, factory) as pool:
            await pool.submit(Item(value=0))
            items = [Item(value=value) for value in range(num_items)]
            gc.collect()
            start_s = time.process_time()
            await asyncio.gather(*(pool.submit(item, order=item.value) for item in items))
            return (time.process_time() - start_s) / num_items * 1e3

    yield lambda: {"pool_cpu": asyncio.run(work())}


@contextmanager
def _path() -> Iterator[Run]:
    from bench.guard.path import run_path

    yield lambda: {"path_cpu": _cpu_ms(lambda: run_path(20), 20)}


@contextmanager
def _counts() -> Iterator[Run]:
    from bench.guard.path import run_path

    num_segments, num_calls = 100, 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal num_calls
        num_calls += event in ("call", "c_call")

    def run() -> Values:
        nonlocal num_calls
        num_calls = 0
        gc.collect()
        sys.setprofile(note)
        try:
            result = run_path(num_segments)
        finally:
            sys.setprofile(None)
        return {
            "path_virtual_s": result.wall_s,
            "path_first_s": result.first_s,
            "path_calls": num_calls / num_segments,
            "startup_modules": _num_modules(),
        }

    yield run


HELP = ["-m", "serve.cli", "--help"]
NUM_MODULES = (
    "import runpy, sys\n"
    "sys.argv = ['raydub', '--help']\n"
    "try: runpy.run_module('serve.cli', run_name='__main__', alter_sys=True)\n"
    "finally: print(len(sys.modules), file=sys.stderr)"
)


def _num_modules() -> float:
    ended = subprocess.run([sys.executable, "-c", NUM_MODULES], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(ended.stderr.split()[-1])


@contextmanager
def _startup() -> Iterator[Run]:
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder

        def run() -> Values:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *HELP], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return {"startup_cpu": (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1e3}

        yield run


# --- HTTP


@contextmanager
def _http() -> Iterator[Run]:
    """A translation by a stand-in, through the whole application: routes, middleware, admission, pool."""
    import httpx

    from serve.api.app import make_api
    from serve.app import Choice, make_setup
    from serve.dispatch import health

    health.DATABASE_ANSWERS_S = 600.0  # however busy the disk is
    num_requests = 20
    body = {"q": " ".join(SENTENCES[0][0]), "source": "en", "target": "pt"}
    # The loop runs between runs too: the service watches itself, and would take a stopped clock for a failure.
    loop, ended = asyncio.new_event_loop(), asyncio.Event()
    ready: Future[httpx.AsyncClient] = Future()

    async def serve(folder: str) -> None:
        settings = ["ray.mode=inline", f"serve.data_dir={folder}", "store.url=none", "serve.drain_s=0"]
        settings += ["serve.auth.limits.requests_per_min=1000000", "translation.engine=tests.standins.translates"]
        api = make_api(make_setup(Choice(config="base", set=tuple(settings), on_loopback=True)))
        transport = httpx.ASGITransport(api)
        async with api.router.lifespan_context(api), httpx.AsyncClient(transport=transport) as client:
            ready.set_result(client)
            await ended.wait()

    async def ask(client: httpx.AsyncClient) -> None:
        async with asyncio.timeout(300):
            answer = await client.post("http://127.0.0.1/translate", json=body)
            while answer.status_code == 503:  # so busy a machine that the service's own watches take it for broken
                answer = await client.post("http://127.0.0.1/translate", json=body)
        answer.raise_for_status()

    async def work(client: httpx.AsyncClient) -> Values:
        gc.collect()
        start_s = time.thread_time()
        for _ in range(num_requests):
            await ask(client)
        return {"http_cpu": (time.thread_time() - start_s) / num_requests * 1e3}

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            serving = asyncio.run_coroutine_threadsafe(serve(folder), loop)
            client = ready.result(timeout=300)
            yield lambda: asyncio.run_coroutine_threadsafe(work(client), loop).result()
            loop.call_soon_threadsafe(ended.set)
            serving.result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


# --- engines


def _loaded(task: Task, name: str, options: Mapping[str, Any] | None = None) -> Any:
    engine: Any = make_engine(task, name, options or {})
    engine.load()
    return engine


def _source_texts() -> list[str]:
    return [as_sentence(" ".join(source)) for source, _ in SENTENCES]


@contextmanager
def _translation() -> Iterator[Run]:
    engine = _loaded("translation", "bergamot")
    batch = [TranslateRequest(text=text, source_language="en", target_language="pt") for text in _source_texts()[:2]]
    yield lambda: {"translation_cpu": _cpu_ms(lambda: engine.run(batch), len(batch))}


@contextmanager
def _speech() -> Iterator[Run]:
    engine = _loaded("speech", "hibari")
    plans = engine.run([PlanRequest(text=text, language="en", voice=None) for text in _source_texts()[:1]])
    batch = [SynthesiseRequest(plan=plan, duration_s=plan.natural_s) for plan in plans]
    yield lambda: {"speech_cpu": _cpu_ms(lambda: engine.run(batch), len(batch))}


@contextmanager
def _alignment() -> Iterator[Run]:
    """The vectors are made once; what is measured is the search for the breaks."""
    from cluster.alignment.align import align
    from cluster.alignment.config import AlignConfig
    from cluster.alignment.inputs import AlignTask, Evidence
    from cluster.alignment.tokens import token_spans

    config = AlignConfig()
    embedder = _loaded("embedding", "use_multilingual")
    tasks, evidence, gold = [], [], []
    for source, target in SENTENCES:
        task = AlignTask(segments=source, source=" ".join(source), target=" ".join(target), language="pt")
        requests = [EmbedRequest(text=text, with_tokens=True) for text in (task.source, task.target)]
        vectors = [found.tokens for found in embedder.run(requests)]
        tasks.append(task)
        evidence.append(Evidence(source=vectors[0], target=vectors[1]))
        gold.append([len(" ".join(target[:at])) + 1 for at in range(1, len(target))])

    def num_right() -> int:
        right = 0
        for task, known, breaks in zip(tasks, evidence, gold, strict=True):
            starts = [first for first, _ in token_spans(task.target)]
            spans = align(task, known, config).spans[1:]
            found = [starts[span.first_token] if span.first_token < len(starts) else -1 for span in spans]
            right += sum(one == other for one, other in zip(found, breaks, strict=True))
        return right

    def run() -> Values:
        cpu_ms = _cpu_ms(lambda: [num_right() for _ in range(2)], 2 * len(tasks))
        return {"alignment_cpu": cpu_ms, "alignment_right": num_right() / sum(map(len, gold))}

    yield run


# --- a dub's quality


@contextmanager
def _dub() -> Iterator[Run]:
    """A dub from Portuguese into English, by subtitles: what is heard in the source is then no part of the scores."""
    from cluster.batch.runner import run as dub_all
    from cluster.config.load import load_config
    from cluster.manifest import DubRecord
    from cluster.pipeline import Job
    from cluster.quality import Metric as Quality

    def run() -> Values:
        with tempfile.TemporaryDirectory() as name:
            source = _silent_talk(Path(name))
            config = load_config("offline", ["ray.mode=inline", "store.url=none", "quality.check=all"])
            job = Job(
                source=source,
                targets=("en",),
                source_language="pt",
                audio_track=None,
                out=Path(name) / "out",
                subtitles=source.with_suffix(".srt"),
            )
            [outcome] = asyncio.run(dub_all([job], config, lambda progress: None, lambda outcome: None))
            if outcome.manifest is None:
                raise RuntimeError(outcome.error)
            return scores(outcome.manifest.dubs[0])

    def scores(dub: DubRecord) -> Values:
        lines = dub.utterances
        fits = [line.rate is not None and line.rate <= 1.2 + 1e-3 and line.end_s <= line.room_end_s for line in lines]

        def mean(quality: Quality) -> float:
            return float(np.mean([line.value_of(quality) or 0.0 for line in lines]))

        return {
            "dub_fit": float(np.mean(fits)),
            "dub_cosine": mean(Quality.COSINE),
            "dub_words_heard": 1.0 - mean(Quality.WER),
        }

    yield run


def _silent_talk(folder: Path) -> Path:
    """A recording of silence, and the subtitles of what is said in it: a cue for each phrase."""
    cues, at_s = [], 0.5
    for number, phrase in enumerate(phrase for _, target in SENTENCES[:8] for phrase in target):
        end_s = at_s + len(phrase) / 22
        times = " --> ".join(f"00:{int(s // 60):02}:{s % 60:06.3f}".replace(".", ",") for s in (at_s, end_s))
        cues.append(f"{number + 1}\n{times}\n{phrase}\n")
        at_s = end_s + (0.8 if phrase.endswith(".") else 0.4)
    path = folder / "talk.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * round(at_s * 16_000)))
    path.with_suffix(".srt").write_text("\n".join(cues), encoding="utf-8")
    return path


MEASURES: dict[str, Measure] = {
    "counts": Measure(
        prepare=_counts,
        runs=1,
        metrics={
            "path_virtual_s": Metric(kind="count", unit="s, 100 lines, virtual time"),
            "path_first_s": Metric(kind="count", unit="s to the first line, virtual time"),
            "path_calls": Metric(kind="count", unit="function calls a line"),
            "startup_modules": Metric(kind="count", unit="modules that `raydub --help` imports"),
        },
    ),
    "pool": Measure(prepare=_pool, metrics={"pool_cpu": Metric(kind="cpu", unit="ms a request")}),
    "path": Measure(prepare=_path, metrics={"path_cpu": Metric(kind="cpu", unit="ms a line")}),
    "startup": Measure(prepare=_startup, metrics={"startup_cpu": Metric(kind="cpu", unit="ms")}, runs=6),
    "http": Measure(prepare=_http, metrics={"http_cpu": Metric(kind="cpu", unit="ms a request")}),
    "translation": Measure(prepare=_translation, metrics={"translation_cpu": Metric(kind="cpu", unit="ms a sentence")}),
    "speech": Measure(prepare=_speech, metrics={"speech_cpu": Metric(kind="cpu", unit="ms a sentence")}),
    "alignment": Measure(
        prepare=_alignment,
        metrics={
            "alignment_cpu": Metric(kind="cpu", unit="ms a sentence"),
            "alignment_right": Metric(kind="score", unit="share of breaks"),
        },
    ),
    "dub": Measure(
        prepare=_dub,
        runs=1,
        warm_up=False,
        metrics={
            "dub_fit": Metric(kind="score", unit="share of lines that fit at ≤ 1.2 ×"),
            "dub_cosine": Metric(kind="score", unit="mean cosine of line and source"),
            "dub_words_heard": Metric(kind="score", unit="1 − WER of the lines, heard again"),
        },
    ),
}


def main() -> None:
    measure = MEASURES[sys.argv[1]]
    with measure.prepare() as run:
        if measure.warm_up:
            run()
        print("ready", flush=True)
        for _ in sys.stdin:
            print(json.dumps(run()), flush=True)


if __name__ == "__main__":
    main()
