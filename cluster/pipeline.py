"""The whole way of one video: demux → transcribe → group → translate → align → speak → fit → mix → mux.

Every arrow is a bounded stream and all stages run at once: the first dubbed utterance is ready
while later speech is still being transcribed. One analysis serves all branches: each target language,
and each way to dub it where two are compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.types import ASR_HZ, Samples, Unit
from cluster import lease, outputs
from cluster.aligning import needs_embedding
from cluster.branches import Arm, Branch, branches_of
from cluster.checking import Checker, Retry
from cluster.config import Config
from cluster.cues import SpokenCue, read_cues
from cluster.decoding import Damage, decode_audio
from cluster.given import Given, afresh
from cluster.lease import Lease
from cluster.listening import HeardUnit, Listener, group_units, heard_segments
from cluster.logs import log_context
from cluster.manifest import Manifest
from cluster.meaning import Meaning
from cluster.media import probe
from cluster.mixdown import Mixdown, MixedBlock, mix_down
from cluster.mux import dub_suffix, output_suffix
from cluster.pace import Pace
from cluster.planning import Planner
from cluster.pools import JobPool, Pools, speech_stage
from cluster.progress import Progress
from cluster.quality import Measure
from cluster.results import Heard, write_results
from cluster.sounds import Sounds
from cluster.speaking import Ahead, Speaker, Spoken
from cluster.streams import flatten, from_thread, in_own_thread, ordered_map, singly, tap, tee, to_the_end, with_next
from cluster.subtitled import CueListener, cue_utterances, cue_windows
from cluster.subtitles import SubtitleConfig
from cluster.tracks import choose_audio_track
from cluster.translating import Translator, Utterance
from cluster.windows import cut_windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What of a job lies in a bucket or on a server: URLs, in place of the job's own paths. None for the latter."""

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
    """BCP-47; None to hear which it is."""
    audio_track: int | None
    """Counted from 0 among the audio tracks; None for the default one that has speech."""
    out: Path
    """Folder for the results, made whole or not at all."""
    arms: tuple[Arm, ...] = ()
    """Ways to dub that are compared on what was heard once; none for the configuration's own."""
    subtitles: Path | None = None
    """The source's, in ``source_language``: taken as what is said, instead of listening."""
    target_subtitles: Mapping[str, Path] = field(default_factory=dict)
    """Target → its subtitles: spoken as they are cut and timed, instead of translating."""
    given: Given | None = None
    """A manifest, perhaps edited: spoken again as it says, instead of listening and translating."""
    elsewhere: Elsewhere | None = None
    """None if all of it is here. ``staging.brought`` gives such a job; ``dub`` takes no other."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """A tree that lies over the configuration, for this job alone."""
    priority: int = 0
    """In a batch, higher ones begin first."""

    @property
    def source_place(self) -> str:
        """Path or URL."""
        return str(self.source) if self.elsewhere is None or self.elsewhere.source is None else self.elsewhere.source

    @property
    def out_place(self) -> str:
        """Path or URL."""
        return str(self.out) if self.elsewhere is None or self.elsewhere.out is None else self.elsewhere.out


Happening = HeardUnit | Utterance | Spoken | MixedBlock
"""What becomes of a video, as it is ready. Told on the event loop; mixed blocks on the thread that mixes them."""


async def dub(
    job: Job, config: Config, pools: Pools, progress: Progress, observe: Callable[[Happening], None] | None = None
) -> Manifest:
    """Dub one input.

    Raises MediaError, ConfigError, EngineLoadError, CapacityError (another run writes the same output), alone or
    in an exception group; a bad item only flags its utterance.
    """
    async with _workplace(job, config.pipeline.output_wait_s) as (folder, held), pools.lent_to(progress.asker):
        info = await asyncio.to_thread(probe, job.source, config.media)
        track = await asyncio.to_thread(choose_audio_track, info, job.audio_track, config.media)
        suffix = await asyncio.to_thread(output_suffix, info, config.media)
        own = await asyncio.to_thread(_own_text, job, info.duration_s, config.subtitles)
        sounds = Sounds(pools.store, job.source)
        tell = observe or _nobody
        progress.begin(info.duration_s)

        damage = Damage()
        audio = decode_audio(info, track, hz=ASR_HZ, channels="mono", config=config.media, damage=damage)
        source, said = await _said(job, own, audio, info.duration_s, config, pools, progress)
        units: list[Unit] = []
        grouped = tap(tap(said, tell), lambda heard: units.append(heard.unit))

        branches = branches_of(job.targets, job.arms, config)
        tracks: list[asyncio.Task[Mixdown]] = []
        checks: list[Mapping[str, Sequence[Measure]]] = []
        async with tee(grouped, len(branches), config.pipeline.max_utterances) as readers, asyncio.TaskGroup() as dubs:
            for branch, reader in zip(branches, readers, strict=True):
                lines, meaning = await _lines(job, own, reader, branch, info.duration_s, pools, progress)
                utterances = tap(lines, functools.partial(_each, tell))
                checker = Checker(branch.config, pools, branch.target, progress, dubs)
                spoken = tap(await _spoken(job, utterances, meaning, checker, branch, pools, progress), tell)
                checks.append(checker.found)

                mixing = mix_down(
                    checker.beside(spoken),
                    branch=branch,
                    info=info,
                    track=track,
                    audio=folder / f".{branch.name}{dub_suffix(suffix)}",
                    progress=progress,
                    observe=observe,
                    sounds=sounds,
                )
                tracks.append(dubs.create_task(mixing))

        await asyncio.to_thread(held.check)
        write = functools.partial(
            write_results,
            folder,
            job.out,
            info=info,
            suffix=suffix,
            track=track,
            heard=Heard(
                language=source.language,
                language_probability=source.language_probability,
                units=tuple(units),
                num_failed_windows=source.num_failed,
                damaged=bool(damage) or (job.given is not None and job.given.damaged),
            ),
            dubs=[mixed.result() for mixed in tracks],
            checks=checks,
            config=config,
            progress=progress,
            pools=pools.stats(),
            sounds=sounds,
        )
        return await to_the_end(in_own_thread(write, "write results"))


async def _said(
    job: Job,
    own: _OwnText,
    audio: Iterator[Samples],
    media_end_s: float,
    config: Config,
    pools: Pools,
    progress: Progress,
) -> tuple[Listener | CueListener | Given, AsyncIterator[HeardUnit]]:
    """What is said in the source: as a manifest or subtitles have it, else as it is heard."""
    max_windows = config.pipeline.max_windows
    if job.given is not None:
        windows = from_thread(cut_windows(audio, config.windows), max_windows)
        return job.given, job.given.units(windows, config, progress)
    if job.subtitles is not None:
        cues = CueListener(cues=own.source, language=job.source_language or "und", progress=progress)
        segments = cues.segments(from_thread(cue_windows(audio, own.source), max_windows))
        return cues, group_units(segments, config, media_end_s)
    windows = from_thread(cut_windows(audio, config.windows), max_windows)
    transcription = await pools.get("transcription", config.transcription, progress.asker)
    listener = Listener(config, transcription, job.source_language, job.targets, progress, own_text=own.by_target)
    transcripts = ordered_map(listener.watch(windows), listener.transcribe, max_windows)
    return listener, group_units(heard_segments(transcripts, config), config, media_end_s)


async def _lines(
    job: Job,
    own: _OwnText,
    units: AsyncIterator[HeardUnit],
    branch: Branch,
    media_end_s: float,
    pools: Pools,
    progress: Progress,
) -> tuple[AsyncIterator[Sequence[Utterance]], Meaning | None]:
    """What is to be said in the target language, and what compares meanings where there is a choice of texts."""
    config, target = branch.config, branch.target
    if job.given is not None:
        return singly(job.given.utterances(units, target, progress)), None
    if target in own.by_target:
        return singly(cue_utterances(units, own.by_target[target], target, media_end_s, progress)), None
    translation = await pools.get("translation", config.translation, progress.asker)
    embedding = await _embedding_pool(pools, config, progress)
    translator = Translator(config, translation, embedding, target, progress)
    lines = ordered_map(units, translator.translate, config.pipeline.max_utterances)
    return lines, None if embedding is None else Meaning(config, embedding)


async def _spoken(
    job: Job,
    utterances: AsyncIterator[Sequence[Utterance]],
    meaning: Meaning | None,
    checker: Checker,
    branch: Branch,
    pools: Pools,
    progress: Progress,
) -> AsyncIterator[Spoken]:
    """Every line planned, fitted to its time, and spoken."""
    config, target, max_utterances = branch.config, branch.target, branch.config.pipeline.max_utterances
    speech = await pools.get("speech", speech_stage(config, target), progress.asker)
    pace = Pace()
    planner = Planner(config, speech, target, progress, meaning, pace)
    planned = with_next(flatten(ordered_map(utterances, planner.plan, max_utterances)))
    speaker = Speaker(config, speech, target, progress, pace)
    speak: Callable[[Ahead], Awaitable[Spoken]] = speaker.speak
    if config.quality.retry:
        speak = Retry(speaker, checker).speak
    if job.given is not None:
        speak = afresh(speak, job.given.only, lambda ahead: ahead[0].utterance.id)
    return ordered_map(planned, speak, max_utterances)


def _nobody(happening: Happening) -> None:
    """Observes."""


def _each(observe: Callable[[Happening], None], lines: Iterable[Utterance]) -> None:
    for line in lines:
        observe(line)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OwnText:
    """What need not be heard or translated, because somebody brought it."""

    source: tuple[SpokenCue, ...]
    by_target: Mapping[str, tuple[SpokenCue, ...]]


def _own_text(job: Job, media_end_s: float, limits: SubtitleConfig) -> _OwnText:
    return _OwnText(
        source=() if job.subtitles is None else read_cues(job.subtitles, media_end_s, limits),
        by_target={target: read_cues(path, media_end_s, limits) for target, path in job.target_subtitles.items()},
    )


@contextlib.asynccontextmanager
async def _workplace(job: Job, wait_s: float) -> AsyncIterator[tuple[Path, Lease]]:
    """A folder to work in, while nobody else works on the same output."""
    with log_context(job=job.source.name):
        async with lease.held(job.out, wait_s) as held:
            with outputs.scratch_folder(job.out, alone=True) as folder:
                yield folder, held


async def _embedding_pool(pools: Pools, config: Config, progress: Progress) -> JobPool | None:
    """None where no embedding is asked for: no model is loaded then."""
    is_asked_for = needs_embedding(config.alignment) or config.translation.num_candidates > 1
    return await pools.get("embedding", config.embedding, progress.asker) if is_asked_for else None
