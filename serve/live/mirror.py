"""Publishes a growing HLS stream to the bucket, so that every dispatcher can play it."""

from __future__ import annotations

import asyncio
import logging
import queue
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cluster.media.hls import INIT, MASTER, PLAYLIST
from cluster.streams import in_own_thread
from serve.storage.bucket import BucketError
from serve.storage.files import JobFiles

log = logging.getLogger(__name__)


@asynccontextmanager
async def mirrored(files: JobFiles) -> AsyncIterator[Callable[[Path], None] | None]:
    """A function to call with a stream's folder whenever its playlist may have grown.

    None if every dispatcher sees the folder anyway. After an exception, the rest of the stream is not published.
    """
    if files.is_shared:
        yield None
        return
    grown: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
    publishing = in_own_thread(lambda: _publish_forever(files, grown), "mirror")
    try:
        yield grown.put
    except BaseException:
        grown.put(None)
        raise
    grown.put(None)
    await asyncio.shield(publishing)


def _publish_forever(files: JobFiles, grown: queue.SimpleQueue[Path | None]) -> None:
    known: dict[Path, bytes] = {}
    while (folder := grown.get()) is not None:
        try:
            if (playlist := _read(folder / PLAYLIST)) not in (None, known.get(folder)):
                _publish(files, folder, playlist)
                known[folder] = playlist
        except (BucketError, OSError) as error:  # tried again when it has grown, and with the results
            log.warning("live stream not mirrored folder=%s error=%s", folder.name, error)


def _publish(files: JobFiles, folder: Path, playlist: bytes) -> None:
    """Publish a playlist after its segments. Segments are then removed here, where nothing reads them."""
    names = [line for line in playlist.decode().splitlines() if line and not line.startswith("#")]
    for name in names:
        segment = folder / name
        if segment.exists():
            files.publish(segment, segment)
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
