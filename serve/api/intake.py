"""Checks requests for dubs, whichever API they come by, and accepts them as jobs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request, Response, UploadFile
from fastapi.routing import APIRoute
from sqlalchemy.exc import DBAPIError

from actors import languages
from actors.errors import ConfigError, MediaError
from cluster.casting.cast import voice_model
from cluster.config.schema import Config
from cluster.manifest import printable
from cluster.media.sandbox import inspect
from cluster.pools.routing import check_languages
from cluster.speakers.config import speaker_settings
from cluster.speakers.turns import SPEAKER_NAME
from cluster.storage.http import check_url
from cluster.streams import finish_before_cancel, in_own_thread
from cluster.tracing.spans import named_trace
from serve.dispatch.attempt import with_speakers, with_voices
from serve.dispatch.dispatcher import Dispatcher
from serve.errors import ConflictError, ServiceFullError
from serve.ids import new_dub_id
from serve.jobs.api_keys import Caller
from serve.jobs.database import UNREACHABLE
from serve.jobs.jobs import DubOptions, DubView, NewDub
from serve.settings import config_for
from serve.storage.bucket import BucketError
from serve.storage.files import JobFiles, has_free_bytes

MAX_NAME_CHARS = 200
MAX_TYPE_CHARS = 120
UNKNOWN_OUTCOME = (*UNREACHABLE, DBAPIError)
"""Errors after which a job may have been created all the same: the answer to a commit can get lost."""
MAX_TARGETS = 16
MAX_VOICES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DubRequest:
    """A request for a dub, not yet checked."""

    targets: tuple[str, ...]
    file: UploadFile | None = None
    source_url: str | None = None
    name: str | None = None
    source_language: str | None = None
    profile: str | None = None
    voices: Mapping[str, str] | None = None
    audio_track: int | None = None
    speakers: str | None = None
    cast: str | None = None
    idempotency_key: str | None = None
    webhook_url: str | None = None
    min_targets: int = 1


async def accept(request: DubRequest, caller: Caller, dispatcher: Dispatcher) -> tuple[DubView, bool]:
    """The job, and True if it is new. Raises DubbingError if it is refused."""
    options, targets, config = _checked(request, dispatcher)
    fingerprint = await _fingerprint(request, options, targets)
    if request.idempotency_key is not None:
        known = await dispatcher.jobs.find_repeated(caller.owner, request.idempotency_key)
        if known is not None:
            if known.fingerprint != fingerprint:
                raise ConflictError(
                    f"an Idempotency-Key must belong to one request; this one was used for another, {known.id}; "
                    "choose a new key"
                )
            return await dispatcher.jobs.get(caller.owner, known.id), False
    if options.cast is not None:
        await dispatcher.casts.check(caller.owner, options.cast, await asyncio.to_thread(voice_model, config))
    dub_id, trace = new_dub_id(), named_trace()
    async with _kept(request.file, dub_id, config, dispatcher) as source:
        new = NewDub(
            id=dub_id,
            owner=caller.owner,
            name=_name(request),
            options=options,
            targets=targets,
            source_url=request.source_url,
            content_type=_content_type(request.file),
            duration_s=source.duration_s,
            source_bytes=source.num_bytes,
            webhook_url=request.webhook_url,
            idempotency_key=request.idempotency_key,
            fingerprint=fingerprint,
            traceparent=None if trace is None else trace.header,
        )
        # Not cancelled with the request: the source must be removed if no job takes it.
        creating = asyncio.ensure_future(_create(new, source, caller, dispatcher))
        view, is_new = await finish_before_cancel(creating)
    dispatcher.runner.wake(view.dub)
    return view, is_new


async def _create(new: NewDub, source: _Source, caller: Caller, dispatcher: Dispatcher) -> tuple[DubView, bool]:
    try:
        view, is_new = await dispatcher.jobs.create(new, caller.limits)
    except UNKNOWN_OUTCOME:
        source.is_taken = True  # the job may be there; if it is not, the cleanup finds its media
        raise
    source.is_taken = is_new  # False if the same request came twice at the same time
    return view, is_new


async def check_space(dispatcher: Dispatcher, num_bytes: int) -> None:
    """Raise ServiceFullError if so many bytes do not fit beside those that must stay free."""
    keep_bytes = dispatcher.settings.storage.min_free_bytes

    def has_room() -> bool:
        return dispatcher.files.has_room(num_bytes) and has_free_bytes(
            Path(tempfile.gettempdir()), keep_bytes + num_bytes
        )

    if not await asyncio.to_thread(has_room):
        raise ServiceFullError("there must be disk space for an upload; there is none now; try again later", 30.0)


@asynccontextmanager
async def _admitted(request: Request, *, makes_dub: bool) -> AsyncIterator[None]:
    """Check space before the body of a request is read, and for a dub keep a place of its owner's.

    Raises ServiceFullError, CapacityError.
    """
    dispatcher: Dispatcher = request.app.state.dispatcher
    caller: Caller = request.state.caller
    length = request.headers.get("content-length", "")
    num_bytes = int(length) if length.isdigit() else None
    await check_space(dispatcher, dispatcher.settings.max_upload_bytes if num_bytes is None else num_bytes)
    if not makes_dub:
        yield
        return
    key = request.headers.get("idempotency-key")
    async with dispatcher.jobs.uploading(caller.owner, caller.limits, num_bytes or 0, key):
        yield


class UploadRoute(APIRoute):
    """A route whose body is read only if there is room for it. FastAPI reads a form before any dependency runs."""

    makes_dub = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def admitted(request: Request) -> Response:
            async with _admitted(request, makes_dub=self.makes_dub):
                return await handle(request)

        return admitted


class DubUploadRoute(UploadRoute):
    """The same, for a route that makes a dub: its owner's limits must allow one more."""

    makes_dub = True


async def remove(dub_id: str, caller: Caller, dispatcher: Dispatcher) -> None:
    """Delete a dub and its media. Raises NotFoundError, and ConflictError while it is running."""
    await dispatcher.jobs.delete(caller.owner, dub_id)
    with contextlib.suppress(BucketError):  # the cleanup tries again
        await asyncio.to_thread(dispatcher.files.delete, dub_id)


def _checked(request: DubRequest, dispatcher: Dispatcher) -> tuple[DubOptions, tuple[str, ...], Config]:
    """The options, the target languages and the configuration of a request. Raises ConfigError. Loads no model."""
    if (request.file is None) == (request.source_url is None):
        raise ConfigError("either a file or a URL must be given, and not both")
    if request.source_url is not None:
        if not dispatcher.settings.allow_source_urls:
            raise ConfigError("a file must be uploaded; this service fetches no URLs")
        check_url(request.source_url, dispatcher.config.fetch)
    if request.webhook_url is not None:
        if dispatcher.settings.webhook_secret is None:
            raise ConfigError("webhooks must be signed; this service has no secret for it (RAYDUB_WEBHOOK_SECRET)")
        check_url(request.webhook_url, dispatcher.config.fetch)
    if not request.min_targets <= len(request.targets) <= MAX_TARGETS:
        raise ConfigError(
            f"{request.min_targets} to {MAX_TARGETS} languages to dub into must be given; found {len(request.targets)}"
        )
    targets = tuple(dict.fromkeys(languages.normalise(tag[:64]) for tag in request.targets))
    source = None if request.source_language is None else languages.normalise(request.source_language[:64])
    for target in targets:
        if source is not None and languages.same(source, target):
            raise ConfigError(f"a language to dub into must differ from the source's; found {target} and {source}")
    voices = dict(request.voices or {})
    if len(voices) > MAX_VOICES or any(len(tag) > 64 or len(voice) > 120 for tag, voice in voices.items()):
        raise ConfigError(f"voices must be at most {MAX_VOICES} names of at most 120 characters")
    voices = {_speaker_or_language(name): voice for name, voice in voices.items()}
    config = config_for(dispatcher.configs, request.profile)
    check_languages(with_speakers(with_voices(config, voices), request.speakers), source, targets)
    if request.speakers is not None and "count" not in speaker_settings(request.speakers):
        raise ConfigError(f"speakers must be auto or a number over HTTP; found {request.speakers!r}")
    options = DubOptions(
        source_language=source,
        profile=request.profile,
        voices=voices,
        audio_track=request.audio_track,
        speakers=request.speakers,
        cast=request.cast,
    )
    return options, targets, config


def _speaker_or_language(name: str) -> str:
    return name if SPEAKER_NAME.fullmatch(name) else languages.normalise(name)


@dataclass(slots=True)
class _Source:
    duration_s: float | None = None
    num_bytes: int = 0
    is_taken: bool = False
    """True once a job owns it, or may own it."""


@contextlib.asynccontextmanager
async def _kept(file: UploadFile | None, dub_id: str, config: Config, dispatcher: Dispatcher) -> AsyncIterator[_Source]:
    """Save the upload as the job's source, and remove it if no job takes it.

    Raises MediaError if the file cannot be dubbed.
    """
    if file is None:
        yield _Source()
        return
    files = dispatcher.files
    await check_space(dispatcher, file.size or 0)
    source = _Source()
    try:
        path, source.num_bytes = await asyncio.to_thread(files.save_source, dub_id, file.file)
        info = await dispatcher.workers.inspecting.run(inspect, path, config.media)
        await finish_before_cancel(in_own_thread(lambda: _publish(files, dub_id, path), "publish source"))
        source.duration_s = info.duration_s
        yield source
    except MediaError as error:
        raise MediaError(files.paths.without_paths(dub_id, "the file", error.message)) from error
    finally:
        if not source.is_taken:
            with contextlib.suppress(BucketError):  # the cleanup tries again
                await asyncio.to_thread(files.delete, dub_id)


def _publish(files: JobFiles, dub_id: str, source: Path) -> None:
    files.publish(source, source)
    files.release(dub_id)


def _content_type(file: UploadFile | None) -> str | None:
    return None if file is None or file.content_type is None else printable(file.content_type)[:MAX_TYPE_CHARS]


def _name(request: DubRequest) -> str:
    """The name to show: the last part of the given name or of the file's. It is never used as a path."""
    given = request.name or (request.file.filename if request.file is not None else None) or "untitled"
    last = given.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(char for char in printable(last) if char.isprintable())[:MAX_NAME_CHARS] or "untitled"


async def _fingerprint(request: DubRequest, options: DubOptions, targets: tuple[str, ...]) -> str | None:
    """A hash of the whole request, with the bytes of its file."""
    if request.idempotency_key is None:
        return None
    fields: dict[str, Any] = {
        "options": options.model_dump(mode="json"),
        "to": targets,
        "url": request.source_url,
        "webhook": request.webhook_url,
    }
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    if request.file is not None:
        file = request.file.file
        digest.update((await asyncio.to_thread(hashlib.file_digest, file, "sha256")).digest())  # type: ignore[arg-type]
        file.seek(0)
    return digest.hexdigest()


@asynccontextmanager
async def on_disk(file: UploadFile) -> AsyncIterator[Path]:
    """The upload as a temporary file, whose name has nothing of the name that the sender gave."""
    with tempfile.TemporaryDirectory(prefix="raydub-") as folder:
        path = Path(folder) / "upload"
        await asyncio.to_thread(_copy, file, path)
        yield path


def _copy(file: UploadFile, path: Path) -> None:
    with path.open("wb") as target:
        shutil.copyfileobj(file.file, target)
