"""Measures the cost of one key's attacks to another: the latency of requests, and the time to a dub's begin and end.

    python bench/bench_neighbours.py [--only flood] [--seconds 20] [--json]

A real `raydub serve --set ray.mode=inline` in a process of its own, with engines that stand in for models. The second
key asks and dubs alone, then during each attack of the first key, which runs in a further process, and alone again
after it: a flood of small dubs, dubs of an hour, uploads that trickle, event streams of dubs that wait, files that are
no media, a flood of speech. The first key has the limits of the configuration; the second may ask more often. What the
attacker computes is not the service's: it has the lowest priority.

Bound: medians within ``BOUND`` × of those alone, before and after; a difference below ``FLOOR_S`` does not count. Exit
status 1 above it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx

from bench.bench_serve import wait_until_ready
from serve.jobs.api_keys import hash_key
from tests import bombs, media
from tests.api.server import STANDINS, free_port

FIRST, SECOND = "the key that attacks", "the key that is measured"
BOUND = 2.0
FLOOR_S = 0.1
PATIENCE_S = 120.0
NUM_THREADS = 12
NUM_REQUESTS = 15
Times = Mapping[str, float]


@contextlib.contextmanager
def service(folder: Path) -> Iterator[str]:
    second = f"{{name: two, sha256: {hash_key(SECOND)}, limits: {{requests_per_min: 100000}}}}"
    keys = f"{{name: one, sha256: {hash_key(FIRST)}}}, {second}"
    settings = [f"serve.data_dir={folder}", "ray.mode=inline", "store.url=none", *STANDINS]
    settings += [f"serve.auth.keys=[{keys}]", "serve.storage.min_free_bytes=0"]
    port = free_port()
    command = [sys.executable, "-m", "serve.cli", "serve", "--config", "base", "--port", str(port)]
    command += ["--log-level", "error", *(part for each in settings for part in ("--set", each))]
    process = subprocess.Popen(command)
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def client_of(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=PATIENCE_S)


def talk(folder: Path) -> bytes:
    said = media.AudioSpec(samples=media.speech("Good morning, everyone, and welcome."))
    return media.make_media(folder / "talk.mka", audio=[said]).read_bytes()


def upload(client: httpx.Client, sound: bytes) -> httpx.Response:
    return client.post("/v1/dubs", data={"to": "pt", "source": "en"}, files={"file": ("a.mka", sound)})


# --- attacks: each is called again and again by every thread of the attacking process


def flood(client: httpx.Client, sound: bytes) -> None:
    made = upload(client, sound)
    if made.status_code == 429:
        time.sleep(0.05)


def huge(client: httpx.Client, sound: bytes) -> None:
    made = upload(client, bombs.hours_of_nothing(3600.0))
    if made.status_code == 429:
        time.sleep(0.05)


def trickle(client: httpx.Client, sound: bytes) -> None:
    url = client.base_url
    with socket.create_connection((url.host, url.port or 80)) as raw:
        head = "content-type: multipart/form-data; boundary=b\r\ncontent-length: 1000000\r\n"
        raw.sendall(f"POST /v1/dubs HTTP/1.1\r\nhost: localhost\r\nxi-api-key: {FIRST}\r\n{head}\r\n".encode())
        for _ in range(100):
            raw.sendall(b"-")
            time.sleep(0.1)


def streams(client: httpx.Client, sound: bytes) -> None:
    made = upload(client, sound)
    if made.status_code == 429:
        return time.sleep(0.05)
    with client.stream("GET", f"/v1/dubs/{made.json()['id']}/events") as answer:
        for _ in answer.iter_lines():
            pass


def failing(client: httpx.Client, sound: bytes) -> None:
    upload(client, sound[: len(sound) // 3][::-1])


def speech(client: httpx.Client, sound: bytes) -> None:
    said = {"model": "tts-1", "input": f"Good morning {time.monotonic()}. " * 20, "voice": "hum"}
    client.post("/v1/audio/speech", json=said)


ATTACKS: Mapping[str, Callable[[httpx.Client, bytes], None]] = {
    **{"flood": flood, "huge": huge, "trickle": trickle, "streams": streams, "failing": failing, "speech": speech}
}


def attack(url: str, name: str, sound: bytes) -> None:
    """Until this process is killed."""

    def repeat() -> None:
        with client_of(url, FIRST) as client:
            while True:
                with contextlib.suppress(httpx.HTTPError, OSError):
                    ATTACKS[name](client, sound)

    for _ in range(NUM_THREADS):
        threading.Thread(target=repeat).start()


# --- the second key


def measure(url: str, sound: bytes, seconds: float) -> Times:
    """Medians of the time of a request, of a dub's begin and of its end."""
    found: dict[str, list[float]] = {"request": [], "begin": [], "end": []}
    until_s = time.monotonic() + seconds
    with client_of(url, SECOND) as client:
        while time.monotonic() < until_s or len(found["end"]) < 2:
            start_s = time.monotonic()
            path = f"/v1/dubs/{upload(client, sound).raise_for_status().json()['id']}"
            while (state := client.get(path).json()["state"]) == "queued":
                time.sleep(0.02)
            found["begin"].append(time.monotonic() - start_s)
            for _ in range(NUM_REQUESTS):
                asked_s = time.monotonic()
                client.get("/v1/dubs").raise_for_status()
                client.post("/translate", json={"q": "Good.", "source": "en", "target": "pt"}).raise_for_status()
                found["request"].append((time.monotonic() - asked_s) / 2)
            while (state := client.get(path).json()["state"]) == "running":
                time.sleep(0.05)
            found["end"].append(time.monotonic() - start_s)
            assert state == "done", state
            client.delete(path).raise_for_status()
    return {name: statistics.median(values) for name, values in found.items()}


def ratios(alone: Times, attacked: Times) -> Times:
    """Ratio of each time to that alone; 1 for a difference that nobody notices."""
    return {name: 1.0 if attacked[name] - alone[name] < FLOOR_S else attacked[name] / alone[name] for name in alone}


def under_attack(url: str, name: str, folder: Path, sound: bytes, seconds: float) -> Times:
    command = [sys.executable, __file__, "--attack", name, "--url", url, "--talk", str(folder / "talk.mka")]
    attacker = subprocess.Popen(["nice", "-n", "19", *command])  # it stands for other machines
    try:
        time.sleep(min(5.0, seconds / 4))  # until it is under way
        assert attacker.poll() is None, "the attacker ended"
        return measure(url, sound, seconds)
    finally:
        attacker.kill()
        attacker.wait()


def clear(url: str) -> None:
    """End all that the attack left."""
    with client_of(url, FIRST) as client:
        while dubs := _answered(client, "GET", "/v1/dubs").json()["dubs"]:
            for dub in dubs:
                _answered(client, "POST", f"/v1/dubs/{dub['id']}/cancel")
                _answered(client, "DELETE", f"/v1/dubs/{dub['id']}")


def _answered(client: httpx.Client, method: str, path: str) -> httpx.Response:
    """The answer, once the key has a request left: the attack has used them up."""
    while (answer := client.request(method, path)).status_code == 429:
        time.sleep(0.2)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(ATTACKS))
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--attack", choices=list(ATTACKS), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--talk", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.attack is not None:
        return attack(given.url, given.attack, given.talk.read_bytes())
    found: dict[str, Times] = {}
    with tempfile.TemporaryDirectory() as name, service(Path(name) / "data") as url:
        sound = talk(Path(name))
        measure(url, sound, 0.0)  # warm
        before = measure(url, sound, given.seconds)
        for attack_name in [given.only] if given.only else ATTACKS:
            attacked = under_attack(url, attack_name, Path(name), sound, given.seconds)
            clear(url)
            after = measure(url, sound, given.seconds)
            alone = {key: statistics.mean((before[key], after[key])) for key in before}
            found[attack_name] = ratios(alone, attacked)
            shown = ", ".join(
                f"{key} {attacked[key]:.2f} s against {alone[key]:.2f} s alone: {ratio:.2f} ×"
                for key, ratio in found[attack_name].items()
            )
            print(f"{attack_name:8} {shown}", flush=True)
            before = after
    shows = all(ratio <= BOUND for times in found.values() for ratio in times.values())
    if given.json:
        print(json.dumps({"ratios": found, "bound": BOUND, "num_cpus": os.cpu_count(), "shows": shows}))
    raise SystemExit(not shows)


if __name__ == "__main__":
    main()
