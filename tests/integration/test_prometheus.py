"""A real Prometheus scrapes a service without Ray and a Ray cluster while they dub: panels, rules, alerts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # read when Ray is imported
import ray

import raydub
from actors.errors import MediaError, ReplicaLostError
from cluster.config.schema import PoolConfig, StageConfig
from cluster.pools.pool import Pool
from cluster.pools.replicas import RayReplica
from serve.jobs.jobs import Jobs
from tests.api.server import PATIENCE_S, STANDINS, Running, finished, free_port, running
from tests.api.test_dubs import create, events_of
from tests.media import make_short_talk
from tests.standins import nodes
from tests.standins.batches import make_batch
from tests.standins.echo import Item
from tests.unit.test_monitoring import DASHBOARD, PROMETHEUS

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus")

NEED_A_GPU = {
    "sum by (pool) (rate(ray_raydub_pool_gpu_seconds_total[5m]))",
    "sum by (pool) (ray_raydub_replica_gpu_memory_bytes)",
    "max by (pool) (ray_raydub_replica_gpu_utilisation)",
}
"""Panels without data here. Their metrics are in tests/unit/prometheus_rules_test.yml."""
CHAOS = {"RaydubJobsFail", "RaydubReplicasDie", "RaydubServiceErrors"}
"""Alerts that fire within the time of a test; the others wait for minutes, and are in that file too."""
NO_MODELS = ("quality.check=none", "alignment.strategy=length", "price.cpu_hour=0.001")
WINDOW = "24s"


@dataclass(frozen=True)
class Prometheus:
    url: str

    def ask(self, query: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"]["result"])

    def firing(self) -> set[str]:
        return {found["metric"]["alertname"] for found in self.ask('ALERTS{alertstate="firing"}')}


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(what):  # noqa: ASYNC110
            await asyncio.sleep(0.2)


@contextlib.contextmanager
def prometheus(folder: Path, service_url: str, ray_port: int) -> Iterator[Prometheus]:
    """Prometheus with the files of deploy/, but other addresses and short times."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    # On a busy machine Ray takes more than a second to answer, and a scrape must not outlast its interval.
    config["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
    by_name = {scrape["job_name"]: scrape for scrape in config["scrape_configs"]}
    by_name["ray"]["file_sd_configs"][0]["files"] = [str(folder / "ray.json")]
    by_name["raydub"]["file_sd_configs"][0]["files"] = [str(folder / "inline.json")]
    (folder / "inline.json").write_text(json.dumps([{"targets": [service_url.removeprefix("http://")]}]))
    (folder / "ray.json").write_text(json.dumps([{"labels": {"job": "ray"}, "targets": [f"127.0.0.1:{ray_port}"]}]))
    rules = re.sub(r"\[\d+[mh]\]", f"[{WINDOW}]", (PROMETHEUS / "rules.yml").read_text())
    (folder / "rules.yml").write_text(re.sub(r"for: \d+m", "for: 1s", rules))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = ["--config.file", folder / "prometheus.yml", "--storage.tsdb.path", folder / "tsdb"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["prometheus", *map(str, options), f"--web.listen-address={address}"], stdout=log, stderr=log
        )
        try:
            yield Prometheus(f"http://{address}")
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("data"), *STANDINS, *NO_MODELS, config="base") as service:
        yield service


@pytest.fixture(scope="module")
def monitored(service: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with nodes.cluster(num_workers=0, metrics_interval_ms=500):
        [head] = ray.nodes()
        with prometheus(tmp_path_factory.mktemp("p"), service.url, head["MetricsExportPort"]) as server:
            yield server


async def dub_on_ray(folder: Path, **settings: str) -> raydub.DubResult:
    """Dub a video with subtitles, by a dubber of its own."""
    row = json.loads(make_batch(folder, 1, 3).read_text())
    given = dict(setting.split("=") for setting in (*STANDINS, *NO_MODELS))
    given |= {f"{task}.pool.num_cpus": "0.1" for task in ("translation", "speech")}
    given["store.url"] = str(folder / "store")
    async with raydub.Dubber(config="base", settings=given | settings) as dubber:
        return await dubber.dub(
            row["source"], to="pt", source_language="en", subtitles=row["subtitles"], out=folder / "out"
        )


@dataclass
class Watch:
    """What Prometheus has told up to now: queries without data yet, and alerts that fired."""

    server: Prometheus
    without_data: set[str]
    fired: set[str] = field(default_factory=set)

    def look(self) -> None:
        self.without_data -= {query for query in self.without_data if self.server.ask(query)}
        self.fired |= self.server.firing()

    async def until_fired(self, alert: str, happen: Callable[[], Awaitable[object]]) -> None:
        """Let something happen again and again: a counter that appears with a value has not grown by it."""
        async with asyncio.timeout(PATIENCE_S):
            while alert not in self.fired:
                await happen()
                await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def watching(server: Prometheus, queries: set[str]) -> AsyncIterator[Watch]:
    watch = Watch(server, set(queries))

    async def look_forever() -> None:
        while True:
            await asyncio.to_thread(watch.look)
            await asyncio.sleep(0.5)

    task = asyncio.create_task(look_forever())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_service_and_a_cluster_are_told_and_alerts_fire_and_clear(
    service: Running, monitored: Prometheus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = make_short_talk(tmp_path / "talk.mp4", 8.0)
    async with watching(monitored, asked() - NEED_A_GPU) as watch:
        with service.client() as client:
            dub_id = create(client, talk)["id"]
            await asyncio.to_thread(events_of, client, dub_id)
            assert finished(client, dub_id)["state"] == "done"
            assert (await dub_on_ray(tmp_path / "good")).status == "done"
            for job in ("ray", "raydub"):
                told = f'ray_raydub_jobs_total{{job="{job}", outcome="done"}}'
                await until(lambda told=told: bool(monitored.ask(told)))  # type: ignore[misc]
            assert watch.fired == set()
            await chaos(client, tmp_path, watch, monkeypatch)
        try:
            await until(lambda: not watch.without_data)
        except TimeoutError:
            pytest.fail(f"without data: {sorted(watch.without_data)}")
        assert watch.fired >= CHAOS
    await until(lambda: monitored.firing() == set())


def asked() -> set[str]:
    """The queries of all panels and rules, but alerts, which have data only while they fire."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    recorded = {rule["record"] for group in rules for rule in group["rules"] if "record" in rule}
    return {target["expr"] for panel in panels for target in panel["targets"]} | recorded


async def chaos(client: httpx.Client, folder: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines and dubs fail, replicas die, and the service's database is away."""
    degraded = await dub_on_ray(folder / "bad", **{"speech.engine": "tests.standins.refusing"})
    assert degraded.status == "degraded"
    (folder / "torn.mp4").write_bytes(b"torn")
    standins = dict(setting.split("=") for setting in STANDINS)
    async with raydub.Dubber(config="base", settings={**standins, "ray.mode": "inline"}) as dubber:

        async def fail() -> None:
            with pytest.raises(MediaError):
                await dubber.dub(folder / "torn.mp4", to="pt", out=folder / "torn")

        await watch.until_fired("RaydubJobsFail", fail)

    config = PoolConfig(replicas=2, num_cpus=0.1, restart_delay_s=0.05, max_losses=2)
    async with Pool("translation", StageConfig(engine="tests.standins.echo", pool=config), RayReplica) as pool:
        numbers = itertools.count()

        async def die() -> None:
            with pytest.raises(ReplicaLostError):
                await pool.submit(Item(value=next(numbers), die=True))

        await watch.until_fired("RaydubReplicasDie", die)

    async def away(*_: object, **__: object) -> None:
        raise ConnectionError

    async def ask() -> None:
        assert (await asyncio.to_thread(client.get, "/v1/dubs")).status_code == 503

    with monkeypatch.context() as patch:
        patch.setattr(Jobs, "page", away)
        await watch.until_fired("RaydubServiceErrors", ask)
