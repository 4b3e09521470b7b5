"""Tells if anything grows: memory, file handles, processes, scratch, database and object store over time.

    python bench/bench_soak.py --soak 15 [--ray] [--plot docs/soak.svg] [--json]
    python bench/bench_soak.py --many 50 | --queue-one | --long 2

``--soak``: the service, with engines that stand in for models, is given small dubs, four at a time, for so many
minutes; each is read and deleted when it is done, and single models are asked meanwhile. ``--long``: an eighth of so
many hours of media in a first dub, which is warm-up, then all of it in another. ``--many``: so many videos at once,
in three rounds. ``--queue-one``: one batch where every queue and buffer takes one, and again as configured: the same
lines must come out.

Sampled twice a second over this process and all its children. The first third is warm-up. Of the rest a line is fitted:
growth from its beginning to its end must be within ``BOUNDS``, or within a tenth of the level, whichever is more.
Deleted dubs keep their row for a day, so the database may grow by ``ROW_BYTES`` a dub; scratch holds a store that fills
up to its limit. ``--queue-one`` is too short to tell growth: it tells that all ends, with the same lines. Exit status 1
if anything grows, or a dub fails.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Read when Ray is imported.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import numpy as np
import psutil

from bench.plots import drawn, thinned
from cluster.batch.runner import ItemOutcome, run
from cluster.config.load import load_config
from cluster.pipeline import Job
from cluster.pools.ray_session import ray_session
from serve.jobs.api_keys import hash_key
from tests import media
from tests.api.server import STANDINS, Running, finished, running

EVERY_S = 0.5
WARM_UP = 1 / 3
BOUNDS = {"memory": 48e6, "handles": 16, "processes": 4, "threads": 16, "scratch": 16e6, "object store": 8e6}
SHARE = 0.1
ROW_BYTES = 8_000
NUM_AT_ONCE = 4
TALK_S = 6.0
KEY = "a key for the soak"
ONE = tuple(
    f"{stage}.pool.{setting}"
    for stage in ("transcription", "translation", "speech")
    for setting in ("max_pending_items=1", "batch={max_items: 1, in_flight: 1}")
)


@dataclass(kw_only=True)
class Samples:
    """Values over time, by what they are of."""

    at_s: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    num_small: int = 0
    """Samples from the beginning that are of a smaller piece of the same work, which loads all that it takes."""

    def growth(self, name: str) -> tuple[float, float]:
        """By how much the value grew after warm-up, by a fitted line, and its mean."""
        first = self.num_small + int((len(self.at_s) - self.num_small) * WARM_UP)
        at_s, values = np.array(self.at_s[first:]), np.array(self.values[name][first:])
        if len(values) < 2:
            return 0.0, float(values.mean()) if len(values) else 0.0
        slope = np.polyfit(at_s - at_s[0], values, 1)[0]
        return float(slope * (at_s[-1] - at_s[0])), float(values.mean())


def bound(name: str, mean: float, num_dubs: int) -> float:
    """The most that may be called flat."""
    return ROW_BYTES * num_dubs + 1e6 if name == "database" else max(BOUNDS[name], SHARE * mean)


def look(folder: Path, *, with_ray: bool) -> dict[str, float]:
    """The state of this process and its children, and of what they keep in ``folder``."""
    here = psutil.Process()
    found: dict[str, float] = {"memory": 0, "handles": 0, "processes": 0, "threads": 0}
    for process in (here, *here.children(recursive=True)):
        with contextlib.suppress(psutil.Error), process.oneshot():
            found["memory"] += process.memory_full_info().uss
            found["handles"] += process.num_fds()
            found["threads"] += process.num_threads()
            found["processes"] += 1
    found["scratch"] = _folder_bytes(folder / "tmp") + _folder_bytes(folder / "data" / "dubs")
    found["database"] = sum(path.stat().st_size for path in (folder / "data").glob("raydub.db*"))
    if with_ray:
        found["object store"] = _object_store_bytes()
    return found


def _folder_bytes(folder: Path) -> float:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _object_store_bytes() -> float:
    import ray

    if not ray.is_initialized():  # before the first dub, and after the last
        return 0.0
    total, free = ray.cluster_resources(), ray.available_resources()
    return total.get("object_store_memory", 0.0) - free.get("object_store_memory", 0.0)


@contextlib.contextmanager
def sampled(folder: Path, *, with_ray: bool = False) -> Iterator[Samples]:
    samples, is_over, start_s = Samples(), threading.Event(), time.monotonic()

    def sample() -> None:
        while not is_over.wait(EVERY_S):
            with contextlib.suppress(OSError, psutil.Error):  # a file or process that ended meanwhile
                found = look(folder, with_ray=with_ray)
                samples.at_s.append(time.monotonic() - start_s)
                for name, value in found.items():
                    samples.values.setdefault(name, []).append(value)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        is_over.set()
        thread.join()


# --- what is done meanwhile


@dataclass(kw_only=True)
class Work:
    """The work of a run: dubs that ended well, cancelled ones, and what went wrong."""

    num_dubs: int = 0
    num_cancelled: int = 0
    errors: list[str] = field(default_factory=list)


def talk(path: Path) -> Path:
    """Some seconds of speech, without a picture."""
    said = media.speech("Good morning, everyone, and welcome.")
    samples = media.silence(TALK_S)
    samples[24_000:][: len(said)] = said[: len(samples) - 24_000]
    return media.make_media(path, audio=[media.AudioSpec(samples=samples)])


def one_dub(service: Running, source: Path, number: int, work: Work) -> None:
    """A dub as its owner sees it: uploaded, followed, read, deleted; one in eight is cancelled."""
    with service.client(KEY) as client:
        with source.open("rb") as file:
            made = client.post("/v1/dubs", data={"to": "pt", "source": "en"}, files={"file": ("talk.mka", file)})
        path = f"/v1/dubs/{made.raise_for_status().json()['id']}"
        if number % 8 == 7:
            client.post(f"{path}/cancel").raise_for_status()
        ended = finished(client, path.rpartition("/")[2])
        if ended["state"] == "cancelled":
            work.num_cancelled += 1
        elif ended["state"] == "done":
            for part in ("manifest", "media", "transcripts/pt/srt", "events"):
                client.get(f"{path}/{part}").raise_for_status()
            work.num_dubs += 1
        else:
            work.errors.append(str(ended["error"]))
        client.delete(path).raise_for_status()
        client.post("/translate", json={"q": "Good.", "source": "en", "target": "pt"}).raise_for_status()
        said = {"model": "tts-1", "input": f"Good morning {number}.", "voice": "hum"}
        client.post("/v1/audio/speech", json=said).raise_for_status()


def soak(folder: Path, minutes: float) -> tuple[Samples, Work]:
    work, source = Work(), talk(folder / "talk.mka")
    store = (f"store.url={folder / 'tmp' / 'store'}", "store.max_bytes=16000000")
    limits = ("serve.keep_events_s=60", "serve.storage.min_free_bytes=0", "pipeline.max_videos=4")
    key = f"{{name: soak, sha256: {hash_key(KEY)}, limits: {{requests_per_min: 1000000}}}}"
    settings = (*STANDINS, *store, *limits, f"serve.auth.keys=[{key}]")

    def repeat(first: int) -> None:
        number = first
        while time.monotonic() < end_s:
            one_dub(service, source, number, work)
            number += NUM_AT_ONCE + 1  # so that each of these threads cancels some

    with running(folder / "data", *settings, config="base") as service:
        one_dub(service, source, 0, work)
        end_s = time.monotonic() + minutes * 60
        with sampled(folder) as samples, ThreadPoolExecutor(NUM_AT_ONCE) as threads:
            list(threads.map(repeat, range(NUM_AT_ONCE)))
    return samples, work


def dub_all(sources: Sequence[Path], out: Path, mode: str, *settings: str) -> list[ItemOutcome]:
    config = load_config("base", [f"ray.mode={mode}", "quality.check=none", "store.url=none", *STANDINS, *settings])
    jobs = [
        Job(source=source, targets=("pt",), source_language="en", audio_track=None, out=out / f"{number}")
        for number, source in enumerate(sources)
    ]

    async def work() -> list[ItemOutcome]:
        return await run(jobs, config, lambda progress: None, lambda outcome: None)

    with ray_session(config):
        return asyncio.run(work())


def counted(outcomes: Sequence[ItemOutcome], work: Work) -> None:
    work.num_dubs += sum(outcome.error is None for outcome in outcomes)
    work.errors += [outcome.error for outcome in outcomes if outcome.error is not None]


def many(folder: Path, num_videos: int, mode: str) -> tuple[Samples, Work]:
    """Three rounds, so that growth from one to the next can be seen."""
    work, source = Work(), talk(folder / "talk.mka")
    with sampled(folder, with_ray=mode != "inline") as samples:
        for number in range(3):
            sources = [source] * num_videos
            counted(dub_all(sources, folder / f"out{number}", mode, f"pipeline.max_videos={num_videos}"), work)
    return samples, work


def long(folder: Path, hours: float, mode: str) -> tuple[Samples, Work]:
    work, minute = Work(), folder / "minute.mka"
    said = media.speech("Good morning, everyone, and welcome.")
    samples = np.tile(np.concatenate([said, media.silence(1.0)]), (18, 1))[: 60 * 48_000]
    media.make_media(minute, audio=[media.AudioSpec(samples=samples)])
    with sampled(folder, with_ray=mode != "inline") as found:
        for name, num_minutes in (("short", hours * 60 / 8), ("long", hours * 60)):
            loops = ["ffmpeg", "-v", "error", "-stream_loop", str(max(0, round(num_minutes) - 1)), "-i", str(minute)]
            subprocess.run([*loops, "-c", "copy", str(folder / f"{name}.mka")], check=True)
            counted(dub_all([folder / f"{name}.mka"], folder / name, mode, "media.max_duration_s=36000"), work)
            found.num_small = found.num_small or len(found.at_s)
    return found, work


def queue_one(folder: Path, mode: str) -> tuple[Samples, Work]:
    """The same videos with queues of one and as configured."""
    work, source = Work(), talk(folder / "talk.mka")
    small = (*ONE, "pipeline.max_windows=1", "pipeline.max_utterances=1", "pipeline.max_videos=2")
    with sampled(folder, with_ray=mode != "inline") as samples:
        narrow, wide = (dub_all([source] * 6, folder / name, mode, *given) for name, given in (("a", small), ("b", ())))
    counted([*narrow, *wide], work)
    if [lines_of(outcome) for outcome in narrow] != [lines_of(outcome) for outcome in wide]:
        work.errors.append("queues of one must give the same lines; they gave others")
    return samples, work


def lines_of(outcome: ItemOutcome) -> list[tuple[str, float | None]]:
    made = outcome.manifest
    return [] if made is None else [(line.text, line.start_s) for dub in made.dubs for line in dub.utterances]


# --- the verdict


def verdicts(samples: Samples, num_dubs: int) -> dict[str, dict[str, Any]]:
    found = {}
    for name in samples.values:
        growth, mean = samples.growth(name)
        most = bound(name, mean, num_dubs)
        found[name] = {"growth": growth, "mean": mean, "bound": most, "is_flat": growth <= most}
    return found


def plot(path: Path, samples: Samples) -> None:
    names = list(samples.values)
    with drawn(path, rows=-(-len(names) // 2), columns=2, height=2.0) as axes:
        for axis, name in zip(axes.flat, names, strict=False):
            scale = 1e6 if name in ("memory", "scratch", "database", "object store") else 1
            axis.plot(thinned([at_s / 60 for at_s in samples.at_s]), thinned([v / scale for v in samples.values[name]]))
            axis.set(title=f"{name}, MB" if scale > 1 else name, xlabel="min", ylim=(0, None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--soak", type=float, metavar="MINUTES")
    mode.add_argument("--many", type=int, metavar="VIDEOS")
    mode.add_argument("--long", type=float, metavar="HOURS")
    mode.add_argument("--queue-one", action="store_true")
    parser.add_argument("--ray", action="store_true", help="on a Ray of this machine (not --soak)")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    ray_mode = "local" if given.ray else "inline"
    runs: Mapping[str, Callable[[Path], tuple[Samples, Work]]] = {
        "soak": lambda folder: soak(folder, given.soak),
        "many": lambda folder: many(folder, given.many, ray_mode),
        "long": lambda folder: long(folder, given.long, ray_mode),
        "queue_one": lambda folder: queue_one(folder, ray_mode),
    }
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "tmp").mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(Path(name) / "tmp")
        chosen = next(key for key in runs if getattr(given, key))
        samples, work = runs[chosen](Path(name))
    wall_s = time.monotonic() - start_s
    found = verdicts(samples, work.num_dubs + work.num_cancelled)
    is_flat = given.queue_one or all(each["is_flat"] for each in found.values())
    shows = not work.errors and work.num_dubs > 0 and is_flat
    counts = f"{work.num_dubs} dubs, {work.num_cancelled} cancelled, {len(work.errors)} failed"
    print(f"{chosen}: {counts} in {wall_s:.0f} s")
    for error in dict.fromkeys(work.errors):
        print(f"  {error}")
    for name, each in found.items():
        word = "" if given.queue_one else "flat" if each["is_flat"] else "GROWS"
        print(f"{name:13} {word:5} mean {each['mean']:.4g}, growth {each['growth']:+.3g}, bound {each['bound']:.3g}")
    if given.plot is not None:
        plot(given.plot, samples)
    if given.json:
        print(json.dumps({"run": chosen, "wall_s": wall_s, "num_dubs": work.num_dubs, "series": found, "shows": shows}))
    raise SystemExit(not shows)


if __name__ == "__main__":
    main()
