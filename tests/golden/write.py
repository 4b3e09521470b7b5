"""Writes what this release writes, once: ``python -m tests.golden.write``. The folder of a release never changes."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from actors.types import (
    Candidate,
    Clip,
    Embedding,
    EmbedRequest,
    PlanRequest,
    Reference,
    Task,
    TokenVectors,
    TranscribedSegment,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
    Word,
)
from cluster import manifest as manifests
from cluster.batch.ledger import ItemStatus
from cluster.casting.cast_file import CastFile, KnownSpeaker
from cluster.storage import codec
from cluster.storage.config import StoreConfig
from cluster.storage.keys import Keyring
from cluster.storage.store import open_store
from serve.ids import new_dub_id
from serve.jobs.casts import Casts
from serve.jobs.database import Database
from serve.jobs.jobs import DubOptions, Jobs, NewDub
from serve.jobs.leases import AttemptOutcome, Leases
from serve.jobs.tables import ApiKey, DubState, Instance
from serve.settings import KeyLimits
from tests.unit.manifests import sample_manifest

HERE = Path(__file__).parent
RELEASE = "release_0_1"
IDENTITY = {"engine": "golden", "revision": 1, "weights": "0" * 64}
SAMPLES = np.arange(-4, 4, dtype=np.float32) / 8
LIMITS = KeyLimits()

RESULTS: dict[Task, tuple[Any, Any]] = {
    "transcription": (
        TranscribeRequest(samples=SAMPLES, language=None),
        Transcript(
            language="en",
            language_probability=0.5,
            segments=(
                TranscribedSegment(
                    start_s=0.0,
                    end_s=1.5,
                    text="Good morning.",
                    words=(Word(text=" Good", start_s=0.0, end_s=0.5, probability=0.75),),
                    mean_log_probability=-0.25,
                    no_speech_probability=0.125,
                    compression_ratio=1.0,
                ),
            ),
        ),
    ),
    "translation": (
        TranslateRequest(text="Good morning.", source_language="en", target_language="pt", num_candidates=2),
        Translation(candidates=(Candidate(text="Bom dia.", score=-0.5, alignment=((0, 0, 1.0),)),)),
    ),
    "embedding": (
        EmbedRequest(text="Bom dia."),
        Embedding(
            vector=SAMPLES, tokens=TokenVectors(spans=np.array([[0, 3]], np.int64), vectors=SAMPLES.reshape(1, 8))
        ),
    ),
    "speech": (
        PlanRequest(text="Bom dia.", language="pt", reference=Reference(samples=SAMPLES, sample_hz=16_000, key="k")),
        Clip(samples=SAMPLES, sample_hz=24_000),
    ),
}
"""A request and a result of each task."""


def main() -> None:
    folder = HERE / RELEASE
    folder.mkdir()  # of a release that is written already it fails
    manifests.write(sample_manifest(12, ("pt", "ar")), folder / "manifest.json")
    status = ItemStatus(
        source="talk.mp4", out="talk", state="done", fingerprint="0" * 64, error=None, ended="2026-11-29T17:00:00Z"
    )
    (folder / "status.json").write_text(status.model_dump_json(indent=1) + "\n", encoding="utf-8")
    store = open_store(StoreConfig(url=str(folder / "store")))
    assert store is not None
    for task, (request, result) in RESULTS.items():
        store.put(Keyring(task, IDENTITY).key(request), codec.encode(result))
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "raydub.db"
        asyncio.run(fill(f"sqlite+aiosqlite:///{file}"))
        with sqlite3.connect(file) as connection:
            (folder / "database.sql").write_text("\n".join(connection.iterdump()) + "\n", encoding="utf-8")


async def fill(url: str) -> None:
    """One row or more in every table, as the service writes them."""
    async with Database.open(url) as database:
        jobs, leases = Jobs(database, 100), Leases(database=database, holder="d1", lease_s=60.0)
        made = [(await jobs.create(new(name), LIMITS))[0].dub.id for name in ("done", "waiting", "deleted")]
        assert await leases.claim() is not None
        await leases.note(made[0], 0, [("started", {"attempt": 1})], {"stages": {}}, num_spoken=3)
        done = AttemptOutcome(
            state=DubState.DONE,
            event={"languages": ["pt"]},
            output="0" * 32,
            duration_s=10.0,
            source_language="en",
            verdict={"outcome": "passed"},
        )
        await leases.finish(made[0], done)
        await jobs.edit("one", made[0], "pt", "pt:u0000", text="Bom dia.", voice=None)
        await jobs.delete("one", made[2])
        cast = CastFile(
            model="golden", speakers=(KnownSpeaker(name="C1", voices=("faber",), print=(1.0,), num_files=1),)
        )
        await Casts(database=database, limits_of=lambda owner: LIMITS).put("one", "show", cast)
        async with database.transaction() as session:
            session.add(Instance(number=1, id="f" * 32))
            limits = LIMITS.model_dump()
            session.add(ApiKey(id="k", name="one", sha256="0" * 64, limits=limits, created_s=1.0, revoked_s=None))


def new(name: str) -> NewDub:
    options = DubOptions(source_language="en", voices={"pt": "faber"})
    fields = {"webhook_url": "https://a.example/hook", "content_type": "video/mp4", "idempotency_key": name}
    return NewDub(
        id=new_dub_id(), owner="one", name=name, options=options, targets=("pt", "fr"), duration_s=10.0, **fields
    )


if __name__ == "__main__":
    main()
