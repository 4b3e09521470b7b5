"""The whole way of one video: demux → transcribe → group → translate → align → speak → fit → mix → mux.

Every arrow is a bounded stream and all stages run at once: the first dubbed utterance is ready
while later speech is still being transcribed. One analysis serves all branches: each target language,
and each way to dub it where two are compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.types import ASR_HZ, Unit
from cluster import lease, outputs
from cluster.aligning import needs_embedding
from cluster.branches import Arm, branches_of
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
from cluster.speaking import Ahead, Speaker, Spoken
from cluster.streams import flatten, from_thread, in_own_thread, ordered_map, singly, tap, tee, with_next
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
    job: Job, config: Config, pools: Pools, progress: Progress, observe: Callable[[Happening], None] = lambda _: None
) -> Manifest:
    """Dub one input.

    Raises MediaError, ConfigError, EngineLoadError, CapacityError (another run writes the same output), alone or
    in an exception group; a bad item only flags its utterance.
    """
    async with _workplace(job) as (folder, held):
        info = await asyncio.to_thread(probe, job.source, config.media)
        track = await asyncio.to_thread(choose_audio_track, info, job.audio_track, config.media)
        suffix = await asyncio.to_thread(output_suffix, info, config.media)
        own = await asyncio.to_thread(_own_text, job, info.duration_s, config.subtitles)
        progress.begin(info.duration_s)
        limit = config.pipeline

        damage = Damage()
        audio = decode_audio(info, track, hz=ASR_HZ, channels="mono", config=config.media, damage=damage)
        listener: Listener | CueListener | Given
        if job.given is not None:
            listener = job.given
            windows = from_thread(cut_windows(audio, config.windows), limit.max_windows)
            said = job.given.units(windows, config, progress)
        elif job.subtitles is None:
            windows = from_thread(cut_windows(audio, config.windows), limit.max_windows)
            transcription = await pools.get("transcription", config.transcription, progress.asker)
            listener = Listener(
                config, transcription, job.source_language, job.targets, progress, own_text=own.by_target
            )
            transcripts = ordered_map(listener.watch(windows), listener.transcribe, limit.max_windows)
            said = group_units(heard_segments(transcripts, config), config, info.duration_s)
        else:
            listener = CueListener(cues=own.source, language=job.source_language or "und", progress=progress)
            heard = listener.segments(from_thread(cue_windows(audio, own.source), limit.max_windows))
            said = group_units(heard, config, info.duration_s)

        units: list[Unit] = []
        grouped = tap(tap(said, observe), lambda heard: units.append(heard.unit))

        branches = branches_of(job.targets, job.arms, config)
        tracks: list[asyncio.Task[Mixdown]] = []
        checks: list[Mapping[str, Sequence[Measure]]] = []
        async with tee(grouped, len(branches), limit.max_utterances) as readers, asyncio.TaskGroup() as dubs:
            for branch, reader in zip(branches, readers, strict=True):
                meaning = None
                if job.given is not None:
                    lines = singly(job.given.utterances(reader, branch.target, progress))
                elif branch.target in own.by_target:
                    cues = own.by_target[branch.target]
                    lines = singly(cue_utterances(reader, cues, branch.target, info.duration_s, progress))
                else:
                    translation = await pools.get("translation", branch.config.translation, progress.asker)
                    embedding = await _embedding_pool(pools, branch.config, progress)
                    translator = Translator(branch.config, translation, embedding, branch.target, progress)
                    lines = ordered_map(reader, translator.translate, limit.max_utterances)
                    meaning = None if embedding is None else Meaning(branch.config, embedding)
                utterances = tap(lines, functools.partial(_each, observe))

                speech = await pools.get("speech", speech_stage(branch.config, branch.target), progress.asker)
                pace = Pace()
                planner = Planner(branch.config, speech, branch.target, progress, meaning, pace)
                planned = with_next(flatten(ordered_map(utterances, planner.plan, limit.max_utterances)))
                speaker = Speaker(branch.config, speech, branch.target, progress, pace)
                checker = Checker(branch.config, pools, branch.target, progress, dubs)
                speak: Callable[[Ahead], Awaitable[Spoken]] = speaker.speak
                if branch.config.quality.retry:
                    speak = Retry(speaker, checker).speak
                if job.given is not None:
                    speak = afresh(speak, job.given.only, lambda ahead: ahead[0].utterance.id)
                spoken = tap(ordered_map(planned, speak, limit.max_utterances), observe)
                checks.append(checker.found)

                mixing = mix_down(
                    checker.beside(spoken),
                    branch=branch,
                    info=info,
                    track=track,
                    audio=folder / f".{branch.name}{dub_suffix(suffix)}",
                    progress=progress,
                    observe=observe,
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
                language=listener.language,
                language_probability=listener.language_probability,
                units=tuple(units),
                num_failed_windows=listener.num_failed,
                damaged=bool(damage) or (job.given is not None and job.given.damaged),
            ),
            dubs=[mixed.result() for mixed in tracks],
            checks=checks,
            config=config,
            progress=progress,
            pools=pools.stats(),
        )
        return await _to_the_end(in_own_thread(write, "write results"))


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
async def _workplace(job: Job) -> AsyncIterator[tuple[Path, Lease]]:
    """A folder to work in, while nobody else works on the same output."""
    with log_context(job=job.source.name):
        async with lease.held(job.out) as held:
            with outputs.scratch_folder(job.out, alone=True) as folder:
                yield folder, held


async def _embedding_pool(pools: Pools, config: Config, progress: Progress) -> JobPool | None:
    """None where no embedding is asked for: no model is loaded then."""
    is_asked_for = needs_embedding(config.alignment) or config.translation.num_candidates > 1
    return await pools.get("embedding", config.embedding, progress.asker) if is_asked_for else None


async def _to_the_end(work: asyncio.Future[Manifest]) -> Manifest:
    """Wait even when cancelled: a thread that goes on writing would publish half of what is removed meanwhile."""
    try:
        return await asyncio.shield(work)
    finally:
        await asyncio.shield(asyncio.gather(work, return_exceptions=True))
