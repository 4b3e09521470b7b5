"""Measures the time to the first sound of a dub over HTTP, and the service under load.

    python bench/bench_serve.py [--parts live,load,overhead] [--live-minutes 3] [--load-s 120] [--requests-per-s 50]
                                [--dub-s 20] [--talks FOLDER] [--mode local] [--json]

A real `raydub serve` in a process of its own, with the offline models and an empty store. With
RAY_SERVE_ENABLE_HA_PROXY=1 in the environment, HAProxy stands before it.

live: one talk of the given length. Seconds from its upload to the first line's event and to the first HLS
    segment, as shares of the time until it is done. Bound: 25 % each.
load: 12 dubs at once, and as many translations as embeddings beside them for the given time, sent on time
    whether or not the ones before were answered. Requests a second asked for and answered, answers by status, p50
    and p95 of their seconds, CPU of this client, requests per batch, growth of the service's memory over the second
    half. Bounds: no failure but 429; memory within 150 MB.
overhead: the median seconds of one translation over HTTP, one after another, against a pool of the same kind
    called directly, in a process that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx_sse
import psutil

from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.demo.talk import make_talk
from cluster.pools.pool_set import PoolSet
from cluster.pools.ray_session import ray_session
from serve.inference.inference import Inference
from serve.jobs.api_keys import hash_key

KEY = "the key of the bench"
HEADERS = {"authorization": f"Bearer {KEY}"}
MAX_SHARE = 0.25
MAX_GROWTH_BYTES = 150 * 1024 * 1024
NUM_DUBS = 12
PARTS = ("live", "load", "overhead")
NUM_OVERHEAD = 200
MEMORY_EVERY_S = 5.0
SENTENCE = "The harbour master counted the ships that came home before the storm"


def wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    while True:
        assert process.poll() is None, "the service ended"
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        time.sleep(0.2)


@contextlib.contextmanager
def service(folder: Path, mode: str, *, needs_key: bool = False) -> Iterator[tuple[str, psutil.Process]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = [f"ray.mode={mode}", f"serve.data_dir={folder}/data", f"store.url=file://{folder}/store"]
    key = f"{{name: bench, sha256: {hash_key(KEY)}, limits: {{requests_per_min: 100000}}}}"
    settings += [f"serve.auth.keys=[{key}]"] if needs_key else ["serve.auth.limits.requests_per_min=100000"]
    settings += [f"pipeline.max_videos={NUM_DUBS}"]
    command = [sys.executable, "-m", "serve.cli", "serve", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen([*command, *(part for each in settings for part in ("--set", each))])
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(process, url)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def memory_bytes(process: psutil.Process) -> int:
    """Memory of the service and all it started, shared pages counted once (PSS)."""
    found = 0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            found += each.memory_full_info().pss
    return found


async def create(client: httpx.AsyncClient, name: str, talk: bytes) -> str:
    answer = await client.post("/v1/dubs", data={"to": "pt", "source": "en"}, files={"file": (name, talk)})
    answer.raise_for_status()
    return str(answer.json()["id"])


async def ended(client: httpx.AsyncClient, dub_id: str) -> str:
    while True:
        dub = (await client.get(f"/v1/dubs/{dub_id}")).raise_for_status().json()
        if (state := str(dub["state"])) not in ("queued", "running"):
            if state != "done":
                print(dub_id, state, dub.get("error"), flush=True)
            return state
        await asyncio.sleep(0.5)


# --- live


async def live(url: str, talk: bytes) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=120) as client:
        start_s = time.monotonic()
        dub_id = await create(client, "talk.mp4", talk)
        line, segment = asyncio.create_task(first_line(client, dub_id)), asyncio.create_task(first_hls(client, dub_id))
        state = await ended(client, dub_id)
        wall_s = time.monotonic() - start_s
        line_s, segment_s = await line - start_s, await segment - start_s
    return {
        "state": state,
        "wall_s": wall_s,
        "first_line_s": line_s,
        "first_line_share": line_s / wall_s,
        "first_hls_s": segment_s,
        "first_hls_share": segment_s / wall_s,
    }


async def first_line(client: httpx.AsyncClient, dub_id: str) -> float:
    async with httpx_sse.aconnect_sse(client, "GET", f"/v1/dubs/{dub_id}/events") as source:
        async for event in source.aiter_sse():
            if event.event == "utterance":
                return time.monotonic()
    raise AssertionError("no line was ever told")


async def first_hls(client: httpx.AsyncClient, dub_id: str) -> float:
    while True:
        answer = await client.get(f"/v1/dubs/{dub_id}/hls/pt/index.m3u8")
        if answer.status_code == 200 and ".m4s" in answer.text:
            (await client.get(f"/v1/dubs/{dub_id}/hls/pt/segment00000.m4s")).raise_for_status()
            return time.monotonic()
        await asyncio.sleep(0.25)


# --- load


async def load(
    url: str, talks: list[bytes], load_s: float, requests_per_s: float, process: psutil.Process
) -> dict[str, Any]:
    # httpx takes half a core once requests wait: its pool walks all connections for each request.
    many = aiohttp.ClientSession(
        url, headers=HEADERS, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(120)
    )
    async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=120) as client, many:
        dubs = await asyncio.gather(*(create(client, "talk.mp4", talk) for talk in talks))
        answers: list[tuple[int, float]] = []
        memories: list[int] = []
        start_s, start_cpu_s = time.monotonic(), time.process_time()
        async with asyncio.TaskGroup() as group:
            watching = asyncio.create_task(watch_memory(process, memories))
            async for number in ticks(start_s, load_s, requests_per_s):
                group.create_task(one_request(many, number, answers))
        answered_s, client_cpu_s = time.monotonic() - start_s, time.process_time() - start_cpu_s
        watching.cancel()
        states = await asyncio.gather(*(ended(client, dub_id) for dub_id in dubs))
        pools = (await client.get("/v1/pools")).json()
    seconds = sorted(taken_s for status, taken_s in answers if status == 200)
    half = memories[len(memories) // 2 :]
    return {
        "dubs": dict(Counter(states)),
        "dubs_s": time.monotonic() - start_s,
        "asked_per_s": requests_per_s,
        "answered_per_s": len(answers) / answered_s,
        "answers": {str(status): number for status, number in Counter(status for status, _ in answers).items()},
        "p50_s": statistics.median(seconds),
        "p95_s": seconds[int(0.95 * len(seconds))],
        "client_cpu_s": client_cpu_s,
        "items_per_batch": {pool["name"]: pool["num_items"] / max(1, pool["num_batches"]) for pool in pools},
        "memory_bytes": memories[-1],
        "memory_growth_bytes": max(half) - half[0],
    }


async def watch_memory(process: psutil.Process, memories: list[int]) -> None:
    while True:
        memories.append(await asyncio.to_thread(memory_bytes, process))
        await asyncio.sleep(MEMORY_EVERY_S)


async def ticks(start_s: float, load_s: float, requests_per_s: float) -> AsyncIterator[int]:
    for number in range(round(load_s * requests_per_s)):
        await asyncio.sleep(max(0.0, start_s + number / requests_per_s - time.monotonic()))
        yield number


async def one_request(client: aiohttp.ClientSession, number: int, answers: list[tuple[int, float]]) -> None:
    start_s = time.monotonic()
    text = f"{SENTENCE}, {number} of them."  # each another one: what is stored would answer for the model
    path, content = "/embed", {"inputs": text}
    if number % 2:
        path, content = "/translate", {"q": text, "source": "en", "target": "pt"}
    try:
        async with client.post(path, json=content) as answer:
            await answer.read()
            status = answer.status
    except (aiohttp.ClientError, TimeoutError):
        status = 0
    answers.append((status, time.monotonic() - start_s))


# --- overhead


async def over_http(url: str) -> float:
    async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=60) as client:
        taken = []
        for number in range(NUM_OVERHEAD):
            start_s = time.monotonic()
            body = {"q": f"{SENTENCE}: {number}.", "source": "en", "target": "pt"}
            (await client.post("/translate", json=body)).raise_for_status()
            taken.append(time.monotonic() - start_s)
    return statistics.median(taken)


def directly(folder: Path, mode: str) -> float:
    config = load_config("offline", [f"ray.mode={mode}", f"store.url=file://{folder}/direct"])
    with ray_session(config) if mode != "inline" else contextlib.nullcontext():
        return asyncio.run(in_pool(config))


async def in_pool(config: Config) -> float:
    async with PoolSet(config) as pools:
        inference = Inference(config, pools)
        taken = []
        for number in range(NUM_OVERHEAD):
            start_s = time.monotonic()
            await inference.translate([f"{SENTENCE}: {number}."], source="en", target="pt")
            taken.append(time.monotonic() - start_s)
    return statistics.median(taken)


def talk_of(folder: Path, seconds: float) -> bytes:
    path = folder / f"talk-{seconds:g}.mp4"
    if not path.exists():
        make_talk(path, seconds)
    return path.read_bytes()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    source = options.talks or folder
    source.mkdir(parents=True, exist_ok=True)
    talks = {
        "live": [talk_of(source, options.live_minutes * 60)] if "live" in options.parts else [],
        "load": [talk_of(source, options.dub_s + number) for number in range(NUM_DUBS * ("load" in options.parts))],
    }
    with service(folder, options.mode, needs_key=True) as (url, process):
        for part in options.parts:
            match part:
                case "live":
                    result[part] = asyncio.run(live(url, talks[part][0]))
                case "load":
                    running = load(url, talks[part], options.load_s, options.requests_per_s, process)
                    result[part] = asyncio.run(running)
                case "overhead":
                    result[part] = {"http_s": asyncio.run(over_http(url))}
            print(part, result[part], flush=True)
    if "overhead" in result:
        took = result["overhead"]
        took["direct_s"] = directly(folder, options.mode)
        took["overhead_s"] = took["http_s"] - took["direct_s"]
        print("overhead", took, flush=True)
    return result


def shows(result: dict[str, Any]) -> bool:
    held = True
    if "live" in result:
        first = result["live"]
        held &= first["state"] == "done" and max(first["first_line_share"], first["first_hls_share"]) <= MAX_SHARE
    if "load" in result:
        load = result["load"]
        held &= set(load["answers"]) <= {"200", "429"} and set(load["dubs"]) == {"done"}
        held &= load["memory_growth_bytes"] <= MAX_GROWTH_BYTES
    return held


def parts(given: str) -> tuple[str, ...]:
    found = tuple(given.split(","))
    if not set(found) <= set(PARTS):
        raise argparse.ArgumentTypeError(f"parts must be of {', '.join(PARTS)}; found {given}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=parts, default=PARTS)
    parser.add_argument("--live-minutes", type=float, default=3.0)
    parser.add_argument("--load-s", type=float, default=120.0)
    parser.add_argument("--requests-per-s", type=float, default=50.0)
    parser.add_argument("--dub-s", type=float, default=20.0, help="the first of the 12 talks; each is 1 s longer")
    parser.add_argument("--talks", type=Path, help="kept here, and taken from here by the next run")
    parser.add_argument("--mode", default="local", choices=["local", "inline"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with tempfile.TemporaryDirectory() as name:
        result = measure(options, Path(name))
    result["shows"] = shows(result)
    print("shows", result["shows"])
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
