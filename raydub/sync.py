"""Dub from code that is not asynchronous: a script, a thread, or a notebook whose event loop runs already."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Unpack

from anyio.from_thread import start_blocking_portal

from cluster.batch.redub import redub_job
from cluster.config.schema import Config
from raydub.dubber import Dubber, InputOptions, assignments_of
from raydub.result import DubResult

T = TypeVar("T")


def dub(
    source: str | os.PathLike[str],
    *,
    to: str | Sequence[str],
    config: str | os.PathLike[str] | Config = "offline",
    profile: str | None = None,
    **options: Unpack[InputOptions],
) -> DubResult:
    """Dub one video or audio file, and return when all results are written.

        result = raydub.dub("talk.mp4", to="pt")
        print(result.status, result.media)

    Models are loaded for this call and unloaded after it. For several inputs use ``Dubber``, which keeps them.

    Args:
        source: a path, or a URL (``s3://``, ``gs://``, ``https://``).
        to: the target language, or several, as BCP-47 tags.
        config: the name of a configuration, a YAML file, or a ``Config``.
        profile: ``quality``, ``balanced`` or ``speed``.
        options: see ``InputOptions``.

    Raises ConfigError, MediaError, EngineLoadError, CapacityError: all are DubbingError. A line that cannot be
    dubbed raises nothing: it keeps its original sound and is flagged.
    """

    async def work() -> DubResult:
        async with Dubber(config, profile=profile) as dubber:
            return await dubber.dub(source, to=to, **options)

    return _run(work)


def redub(
    manifest: str | os.PathLike[str],
    *,
    only: Sequence[str] = (),
    source: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> DubResult:
    """Dub again as a manifest says, after an edit of its texts, voices or times.

    Nothing is transcribed or translated; only lines that changed are spoken.

    Args:
        manifest: ``manifest.json`` of a dub.
        only: ids of utterances to speak anew though nothing changed, such as ``pt:u0012``.
        source: the input, if it is no longer where it was.
        out: another folder for the results; by default they replace those beside the manifest.
        settings: changes of the configuration that the manifest recorded.

    Raises the errors of ``dub``.
    """
    job, config = redub_job(
        Path(manifest),
        source=None if source is None else Path(source),
        out=None if out is None else Path(out),
        only=only,
        assignments=assignments_of(settings),
    )

    async def work() -> DubResult:
        async with Dubber(config) as dubber:
            return await dubber.run(job)

    return _run(work)


def _run(work: Callable[[], Awaitable[T]]) -> T:
    """Run to the end, in a thread where this one's event loop runs already."""

    async def main() -> T:
        return await work()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    with start_blocking_portal() as portal:  # an interrupt cancels the work, and waits for its end
        return portal.call(main)
