"""The asynchronous Python API: one set of model pools, shared by all inputs that are dubbed at the same time."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from pydantic import ValidationError

from actors import languages
from actors.errors import ConfigError, first_of
from cluster.batch.items import Item, jobs_of
from cluster.batch.staging import stage_in, stage_out
from cluster.config.load import item_config, load_config
from cluster.config.schema import Config
from cluster.pipeline import Job, PipelineEvent, dub
from cluster.pools.pool_set import PoolSet
from cluster.pools.stats import PoolStats
from cluster.steps.progress import Progress
from raydub.events import DubEvent, DubFinished, DubStarted, events_of
from raydub.ray_sharing import ray_for
from raydub.result import DubResult


class InputOptions(TypedDict, total=False):
    """Options of one input. All may be left out."""

    out: str | os.PathLike[str]
    """Folder or bucket; the input gets a folder of its own in it. Default: ``out``."""
    name: str
    """Name of that folder. Default: the source's name without its suffix."""
    source_language: str
    """Language spoken, BCP-47. Default: it is detected."""
    audio_track: int
    """Audio track, counted from 0. Default: the default track that has speech."""
    subtitles: str | os.PathLike[str]
    """Subtitles of the source (SRT, VTT, ASS) instead of transcription; needs ``source_language``."""
    target_subtitles: Mapping[str, str | os.PathLike[str]]
    """Target language to its subtitles, spoken as they are cut and timed, instead of translation."""
    speakers: int | str
    """Number of speakers to tell apart, ``auto``, or the path of an RTTM file with their turns. Default: the
    configuration's, which is 1."""
    voices: Mapping[str, str]
    """Target language to voice."""
    glossary: Mapping[str, Mapping[str, str]]
    """Target language to {term: translation}, for translation engines with that option."""
    settings: Mapping[str, Any]
    """Settings of the configuration for this input alone, as a tree: ``{"mixing": {"duck_db": -18}}``."""
    priority: int
    """-100 to 100. Work of a higher priority goes first in the pools. Default: 0."""


class Dubber:
    """Dubs inputs on one set of pools: models are loaded when first needed and stay loaded.

        async with raydub.Dubber(config="gpu") as dubber:
            async for event in dubber.stream("talk.mp4", to=["pt", "es"]):
                print(event)

    Calls may overlap: their batches are filled together, and at most ``pipeline.max_videos`` inputs are dubbed at a
    time. Inside a program that has initialised Ray, that Ray is used and left running; else Ray is started for the
    first dubber of the process and stopped after the last.

    Args:
        config: the name of a configuration (``offline``, ``gpu``), a YAML file, or a ``Config``.
        profile: ``quality``, ``balanced`` or ``speed``; None takes the configuration's.
        settings: changes of the configuration, as a tree or with dotted keys: ``{"ray.mode": "inline"}``.

    Raises ConfigError.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | Config = "offline",
        *,
        profile: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(config, Config):
            if profile is not None or settings:
                raise ConfigError("a Config must be complete; found profile or settings beside it; use load_config")
            self.config = config
        else:
            self.config = load_config(os.fspath(config), assignments_of(settings), profile)
        self._pools: PoolSet | None = None
        self._stack = AsyncExitStack()
        self._room = asyncio.Semaphore(self.config.pipeline.max_videos)
        self._tasks: set[asyncio.Task[DubResult]] = set()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(ray_for(self.config))
            self._pools = await stack.enter_async_context(PoolSet(self.config))
            stack.push_async_callback(self._cancel_all)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pools = None
        await self._stack.aclose()

    async def dub(
        self, source: str | os.PathLike[str], *, to: str | Sequence[str], **options: Unpack[InputOptions]
    ) -> DubResult:
        """Dub one input, and return when all results are written.

        Args:
            source: a path, or a URL (``s3://``, ``gs://``, ``https://``).
            to: the target language, or several, as BCP-47 tags.
            options: see ``InputOptions``.

        Raises ConfigError, MediaError, EngineLoadError, CapacityError: all are DubbingError. A line that cannot be
        dubbed raises nothing: it keeps its original sound and is flagged.
        """
        return await self.run(self._job(source, to, options))

    async def stream(
        self, source: str | os.PathLike[str], *, to: str | Sequence[str], **options: Unpack[InputOptions]
    ) -> AsyncGenerator[DubEvent]:
        """Dub one input, and give its events as they are ready: ``DubStarted`` first, ``DubFinished`` last.

        Leaving the loop early cancels the dub; ``contextlib.aclosing`` does so at once. Events wait in memory until
        they are taken, those of spoken utterances with their sound. Arguments and errors are those of ``dub``.
        """
        ready: asyncio.Queue[DubEvent | None] = asyncio.Queue()
        job = self._job(source, to, options)
        dubbing = asyncio.ensure_future(self.run(job, ready.put_nowait))
        dubbing.add_done_callback(lambda _: ready.put_nowait(None))
        try:
            while (event := await ready.get()) is not None:
                yield event
            yield DubFinished(result=await dubbing)
        finally:
            dubbing.cancel()
            await asyncio.wait([dubbing])

    def stats(self) -> list[PoolStats]:
        """The state of each pool: replicas, queue, batches, losses."""
        return [] if self._pools is None else self._pools.stats()

    async def run(self, job: Job, observe: Callable[[DubEvent], None] = lambda _: None) -> DubResult:
        """Dub a job of the pipeline. Most callers want ``dub`` or ``stream``."""
        pools = self._pools
        if pools is None:
            raise ConfigError("a Dubber must be entered before it dubs; found it closed; use `async with Dubber()`")
        task = asyncio.get_running_loop().create_task(self._run(job, pools, observe))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    async def _run(self, job: Job, pools: PoolSet, observe: Callable[[DubEvent], None]) -> DubResult:
        has_started = False

        def on_change(progress: Progress) -> None:
            nonlocal has_started
            if not has_started and progress.duration_s > 0:
                has_started = True
                observe(DubStarted(source=job.source_location, targets=job.targets, duration_s=progress.duration_s))

        def on_event(happened: PipelineEvent) -> None:
            for event in events_of(happened):
                observe(event)

        progress = Progress(job=job.source.name, priority=job.priority, on_change=on_change)
        async with self._room:
            try:
                config = item_config(self.config, job.settings)
                async with stage_in(job, config) as local:
                    manifest = await dub(local, config, pools, progress, on_event)
                    await stage_out(job, local)
            except ExceptionGroup as group:
                raise first_of(group) from group
        return DubResult(source=job.source_location, out=job.out_location, manifest=manifest)

    def _job(self, source: str | os.PathLike[str], to: str | Sequence[str], options: InputOptions) -> Job:
        tags = to.split(",") if isinstance(to, str) else to
        fields: dict[str, Any] = {**options, "to": [languages.normalise(tag.strip()) for tag in tags]}
        out = os.fspath(fields.pop("out", "out"))
        if (subtitles := fields.get("subtitles")) is not None:
            fields["subtitles"] = os.fspath(subtitles)
        if (by_target := fields.get("target_subtitles")) is not None:
            fields["target_subtitles"] = {tag: os.fspath(place) for tag, place in by_target.items()}
        try:
            item = Item.model_validate({"source": os.fspath(source), **fields})
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise ConfigError(f"{where} must be valid: {problem['msg']}; found {problem.get('input')!r}") from error
        [job] = jobs_of([item], out, self.config)
        return job

    async def _cancel_all(self) -> None:
        """End what still runs, before the pools close."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


def assignments_of(settings: Mapping[str, Any] | None) -> list[str]:
    """Settings as a tree or with dotted keys, in the form that ``--set`` takes."""
    return [f"{key}={json.dumps(value, default=os.fspath)}" for key, value in (settings or {}).items()]
