"""What each release wrote is read by this one; what a newer one wrote is refused in words."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Engine, MetaData, Table, create_engine, delete, func, insert, select, update

from actors.errors import ConfigError
from actors.types import Task
from cluster import manifest as manifests
from cluster.batch.ledger import read_status
from cluster.manifest import SCHEMA_VERSION
from cluster.steps.from_manifest import read_manifest_source
from cluster.storage import codec
from cluster.storage.config import StoreConfig
from cluster.storage.keys import Keyring
from cluster.storage.store import open_store
from serve import migrations
from serve.jobs.database import Database
from serve.jobs.jobs import Jobs
from serve.jobs.leases import AttemptOutcome, Leases
from serve.jobs.tables import Base, DubState, Stray
from serve.settings import KeyLimits
from tests.golden import write
from tests.unit.manifests import sample_manifest
from tests.unit.storage.test_codec import same

MIGRATIONS = Path(migrations.__file__).parent
VERSIONS = sorted((MIGRATIONS / "versions").glob("[0-9]*.py"))
RELEASES = sorted(path for path in Path(write.__file__).parent.iterdir() if path.name.startswith("release_"))


def test_there_is_a_release_to_read() -> None:
    assert RELEASES


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_a_manifest_is_read_with_all_its_lines(release: Path) -> None:
    made = sample_manifest(12, ("pt", "ar"))
    read = manifests.read(release / "manifest.json")
    assert [line.text for dub in read.dubs for line in dub.utterances] == [
        line.text for dub in made.dubs for line in dub.utterances
    ]
    assert read_manifest_source(release / "manifest.json").targets == ("pt", "ar")


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_a_batch_goes_on_where_that_release_ended_it(release: Path) -> None:
    status = read_status(str(release))
    assert status is not None
    assert (status.state, status.fingerprint) == ("done", "0" * 64)


@pytest.mark.parametrize("task", write.RESULTS)
@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_stored_results_are_found_under_the_same_keys(release: Path, task: Task, tmp_path: Path) -> None:
    shutil.copytree(release / "store", tmp_path / "store")
    store = open_store(StoreConfig(url=str(tmp_path / "store")))
    assert store is not None
    request, result = write.RESULTS[task]
    found = store.get(Keyring(task, write.IDENTITY).key(request))
    assert found is not None
    assert same(codec.decode(found), result)


def restored(release: Path, folder: Path) -> str:
    """The URL of a database as that release left it."""
    with sqlite3.connect(folder / "raydub.db") as connection:
        connection.executescript((release / "database.sql").read_text(encoding="utf-8"))
    return f"sqlite+aiosqlite:///{folder / 'raydub.db'}"


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
async def test_jobs_of_a_database_go_on(release: Path, tmp_path: Path) -> None:
    async with Database.open(restored(release, tmp_path)) as database:
        jobs, leases = Jobs(database, 100), Leases(database=database, holder="new", lease_s=60.0)
        views, _ = await jobs.page("one", before=None, limit=9)
        assert {view.dub.name: view.dub.state for view in views} == {"done": "done", "waiting": "queued"}
        done = next(view.dub for view in views if view.dub.name == "done")
        assert [event.kind for event in await jobs.events_after(done.id, 0)] == ["started", "done"]
        assert [edit.text for edit in await jobs.edits(done.id)] == ["Bom dia."]
        again, is_new = await jobs.create(write.new("done"), KeyLimits())
        assert (again.dub.id, is_new) == (done.id, False)
        claimed = await leases.claim()
        assert claimed is not None
        assert (claimed[0].name, claimed[1]) == ("waiting", ("pt", "fr"))
        await leases.finish(claimed[0].id, AttemptOutcome(state=DubState.FAILED, event={}, error="no"))


def at_revision(file: Path, revision: str) -> tuple[Engine, MetaData]:
    """A new database with an older schema, and its tables as the release of then knew them."""
    engine, config, tables = create_engine(f"sqlite:///{file}"), AlembicConfig(), MetaData()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        tables.reflect(connection)
    return engine, tables


def row_of(table: Table, **given: object) -> dict[str, object]:
    """A row with the given values, and something in each other column that must have a value and has no default."""
    needed = [column for column in table.columns if not column.nullable and column.server_default is None]
    missing = [column for column in needed if column.name not in given]
    return {**{column.name: {} if column.type.python_type is dict else 0 for column in missing}, **given}


@pytest.mark.parametrize("revision", [path.name[:4] for path in VERSIONS[:-1]])
async def test_a_release_of_before_that_still_runs_goes_on_after_the_migration(revision: str, tmp_path: Path) -> None:
    """Its jobs are accepted, claimed by either, and ended by either, by the tables that it knows."""
    engine, old = at_revision(tmp_path / "raydub.db", revision)
    dubs, targets, events = (old.tables[name] for name in ("dubs", "targets", "events"))

    def accept(dub_id: str) -> None:
        with engine.begin() as connection:
            connection.execute(insert(dubs).values(row_of(dubs, id=dub_id, owner="one", name=dub_id, state="queued")))
            row = row_of(targets, dub_id=dub_id, language="pt", state="queued")
            connection.execute(insert(targets).values(row))

    accept("dub_before")
    async with Database.open(f"sqlite+aiosqlite:///{tmp_path / 'raydub.db'}") as database:
        jobs, leases = Jobs(database, 100), Leases(database=database, holder="new", lease_s=60.0)
        accept("dub_after")
        with engine.begin() as connection:  # the older one runs a job
            held = update(dubs).where(dubs.c.id == "dub_before").values(state="running", lease_owner="old")
            connection.execute(held.values(lease_until_s=time.time() + 60, num_attempts=1))
        claimed = await leases.claim()
        assert claimed is not None
        assert claimed[0].id == "dub_after", "and not the one that the older holds"
        assert await leases.claim() is None
        await leases.finish("dub_after", AttemptOutcome(state=DubState.DONE, output="0" * 32, event={}))
        with engine.begin() as connection:
            found = connection.execute(select(dubs.c.id, dubs.c.state, dubs.c.output).order_by(dubs.c.id)).all()
            assert found[0] == ("dub_after", "done", "0" * 32)
            row = row_of(events, dub_id="dub_before", number=1, kind="done")
            connection.execute(insert(events).values(row))
            ended = {"state": "done", "revision": 1, "num_events": 1, "lease_owner": None, "lease_until_s": 0.0}
            connection.execute(update(dubs).where(dubs.c.id == "dub_before").values(ended))
        assert {(view.dub.id, view.dub.state) for view in (await jobs.page("one", before=None, limit=9))[0]} == {
            ("dub_before", "done"),
            ("dub_after", "done"),
        }
        assert [event.kind for event in await jobs.events_after("dub_before", 0)] == ["done"]
    engine.dispose()


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
async def test_every_table_of_a_release_has_rows_to_read(release: Path, tmp_path: Path) -> None:
    written = (release / "database.sql").read_text(encoding="utf-8")
    async with Database.open(restored(release, tmp_path)) as database, database.transaction() as session:
        await session.execute(delete(Stray))  # found by cleanups alone
        for table in Base.metadata.sorted_tables:
            num_rows = await session.scalar(select(func.count()).select_from(table))
            is_known = f"CREATE TABLE {table.name} (" in written
            assert num_rows or table.name == "strays" or not is_known, table.name


async def test_a_database_of_a_newer_release_is_refused_unchanged(tmp_path: Path) -> None:
    url = restored(RELEASES[-1], tmp_path)
    async with Database.open(url):
        pass
    with sqlite3.connect(tmp_path / "raydub.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match=r"found 9999, of a newer version; run that version"):
        async with Database.open(url):
            pass
    with sqlite3.connect(tmp_path / "raydub.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


@pytest.mark.parametrize("more", [{}, {"a_field_of_tomorrow": 1}])
def test_a_manifest_of_a_newer_release_is_refused_by_its_number(more: dict[str, Any], tmp_path: Path) -> None:
    tree = json.loads((RELEASES[-1] / "manifest.json").read_text(encoding="utf-8"))
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**more, **tree, "schema_version": SCHEMA_VERSION + 1}), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"schema_version.*found {SCHEMA_VERSION + 1}; use the version that wrote"):
        read_manifest_source(path)
