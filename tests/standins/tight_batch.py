"""A batch of short clips, of which each driver needs 4 CPUs with one replica of each pool, some of them halves."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import psutil
from ray.util.placement_group import placement_group_table

from cluster.batch.ledger import ItemStatus
from cluster.batch.runner import ItemOutcome, run
from cluster.config.load import load_config
from cluster.config.schema import Config
from cluster.pipeline import Job
from cluster.pools.stats import RoomWait
from tests.standins.sharded import statuses_of


def processes(name: str) -> list[psutil.Process]:
    """Ray workers of this process's cluster by the actor they are."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if " ".join(process.cmdline()).startswith(f"ray::{name}"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def jobs_of(folder: Path, clip: Path, number: int) -> list[Job]:
    jobs = []
    for index in range(number):
        source = Path(shutil.copy(clip, folder / f"{index}{clip.suffix}"))
        out = folder / "out" / str(index)
        jobs.append(Job(source=source, targets=("pt",), source_language="en", audio_track=None, out=out))
    return jobs


def config_of(log: Path, *settings: str) -> Config:
    """As the documented cluster: a driver and one replica of each pool need 4 CPUs, some of them halves."""
    pools = {"transcription": "hears", "diarization": "tells_apart", "translation": "translates"}
    cpus = {"transcription": 1, "diarization": 0.5, "translation": 0.5, "speech": 1}
    return load_config(
        "base",
        [
            "ray.mode=cluster",
            f"store.url={log.parent / 'store'}",
            "quality.check=none",
            "alignment.strategy=length",
            "translation.num_candidates=1",
            "speakers.count=auto",
            *(f"{task}.engine=tests.standins.{engine}" for task, engine in pools.items()),
            "speech.engine=tests.standins.counted_speaker",
            f"speech.options={{log: {log}}}",
            *(f"{task}.pool.num_cpus={number}" for task, number in cpus.items()),
            *settings,
        ],
    )


class TightBatch:
    """A batch under way, and what it told of its waits."""

    def __init__(self, folder: Path, clip: Path, *settings: str, num_videos: int = 4, num_drivers: int = 1) -> None:
        self.told: list[RoomWait] = []
        self.log = folder / "log"
        """Has a line for each spoken line, with its process first."""
        self._config = config_of(self.log, *settings)
        self._jobs = jobs_of(folder, clip, num_videos)
        self._num_drivers = num_drivers

    async def outcomes(self) -> list[ItemStatus]:
        return await statuses_of(self._jobs, self._config, self._num_drivers, on_waits=self._note)

    async def outcomes_here(self) -> list[ItemOutcome]:
        """As `raydub dub` on a cluster: without drivers, which leaves 3 CPUs that are needed."""
        return await run(self._jobs, self._config, lambda _: None, lambda _: None)

    def _note(self, waits: Sequence[RoomWait]) -> None:
        self.told += waits


def groups_left() -> list[str]:
    table = placement_group_table()
    return [each["state"] for each in table.values() if each["state"] != "REMOVED"]
