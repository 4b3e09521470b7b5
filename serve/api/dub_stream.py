"""``POST /v1/dub/stream``: takes media and sends the dubbed audio while it is made. Nothing is kept."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from actors import languages
from actors.errors import CapacityError, DubbingError, first_of
from cluster.audio.limiter import RATE_HZ
from cluster.config.schema import Config
from cluster.media.sandbox import inspect
from cluster.pipeline import Job, PipelineEvent, dub
from cluster.pools.routing import check_languages
from cluster.steps.progress import Progress
from cluster.steps.records import MixedBlock
from cluster.streams import closing, started
from serve.api.dependencies import SECURITY, CallerDep, DispatcherDep
from serve.api.intake import UploadRoute
from serve.api.problems import documented
from serve.api.responses import StreamedResponse
from serve.dispatch.dispatcher import Dispatcher
from serve.inference.audio_stream import FORMS, AudioFormat, StreamEncoder
from serve.jobs.api_keys import Caller
from serve.settings import config_for

BLOCKS_AHEAD = 30
"""Seconds of mixed audio that may wait for a slow reader, before the dub waits too."""
BUSY_RETRY_S = 10.0


class _BlockQueue:
    """A bounded queue of mixed blocks, from the mixing thread to the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[MixedBlock | None] = asyncio.Queue()
        self._room = threading.Semaphore(BLOCKS_AHEAD)
        self._is_open = True

    def put(self, event: PipelineEvent) -> None:
        """Called on the mixing thread, which waits while the reader is slow."""
        if isinstance(event, MixedBlock):
            self._room.acquire()
            if self._is_open:
                self._loop.call_soon_threadsafe(self._arrived.put_nowait, event)

    def end(self) -> None:
        """Close the queue and wake a mixing thread that waits in ``put``."""
        self._is_open = False
        self._room.release(2**16)
        self._arrived.put_nowait(None)

    async def blocks(self) -> AsyncIterator[MixedBlock]:
        while (block := await self._arrived.get()) is not None:
            self._room.release()
            yield block


class StreamQuery(BaseModel):
    to: str = Field(max_length=35, description="Language to dub into, BCP-47.")
    source: str | None = Field(default=None, max_length=35, description="Spoken language; detected if not given.")
    profile: str | None = Field(default=None, max_length=64)
    response_format: AudioFormat = "mp3"


class StreamSlots:
    """Places of streamed dubs on a dispatcher, of which one caller may have only some."""

    def __init__(self, max_streams: int) -> None:
        self._max_streams = max_streams
        self._num_taken: Counter[str] = Counter()

    def check(self, caller: Caller) -> None:
        """Raise CapacityError if no place is free for the caller."""
        limit = min(caller.limits.max_streamed_dubs, self._max_streams)
        if self._num_taken.total() >= self._max_streams or self._num_taken[caller.owner] >= limit:
            raise CapacityError(
                f"at most {self._max_streams} dubs are streamed at a time, and {limit} of one key; try again, or "
                "POST /v1/dubs",
                BUSY_RETRY_S,
            )

    @asynccontextmanager
    async def taken(self, caller: Caller) -> AsyncIterator[None]:
        """A place, for the time of the block. Raises CapacityError if none is free."""
        self.check(caller)
        self._num_taken[caller.owner] += 1
        try:
            yield
        finally:
            self._num_taken[caller.owner] -= 1


def _slots(request: Request) -> StreamSlots:
    slots: StreamSlots = request.app.state.stream_slots
    return slots


upload_router = APIRouter(prefix="/v1/dub", tags=["dubs"], dependencies=SECURITY, route_class=UploadRoute)


@upload_router.post(
    "/stream",
    response_class=StreamedResponse,
    responses={**documented(), 200: {"description": "Audio.", "content": {"application/octet-stream": {}}}},
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
)
async def stream(
    request: Request,
    caller: CallerDep,
    dispatcher: DispatcherDep,
    slots: Annotated[StreamSlots, Depends(_slots)],
    query: Annotated[StreamQuery, Query()],
) -> StreamedResponse:
    """Dub the body, sent whole or in chunks. The answer begins as soon as the first seconds are ready.

    The dub is cancelled if the client disconnects.
    """
    target, spoken = languages.normalise(query.to), languages.normalise(query.source) if query.source else None
    config = config_for(dispatcher.configs, query.profile)
    check_languages(config, spoken, (target,))
    slots.check(caller)
    sound = _dubbed(request, caller, dispatcher, config, slots, target, spoken, query.response_format)
    return StreamedResponse(await started(sound), media_type=FORMS[query.response_format].mime)


async def _dubbed(
    request: Request,
    caller: Caller,
    dispatcher: Dispatcher,
    config: Config,
    slots: StreamSlots,
    target: str,
    source_language: str | None,
    form: AudioFormat,
) -> AsyncIterator[bytes]:
    """The encoded dub. Raises DubbingError before the first bytes; a later failure ends the stream early."""
    # A place is taken only once the body is here, however long that takes.
    async with _received(request) as path, slots.taken(caller):
        info = await dispatcher.workers.inspecting.run(inspect, path, config.media)
        await dispatcher.jobs.charge(caller.owner, info.duration_s, caller.limits)
        job = Job(
            source=path,
            targets=(target,),
            source_language=source_language,
            audio_track=None,
            out=path.parent / "out",
        )
        queue = _BlockQueue()
        progress = Progress(job=f"stream {path.parent.name}")
        work = asyncio.create_task(dub(job, config, dispatcher.pools, progress, queue.put))
        work.add_done_callback(lambda _: queue.end())
        try:
            async with closing(_encoded(queue.blocks(), form)) as encoded:
                async for data in encoded:
                    yield data
            await work
        except* DubbingError as errors:
            raise first_of(errors) from None
        finally:
            work.cancel()
            queue.end()
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
    """The request's body in a temporary file."""
    with tempfile.TemporaryDirectory(prefix="raydub-") as folder:
        path = Path(folder) / "source"
        with path.open("wb") as file:
            async for chunk in request.stream():
                await asyncio.to_thread(file.write, chunk)
        yield path
