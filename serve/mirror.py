"""HLS that grows on one dispatcher, playable at every other: what is finished of it goes into the bucket."""

from __future__ import annotations

import asyncio
import logging
import queue
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cluster.streams import in_own_thread
from serve.bucket import BucketError
from serve.files import JobFiles
from serve.hls import INIT, MASTER, PLAYLIST

log = logging.getLogger(__name__)


@asynccontextmanager
async def mirrored(files: JobFiles) -> AsyncIterator[Callable[[Path], None] | None]:
    """To be told of a folder with a playlist whenever it may have grown; None where every dispatcher sees it anyway.

    Left by an exception, what was not put yet stays behind.
    """
    if files.bucket is None:
        yield None
        return
    grown: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
    putting = in_own_thread(lambda: _put_forever(files, grown), "mirror")
    try:
        yield grown.put
    except BaseException:
        grown.put(None)
        raise
    grown.put(None)
    await asyncio.shield(putting)


def _put_forever(files: JobFiles, grown: queue.SimpleQueue[Path | None]) -> None:
    known: dict[Path, bytes] = {}
    while (folder := grown.get()) is not None:
        try:
            if (playlist := _read(folder / PLAYLIST)) not in (None, known.get(folder)):
                _put(files, folder, playlist)
                known[folder] = playlist
        except (BucketError, OSError) as error:  # tried again when it has grown more, and with the results
            log.warning("live stream not mirrored folder=%s error=%s", folder.name, error)


def _put(files: JobFiles, folder: Path, playlist: bytes) -> None:
    """A playlist comes after all that it names. A segment is gone here once it is there: nobody reads it here."""
    names = [line for line in playlist.decode().splitlines() if line and not line.startswith("#")]
    for name in names:
        segment = folder / name
        if segment.exists():
            files.keep(segment, segment)
            segment.unlink()
    for name in (INIT, MASTER):
        if (data := _read(folder / name)) is not None:
            files.write(folder / name, data)
    files.write(folder / PLAYLIST, playlist)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
