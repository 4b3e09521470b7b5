"""Dubs one video: demux → transcribe → group → translate → align → speak → fit → mix → mux.

Every arrow is a bounded stream and all steps run at once: the first dubbed utterance is ready while later speech is
still being transcribed. One transcription serves all branches: each target language, and each arm of a comparison.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from actors.types import ASR_HZ, Unit
from cluster.casting.cast import cast_of, remember_cast
from cluster.casting.voices import settled_stage, voice_for
from cluster.config.schema import Config
from cluster.logs import log_context
from cluster.manifest import Manifest
from cluster.media.decode import Damage
from cluster.media.plan import dub_suffix
from cluster.media.sandbox import decode_audio, inspect, plan_output
from cluster.metrics.jobs import measured
from cluster.pools.pool_set import JobPool, PoolSet
from cluster.speakers.prints import Print
from cluster.steps.align import needs_embedding
from cluster.steps.check import Checker
from cluster.steps.choose_track import choose_track
from cluster.steps.from_manifest import ManifestSource, bypass_cache_for
from cluster.steps.from_subtitles import SubtitleSource
from cluster.steps.mix import Mixdown, mix_down
from cluster.steps.mix_cache import MixCache
from cluster.steps.plan import Planner, lexicon_of
from cluster.steps.progress import Progress
from cluster.steps.records import Arm, Branch, HeardUnit, MixedBlock, SourceMedia, Spoken, Utterance, branches_of
from cluster.steps.retry import Retry
from cluster.steps.similarity import SimilarityScorer
from cluster.steps.source import DubContext, Source
from cluster.steps.speak import QueuedLine, Speaker, with_neighbours
from cluster.steps.transcribe import Listener
from cluster.steps.translate import Translator
from cluster.steps.write import FinishedDub, Transcription, write_media, write_results
from cluster.storage import output_lock, outputs
from cluster.storage.output_lock import Lease
from cluster.streams import finish_before_cancel, flatten, in_own_thread, ordered_map, singly, tap, tee
from cluster.subtitles.cues import SubtitleFile
from cluster.subtitles.parse import read_subtitles
from cluster.subtitles.records import GivenSubtitlesRecord
from cluster.timing.pace import Pace
from cluster.tracing import spans
from cluster.tracing.spans import TraceParent

Arguments = ParamSpec("Arguments")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLocations:
    """URLs of those files of a job that lie in a bucket or on a server; None for those at the job's own paths."""

    source: str | None = None
    out: str | None = None
    subtitles: str | None = None
    target_subtitles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One input, dubbed into each of the targets."""

    source: Path
    targets: tuple[str, ...]
    """BCP-47."""
    source_language: str | None
    """BCP-47; None to detect it."""
    audio_track: int | None
    """Counted from 0 among the audio tracks; None for the default one that has speech."""
    out: Path
    """Folder for the results, published whole or not at all."""
    arms: tuple[Arm, ...] = ()
    """Configurations that are compared on one transcription; none to dub by the batch's configuration."""
    subtitles: Path | None = None
    """Subtitles of the source in ``source_language``, used instead of transcription."""
    target_subtitles: Mapping[str, Path] = field(default_factory=dict)
    """Target → its subtitles, spoken as they are cut and timed, instead of a translation."""
    manifest: ManifestSource | None = None
    """A manifest, perhaps edited, that is spoken again instead of transcribing and translating."""
    remote: RemoteLocations | None = None
    """None if all files are local: ``dub`` takes only such jobs, and ``staging.stage_in`` makes them."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of this job alone, as a tree that is merged into the configuration."""
    priority: int = 0
    """Jobs of higher priority begin first in a batch."""

    @property
    def source_location(self) -> str:
        """Path or URL."""
        return str(self.source) if self.remote is None or self.remote.source is None else self.remote.source

    @property
    def out_location(self) -> str:
        """Path or URL."""
        return str(self.out) if self.remote is None or self.remote.out is None else self.remote.out


PipelineEvent = HeardUnit | Utterance | Spoken | MixedBlock
"""A result of one step, as soon as it is ready. Observers are called on the event loop; for mixed blocks, on the
thread that mixes them."""


async def dub(
    job: Job, config: Config, pools: PoolSet, progress: Progress, observe: Callable[[PipelineEvent], None] | None = None
) -> Manifest:
    """Dub one input.

    Raises MediaError, ConfigError, EngineLoadError, CapacityError (another run writes the same output), alone or
    in an exception group; a bad item only flags its utterance.
    """
    context = DubContext(config=config, pools=pools, progress=progress)
    async with measured(progress.number) as measure, _workspace(job, context) as (folder, lease):
        media = await open_media(job, context)
        notify, cache, damage = observe or _ignore, MixCache(pools.store, job.source), Damage()
        progress.begin(media.info.duration_s, media.describe(job.source_language, job.targets))

        audio = decode_audio(media.info, media.track, hz=ASR_HZ, channels="mono", config=config.media, damage=damage)
        source = await open_source(job, context, media.track.language)
        units: list[Unit] = []
        prints: dict[str, Print] = {}
        heard = tap(tap(source.units(audio, context), notify), functools.partial(_note_unit, units, prints))

        branches = branches_of(job.targets, job.arms, config)
        dubs: list[tuple[asyncio.Task[Mixdown], Checker]] = []
        async with tee(heard, len(branches), config.pipeline.max_utterances) as readers, asyncio.TaskGroup() as group:
            for branch, reader in zip(branches, readers, strict=True):
                checker = Checker(branch.config, pools, branch.target, progress, group)
                lines, similarity = await translate_branch(source, reader, branch, context)
                lines = tap(lines, functools.partial(_notify_each, notify))
                spoken = tap(await speak_branch(source, lines, similarity, checker, branch, context), notify)
                mixdown = mix_down(
                    checker.beside(spoken),
                    branch=branch,
                    media=media,
                    audio=folder / f".{branch.name}{dub_suffix(media.suffix)}",
                    progress=progress,
                    observe=observe,
                    cache=cache,
                )
                dubs.append((group.create_task(mixdown), checker))
            mixdowns = [await mixing for mixing, _ in dubs]  # the last checks go on beside the writing
            await asyncio.to_thread(lease.check)
            transcription = Transcription.of(source, units, is_damaged=bool(damage))
            written = await _writing(write_media, folder, media, transcription, mixdowns, config, cache)

        await asyncio.to_thread(lease.check)
        finished = [FinishedDub(mixdown=mixing.result(), checks=checker.found) for mixing, checker in dubs]
        results = folder, job.out, media, transcription, finished, written, context, pools.stats()
        with spans.span("write"):
            manifest = await _writing(write_results, *results)
        await asyncio.to_thread(_remember_cast, config, prints, finished)
        return measure.note_end(manifest)


async def _writing(write: Callable[Arguments, R], *args: Arguments.args, **kwargs: Arguments.kwargs) -> R:
    """Run ``write`` on a thread of its own, to its end even when cancelled."""
    return await finish_before_cancel(in_own_thread(functools.partial(write, *args, **kwargs), "write results"))


async def open_media(job: Job, context: DubContext) -> SourceMedia:
    """Probe the input and choose the track to dub. Raises MediaError, ConfigError."""
    config = context.config
    info = await asyncio.to_thread(inspect, job.source, config.media)
    is_heard = job.manifest is None and job.subtitles is None and job.audio_track is None and len(info.audio) > 1
    pool = await context.pool("transcription", config.transcription) if is_heard else None
    chosen = await choose_track(info, job.audio_track, job.source_language, job.targets, config.media, pool)
    plan = await asyncio.to_thread(plan_output, info, config.media)
    return SourceMedia(info=info, track=chosen.track, plan=plan, track_reason=chosen.reason, in_target=chosen.in_target)


async def open_source(job: Job, context: DubContext, tagged_language: str | None = None) -> Source:
    """The supplier of the job's speech: its manifest, its subtitles, or else transcription.

    ``tagged_language`` is the language of the chosen track by its container.
    """
    if job.manifest is not None:
        return job.manifest
    files = {target: await _read_subtitles(path, target, context) for target, path in job.target_subtitles.items()}
    cues_by_target = {target: file.cues for target, file in files.items()}
    given = tuple(GivenSubtitlesRecord.of(file, target) for target, file in files.items())
    if job.subtitles is not None:
        own = await _read_subtitles(job.subtitles, job.source_language, context)
        given = (GivenSubtitlesRecord.of(own, job.source_language), *given)
        language = job.source_language or "und"
        return SubtitleSource(cues=own.cues, language=language, cues_by_target=cues_by_target, given_subtitles=given)
    config, progress = context.config, context.progress
    pool = await context.pool("transcription", config.transcription)
    return Listener(
        config,
        pool,
        job.source_language,
        job.targets,
        progress,
        cues_by_target=cues_by_target,
        given_subtitles=given,
        tagged_language=tagged_language,
    )


async def _read_subtitles(path: Path, language: str | None, context: DubContext) -> SubtitleFile:
    config = context.config.subtitles
    return await asyncio.to_thread(read_subtitles, path, context.media_end_s, config, language)


async def translate_branch(
    source: Source, units: AsyncIterator[HeardUnit], branch: Branch, context: DubContext
) -> tuple[AsyncIterator[Sequence[Utterance]], SimilarityScorer | None]:
    """The lines of the branch, unit by unit: as the source brings them, else translated and aligned.

    Where there is a choice of translations, also the scorer to compare them by.
    """
    config, target = branch.config, branch.target
    lines = source.lines(units, target, context)
    if lines is not None:
        return singly(lines), None
    translation = await context.pool("translation", config.translation)
    embedding = await _embedding_pool(config, context)
    translator = Translator(config, translation, embedding, target, context.progress)
    translate = spans.traced(translator.translate, "translate", lambda heard: heard.unit.id, branch.name)
    translated = ordered_map(units, translate, config.pipeline.max_utterances)
    return translated, None if embedding is None else SimilarityScorer(config, embedding)


async def speak_branch(
    source: Source,
    lines: AsyncIterator[Sequence[Utterance]],
    similarity: SimilarityScorer | None,
    checker: Checker,
    branch: Branch,
    context: DubContext,
) -> AsyncIterator[Spoken]:
    """Every line planned, fitted to its time, and spoken."""
    config, target, max_utterances = branch.config, branch.target, branch.config.pipeline.max_utterances
    stage = await settled_stage(config, target, voice_for(config, target))
    speech = await context.pool("speech", stage)
    pace = Pace()
    cast = cast_of(config, target, stage) if config.speakers.has_cast else None
    lexicon = lexicon_of(config, target, stage)
    planner = Planner(config, speech, target, context.progress, similarity, pace, lexicon, cast)
    plan = spans.traced(planner.plan, "plan", lambda lines: lines[0].unit_id, branch.name)
    planned = flatten(ordered_map(lines, plan, max_utterances))
    speaker = Speaker(config, speech, target, context.progress, pace, lexicon)
    speak: Callable[[QueuedLine], Awaitable[Spoken]] = speaker.speak
    if config.quality.retry:
        speak = Retry(config.quality, speaker, checker).speak
    if source.only:
        speak = bypass_cache_for(speak, source.only)
    speak = spans.traced(speak, "speak", lambda queued: queued.line.utterance.id, branch.name)
    return ordered_map(with_neighbours(planned), speak, max_utterances)


def _remember_cast(config: Config, prints: Mapping[str, Print], dubs: Sequence[FinishedDub]) -> None:
    """Write the speakers and their voices to the cast file, if there is one."""
    voices: dict[str, list[str]] = {}
    for line in (line for dub in dubs for line in dub.utterances):
        spoken = voices.setdefault(line.speaker, [])
        if line.voice is not None and line.voice not in spoken:
            spoken.append(line.voice)
    remember_cast(config, prints, voices)


def _ignore(event: PipelineEvent) -> None:
    """The observer of a dub that nobody observes."""


def _note_unit(units: list[Unit], prints: dict[str, Print], heard: HeardUnit) -> None:
    unit = heard.unit
    units.append(unit)
    if heard.print is not None:
        prints[unit.speaker] = heard.print
    spans.note("group", item=unit.id, start_s=unit.segments[0].start_s, end_s=unit.segments[-1].end_s)


def _notify_each(notify: Callable[[PipelineEvent], None], lines: Iterable[Utterance]) -> None:
    for line in lines:
        notify(line)


@contextlib.asynccontextmanager
async def _workspace(job: Job, context: DubContext) -> AsyncIterator[tuple[Path, Lease]]:
    """A scratch folder, the lock of the output, and the pools, for as long as the job needs them."""
    caller = spans.named_trace()
    own = TraceParent.inside(caller)
    recorded = spans.root_span(context.pools.tracer.sink, own, caller, track=context.track)
    with log_context(job=job.source.name, trace=own.trace_id), recorded:
        async with output_lock.held(job.out, context.config.pipeline.output_wait_s) as lease:
            with outputs.scratch_folder(job.out, alone=True) as folder:
                async with context.pools.reserved_for(context.progress.job_priority):
                    yield folder, lease


async def _embedding_pool(config: Config, context: DubContext) -> JobPool | None:
    """None where no embedding is asked for: no model is loaded then."""
    is_asked_for = needs_embedding(config.alignment) or config.translation.num_candidates > 1
    return await context.pool("embedding", config.embedding) if is_asked_for else None
