from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from serve.ids import new_dub_id
from serve.jobs.database import Database
from tests.api.postgres import Postgres
from tests.api.server import Running, running
from tests.media import make_short_talk

os.environ.setdefault("RAY_AUTH_MODE", "disabled")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("data")) as service:
        yield service


@pytest.fixture(scope="session")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some seconds of English, with a picture."""
    return make_short_talk(tmp_path_factory.mktemp("talk") / "talk.mp4")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    # Beside pytest's own folders, into which only we may look.
    folder = Path("/tmp") / f"raydub-{new_dub_id()}"
    server = Postgres(folder)
    server.start()
    yield server
    with contextlib.suppress(Exception):
        server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").url
    async with Database.open(url) as database:
        yield database
