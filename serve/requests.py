"""What routes share: who asks, the dispatcher, and a new dub checked and accepted whatever shape it came in."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request, Security, UploadFile
from fastapi.security import APIKeyHeader, HTTPBearer

from actors import languages
from actors.errors import ConfigError, MediaError
from cluster.config import Config
from cluster.fetch import check_url
from cluster.inspection import inspect
from cluster.manifest import printable
from cluster.pools import check_languages
from cluster.streams import in_own_thread, to_the_end
from serve.auth import Caller
from serve.bucket import BucketError
from serve.dispatcher import Dispatcher
from serve.errors import ConflictError, ServiceFullError
from serve.ids import new_dub_id
from serve.jobs import DubOptions, DubView, NewDub
from serve.work import config_for

MAX_NAME_CHARS = 200
MAX_TARGETS = 16
MAX_VOICES = 64

SECURITY = [
    Security(HTTPBearer(auto_error=False, description="An API key.")),
    Security(APIKeyHeader(name="xi-api-key", auto_error=False, description="The same, in another header.")),
]
"""For the OpenAPI document; the guard has checked the key before any route is met."""


def _dispatcher(request: Request) -> Dispatcher:
    found: Dispatcher = request.app.state.dispatcher
    return found


def _caller(request: Request) -> Caller:
    found: Caller = request.state.caller
    return found


TheDispatcher = Annotated[Dispatcher, Depends(_dispatcher)]
TheCaller = Annotated[Caller, Depends(_caller)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A dub as it was asked for, not yet checked."""

    targets: tuple[str, ...]
    file: UploadFile | None = None
    source_url: str | None = None
    name: str | None = None
    source_language: str | None = None
    profile: str | None = None
    voices: Mapping[str, str] | None = None
    audio_track: int | None = None
    idempotency_key: str | None = None
    webhook_url: str | None = None
    min_targets: int = 1


async def accept(wanted: Wanted, caller: Caller, dispatcher: Dispatcher) -> tuple[DubView, bool]:
    """The job, and whether it is new. Raises DubbingError: not to be done, or not now."""
    options, targets, config = _checked(wanted, dispatcher)
    fingerprint = await _fingerprint(wanted, options, targets)
    if wanted.idempotency_key is not None:
        known = await dispatcher.jobs.find_repeated(caller.owner, wanted.idempotency_key)
        if known is not None:
            if known.fingerprint != fingerprint:
                raise ConflictError(
                    f"an Idempotency-Key must belong to one request; this one was used for another, which is "
                    f"{known.id}; choose a new key"
                )
            return await dispatcher.jobs.get(caller.owner, known.id), False
    await dispatcher.jobs.check_room(caller.owner, caller.limits)
    dub_id = new_dub_id()
    async with _kept(wanted.file, dub_id, config, dispatcher) as source:
        new = NewDub(
            id=dub_id,
            owner=caller.owner,
            name=_name(wanted),
            options=options,
            targets=targets,
            source_url=wanted.source_url,
            content_type=wanted.file.content_type if wanted.file is not None else None,
            duration_s=source.duration_s,
            webhook_url=wanted.webhook_url,
            idempotency_key=wanted.idempotency_key,
            fingerprint=fingerprint,
        )

        async def create() -> tuple[DubView, bool]:
            view, is_new = await dispatcher.jobs.create(new, caller.limits)
            source.is_taken = is_new  # else the same request came twice at a time
            return view, is_new

        # To the end, whether anybody still waits for the answer or not: only then is it known whose the source is.
        view, is_new = await to_the_end(asyncio.ensure_future(create()))
    dispatcher.wake()
    return view, is_new


async def remove(dub_id: str, caller: Caller, dispatcher: Dispatcher) -> None:
    """Raises NotFoundError, ConflictError while it is under way."""
    await dispatcher.jobs.delete(caller.owner, dub_id)
    with contextlib.suppress(BucketError):  # tidying tries again
        await asyncio.to_thread(dispatcher.files.delete, dub_id)


def _checked(wanted: Wanted, dispatcher: Dispatcher) -> tuple[DubOptions, tuple[str, ...], Config]:
    """Raises ConfigError; loads nothing."""
    if (wanted.file is None) == (wanted.source_url is None):
        raise ConfigError("either a file or a URL must be given, and not both")
    if wanted.source_url is not None:
        if not dispatcher.settings.allow_source_urls:
            raise ConfigError("a file must be uploaded; this service fetches no URLs")
        check_url(wanted.source_url, dispatcher.config.fetch)
    if wanted.webhook_url is not None:
        if dispatcher.settings.webhook_secret is None:
            raise ConfigError("webhooks must be signed, and this service has no secret for it (RAYDUB_WEBHOOK_SECRET)")
        check_url(wanted.webhook_url, dispatcher.config.fetch)
    if not wanted.min_targets <= len(wanted.targets) <= MAX_TARGETS:
        raise ConfigError(
            f"{wanted.min_targets} to {MAX_TARGETS} languages to dub into must be given; found {len(wanted.targets)}"
        )
    targets = tuple(dict.fromkeys(languages.normalise(tag[:64]) for tag in wanted.targets))
    source = None if wanted.source_language is None else languages.normalise(wanted.source_language[:64])
    for target in targets:
        if source is not None and languages.same(source, target):
            raise ConfigError(f"a language to dub into must differ from the source's; found {target} and {source}")
    config = config_for(dispatcher.configs, wanted.profile)
    check_languages(config, source, targets)
    voices = dict(wanted.voices or {})
    if len(voices) > MAX_VOICES or any(len(tag) > 64 or len(voice) > 120 for tag, voice in voices.items()):
        raise ConfigError(f"voices must be at most {MAX_VOICES} names of at most 120 characters")
    options = DubOptions(source_language=source, profile=wanted.profile, voices=voices, audio_track=wanted.audio_track)
    return options, targets, config


@dataclass(slots=True)
class _Source:
    duration_s: float | None
    is_taken: bool = False
    """By a job."""


@contextlib.asynccontextmanager
async def _kept(file: UploadFile | None, dub_id: str, config: Config, dispatcher: Dispatcher) -> AsyncIterator[_Source]:
    """The upload saved as the job's source; removed again if none takes it.

    Raises MediaError if it is no media that can be dubbed.
    """
    if file is None:
        yield _Source(duration_s=None)
        return
    files = dispatcher.files
    if not await asyncio.to_thread(files.has_room):
        raise ServiceFullError("there must be room for an upload here, and there is none now; try again later", 30.0)
    source = _Source(duration_s=None)
    try:
        path: Path = await asyncio.to_thread(files.save_source, dub_id, file.file)
        info = await asyncio.to_thread(inspect, path, config.media)
        await to_the_end(in_own_thread(functools.partial(files.keep, path, path), "keep source"))
        await asyncio.to_thread(files.put_away, dub_id)
        source.duration_s = info.duration_s
        yield source
    except MediaError as error:
        raise MediaError(files.without_paths(dub_id, "the file", error.message)) from error
    finally:
        if not source.is_taken:
            with contextlib.suppress(BucketError):  # tidying tries again
                await asyncio.to_thread(files.delete, dub_id)


def _name(wanted: Wanted) -> str:
    """What people see. Of a file's name only the last part, though it becomes no path."""
    given = wanted.name or (wanted.file.filename if wanted.file is not None else None) or "untitled"
    last = given.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(char for char in printable(last) if char.isprintable())[:MAX_NAME_CHARS] or "untitled"


async def _fingerprint(wanted: Wanted, options: DubOptions, targets: tuple[str, ...]) -> str | None:
    """Of everything asked for, the file's bytes included."""
    if wanted.idempotency_key is None:
        return None
    fields: dict[str, Any] = {
        "options": options.model_dump(mode="json"),
        "to": targets,
        "url": wanted.source_url,
        "webhook": wanted.webhook_url,
    }
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    if wanted.file is not None:
        file = wanted.file.file
        digest.update((await asyncio.to_thread(hashlib.file_digest, file, "sha256")).digest())  # type: ignore[arg-type]
        file.seek(0)
    return digest.hexdigest()
