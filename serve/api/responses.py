"""Sends files as HTTP answers, from a folder or a bucket, with ranges."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import quote

import anyio
from fastapi import Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from cluster.streams import close
from serve.storage.files import JobFiles, StoredObject

PART_BYTES = 2 * 2**20
"""Bytes read at a time, and so kept in memory for a slow reader."""


async def answer_with(
    files: JobFiles, path: Path, *, media_type: str | None = None, filename: str | None = None
) -> Response | None:
    """The file as an answer; None if there is no such file. With ``filename``, browsers save it under that name."""
    # Not asyncio's own threads: a bucket that does not answer would block them for everything else.
    found = await run_in_threadpool(files.find, path)
    if found is None:
        return None
    if isinstance(found, Path):
        return FileResponse(found, media_type=media_type, filename=filename)
    media_type = media_type or guess_type(filename or path.name)[0] or "application/octet-stream"
    return _StoredObjectResponse(found, media_type, filename)


class StreamedResponse(StreamingResponse):
    """Closes what it sends, also when the client hangs up: Starlette leaves that to the garbage collector."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        finally:
            with anyio.CancelScope(shield=True):  # the end of the connection interrupts every await but these
                await close(self.body_iterator)


class _StoredObjectResponse(Response):
    """Like ``FileResponse``, except that a list of ranges is answered with the whole file, as RFC 9110 allows."""

    def __init__(self, file: StoredObject, media_type: str, filename: str | None) -> None:
        super().__init__(media_type=media_type)
        self._file = file
        del self.headers["content-length"]
        self.headers["accept-ranges"] = "bytes"
        self.headers["etag"] = f'"{hashlib.sha256(file.identity.encode()).hexdigest()[:32]}"'
        if filename is not None:
            self.headers["content-disposition"] = f"attachment; filename*=utf-8''{quote(filename)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope)
        wanted = None
        if given.get("if-range") in (None, self.headers["etag"]):
            wanted = wanted_range(given.get("range"), self._file.num_bytes)
        headers = dict(self.headers)
        if wanted is not None and not wanted:
            headers["content-range"] = f"bytes */{self._file.num_bytes}"
            return await Response(status_code=416, headers=headers)(scope, receive, send)
        part = wanted or range(self._file.num_bytes)
        headers["content-length"] = str(len(part))
        if wanted is not None:
            headers["content-range"] = f"bytes {part[0]}-{part[-1]}/{self._file.num_bytes}"
        sent = StreamedResponse(self._read(part), 200 if wanted is None else 206, headers)
        return await sent(scope, receive, send)

    async def _read(self, part: range) -> AsyncIterator[bytes]:
        for start in part[::PART_BYTES]:
            yield await run_in_threadpool(self._file.read_part, start, min(start + PART_BYTES, part.stop))


def wanted_range(header: str | None, num_bytes: int) -> range | None:
    """The bytes that a ``Range`` header asks for, within the file. None means the whole file."""
    match = re.fullmatch(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", header or "", re.IGNORECASE)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return range(max(0, num_bytes - int(match[2])), num_bytes)
    start, end = int(match[1]), int(match[2]) + 1 if match[2] else num_bytes
    return None if end <= start and match[2] else range(min(start, num_bytes), min(end, num_bytes))
