"""Makes sure that a database and a data folder belong together: both have the same mark.

A dispatcher removes media that no job of its database has. With another database, such as one of a mistyped URL, these
would be everybody's.
"""

from __future__ import annotations

import asyncio
import uuid

from sqlalchemy import select, text

from actors.errors import ConfigError
from serve.jobs.database import Database
from serve.jobs.tables import Dub, Instance
from serve.storage.files import JobFiles

_ADD = text("INSERT INTO instance (number, id) VALUES (1, :id) ON CONFLICT DO NOTHING")


async def check_instance(database: Database, files: JobFiles) -> None:
    """Compare the marks; at their first use, mark both. Raises ConfigError if they do not belong together."""
    new_id = uuid.uuid4().hex
    async with database.transaction() as session:
        # Dispatchers that start at the same time wait here for the first one, which marks the folder.
        await session.execute(_ADD, {"id": new_id})
        in_database = (await session.execute(select(Instance.id))).scalar_one()
        has_jobs = (await session.execute(select(Dub.id).limit(1))).first() is not None
        mark = await asyncio.to_thread(files.read, files.paths.instance)
        in_folder = None if mark is None else mark.decode("ascii", "replace").strip()
        if in_folder == in_database:
            return
        has_media = bool(await asyncio.to_thread(files.dub_ids))
        is_new = in_database == new_id
        if not may_mark(is_new=is_new, has_jobs=has_jobs, in_folder=in_folder, has_media=has_media):
            raise _mismatch(files, None if is_new else in_database, in_folder)
        await asyncio.to_thread(files.write, files.paths.instance, in_database.encode())


def may_mark(*, is_new: bool, has_jobs: bool, in_folder: str | None, has_media: bool) -> bool:
    """True if the folder, which has another mark than the database or none, may get that of the database.

    ``is_new`` is true for a database without a mark until now. One with jobs was used by a release without marks.
    """
    if in_folder is not None:
        return False
    return not has_media or has_jobs if is_new else not has_media and not has_jobs


def _mismatch(files: JobFiles, in_database: str | None, in_folder: str | None) -> ConfigError:
    folder = "has no mark" if in_folder is None else f"has the mark {in_folder[:32]}"
    database = "is new" if in_database is None else f"has the mark {in_database}"
    if in_database is None:
        remedy = "if the database that it belongs to is lost, move the media away and remove the mark"
    else:
        remedy = f"if they do belong together, as after a restore, write {in_database} there"
    return ConfigError(
        "the database and serve.data_dir must belong together, because media without a job are removed; the database "
        f"{database}, and the data folder {folder} ({files.describe(files.paths.instance)}); correct "
        f"serve.database_url or serve.data_dir; {remedy}"
    )
