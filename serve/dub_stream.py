"""``POST /v1/dub/stream``: media in, dubbed sound out while it is made; nothing is kept."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from actors import languages
from actors.errors import CapacityError, DubbingError, first_of
from cluster.config import Config
from cluster.inspection import inspect
from cluster.limiter import RATE_HZ
from cluster.mixdown import MixedBlock
from cluster.pipeline import Happening, Job, dub
from cluster.pools import check_languages
from cluster.progress import Progress
from cluster.streams import started
from serve.audio_stream import FORMS, AudioFormat, StreamEncoder
from serve.auth import Caller
from serve.dispatcher import Dispatcher
from serve.errors import documented
from serve.requests import SECURITY, TheCaller, TheDispatcher
from serve.settings import ServeSettings
from serve.work import config_for

BLOCKS_AHEAD = 30
"""Seconds of mixed sound that wait for a slow reader; the dub then waits too."""
BUSY_RETRY_S = 10.0


class _Way:
    """Mixed blocks from the mixing thread to the event loop, a bounded number ahead."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[MixedBlock | None] = asyncio.Queue()
        self._room = threading.Semaphore(BLOCKS_AHEAD)
        self._is_open = True

    def put(self, happening: Happening) -> None:
        """On the mixing thread, which waits while the reader is slow."""
        if isinstance(happening, MixedBlock):
            self._room.acquire()
            if self._is_open:
                self._loop.call_soon_threadsafe(self._arrived.put_nowait, happening)

    def end(self) -> None:
        """No more will come; nobody who waits to put something is left waiting."""
        self._is_open = False
        self._room.release(2**16)
        self._arrived.put_nowait(None)

    async def blocks(self) -> AsyncIterator[MixedBlock]:
        while (block := await self._arrived.get()) is not None:
            self._room.release()
            yield block


def dub_stream_routes(settings: ServeSettings) -> APIRouter:
    router = APIRouter(prefix="/v1/dub", tags=["dubs"], dependencies=SECURITY)
    places = asyncio.Semaphore(settings.max_streamed_dubs)

    @router.post(
        "/stream",
        max_body_size=settings.max_upload_bytes,
        response_class=StreamingResponse,
        responses={**documented(), 200: {"description": "Audio.", "content": {"application/octet-stream": {}}}},
        openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
    )
    async def stream(
        request: Request,
        caller: TheCaller,
        dispatcher: TheDispatcher,
        to: Annotated[str, Query(max_length=35, description="Language to dub into, BCP-47.")],
        source: Annotated[str | None, Query(max_length=35, description="Language spoken; heard if not given.")] = None,
        profile: Annotated[str | None, Query(max_length=64)] = None,
        response_format: AudioFormat = "mp3",
    ) -> StreamingResponse:
        """Dub the body, sent whole or in chunks; the answer begins with the first seconds that are ready.

        Who goes away ends it.
        """
        target, spoken = languages.normalise(to), languages.normalise(source) if source else None
        config = config_for(dispatcher.configs, profile)
        check_languages(config, spoken, (target,))
        if places.locked():
            raise CapacityError(
                f"at most {settings.max_streamed_dubs} dubs are streamed at a time; try again, or POST /v1/dubs",
                BUSY_RETRY_S,
            )
        sound = _dubbed(request, caller, dispatcher, config, places, target, spoken, response_format)
        return StreamingResponse(await started(sound), media_type=FORMS[response_format].mime)

    return router


async def _dubbed(
    request: Request,
    caller: Caller,
    dispatcher: Dispatcher,
    config: Config,
    places: asyncio.Semaphore,
    target: str,
    source_language: str | None,
    form: AudioFormat,
) -> AsyncIterator[bytes]:
    """Raises DubbingError before the first bytes; a dub that fails later ends them early."""
    async with places, _received(request) as path:
        info = await asyncio.to_thread(inspect, path, config.media)
        await dispatcher.jobs.charge(caller.owner, info.duration_s, caller.limits)
        job = Job(
            source=path,
            targets=(target,),
            source_language=source_language,
            audio_track=None,
            out=path.parent / "out",
        )
        way = _Way()
        progress = Progress(job=f"stream {path.parent.name}")
        work = asyncio.create_task(dub(job, config, dispatcher.pools, progress, way.put))
        work.add_done_callback(lambda _: way.end())
        try:
            async for data in _encoded(way.blocks(), form):
                yield data
            await work
        except* DubbingError as errors:
            raise first_of(errors) from None
        finally:
            work.cancel()
            way.end()
            with suppress(BaseException):
                await work


async def _encoded(blocks: AsyncIterator[MixedBlock], form: AudioFormat) -> AsyncIterator[bytes]:
    encoder: StreamEncoder | None = None
    async for block in blocks:
        if encoder is None:
            encoder = StreamEncoder(form, hz=RATE_HZ, num_channels=block.samples.shape[1])
        if data := await asyncio.to_thread(encoder.encode, block.samples):
            yield data
    if encoder is not None:
        yield await asyncio.to_thread(encoder.finish)


@asynccontextmanager
async def _received(request: Request) -> AsyncIterator[Path]:
    """The body on disk, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="raydub-") as folder:
        path = Path(folder) / "source"
        with path.open("wb") as file:
            async for chunk in request.stream():
                await asyncio.to_thread(file.write, chunk)
        yield path
