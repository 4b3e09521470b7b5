"""PostgreSQL fails over to its standby in the middle of jobs: none is lost, and none is done twice."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.ids import new_dub_id
from tests.api.postgres import Postgres, url_of
from tests.api.server import STANDINS, finished, running
from tests.api.test_dubs import create
from tests.media import AudioSpec, make_media, speech


@pytest.fixture
def servers() -> Iterator[tuple[Postgres, Postgres]]:
    """A primary, and a standby that has every commit before it is confirmed."""
    # Beside pytest's own folders, into which only we may look.
    folder = Path("/tmp") / f"raydub-{new_dub_id()}"
    primary = Postgres(folder / "primary")
    primary.start()
    standby = Postgres(folder / "standby", copy_of=primary)
    standby.start()
    primary.run_sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.run_sql("SELECT pg_reload_conf()")
    yield primary, standby
    for server in (primary, standby):
        with contextlib.suppress(Exception):
            server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def test_jobs_go_on_with_the_standby(
    servers: tuple[Postgres, Postgres], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAYDUB_DATABASE_URL", raising=False)
    primary, standby = servers
    sound = AudioSpec(samples=speech("Good morning, everyone, and welcome."))
    talk = make_media(tmp_path / "talk.mka", audio=[sound])
    settings = (f"serve.database_url={url_of(primary, standby)}", "serve.lease_s=1", "serve.poll_s=0.2")
    with running(tmp_path / "data", *STANDINS, *settings, config="base") as service, service.client() as client:
        made = [create(client, talk)["id"] for _ in range(2)]
        while client.get(f"/v1/dubs/{made[0]}").json()["state"] == "queued":
            time.sleep(0.02)
        primary.stop()
        assert client.get(f"/v1/dubs/{made[0]}").status_code == 503
        standby.promote()
        while client.get("/v1/dubs").status_code == 503:
            time.sleep(0.1)
        made.append(create(client, talk)["id"])
        for dub_id in made:
            assert finished(client, dub_id)["state"] == "done"
            told = client.get(f"/v1/dubs/{dub_id}/events").text
            assert (told.count("event: started"), told.count("event: done")) == (1, 1)
            assert client.get(f"/v1/dubs/{dub_id}").json()["revision"] == 1
