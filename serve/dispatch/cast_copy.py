"""The copy of a cast that one attempt at a dub reads and adds to; merged into the database after the dub."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from actors.errors import DubbingError
from cluster.casting.cast import voice_model
from cluster.casting.cast_file import CastFile, check_model, encoded, read_cast
from cluster.config.schema import Config
from serve.jobs.casts import Casts
from serve.jobs.database import until_it_answers

log = logging.getLogger(__name__)


@asynccontextmanager
async def with_cast(config: Config, casts: Casts, owner: str, name: str | None) -> AsyncIterator[Config]:
    """The configuration with a copy of the owner's cast as its cast file; without a name, as it is.

    After a block that raises nothing, the speakers that were added are kept. Raises ConfigError if the cast is of
    another voice model.
    """
    if name is None:
        yield config
        return
    model = await asyncio.to_thread(voice_model, config)
    before = await until_it_answers(lambda: casts.find(owner, name)) or CastFile(model=model)
    check_model(before, model, f"the cast {name}")
    with tempfile.TemporaryDirectory(prefix="raydub-") as folder:
        path = Path(folder) / "cast.json"
        await asyncio.to_thread(_write, before, path)
        # As `raydub dub --cast` does: a cast whose speakers were not told apart would be of no use.
        speakers = config.speakers.model_copy(update={"required": True, "cast": str(path)})
        yield config.model_copy(update={"speakers": speakers})
        await _keep(casts, owner, name, before, path, speakers.min_cast_likeness)


def _write(cast: CastFile, path: Path) -> None:
    path.write_bytes(encoded(cast))


async def _keep(casts: Casts, owner: str, name: str, before: CastFile, path: Path, min_likeness: float) -> None:
    """Add the speakers of the file to the cast. A dub does not fail for it."""
    try:
        after = await asyncio.to_thread(read_cast, path, before.model)
        if after != before:
            await until_it_answers(lambda: casts.merge(owner, name, before, after, min_likeness))
    except (DubbingError, SQLAlchemyError) as error:
        log.error("cast not updated, dub it again to have its speakers there cast=%s error=%s", name, error)
