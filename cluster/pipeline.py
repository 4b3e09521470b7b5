"""The whole way of one video: demux → transcribe → group → translate → align → speak → fit → mix → mux.

Every arrow is a bounded stream and all stages run at once: the first dubbed utterance is ready
while later speech is still being transcribed. One analysis serves all branches: each target language,
and each way to dub it where two are compared.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from actors.types import ASR_HZ, Unit
from cluster import outputs
from cluster.branches import Arm, branches_of
from cluster.config import Config
from cluster.decoding import Damage, decode_audio
from cluster.listening import HeardUnit, Listener, group_units
from cluster.logs import log_context
from cluster.manifest import Manifest
from cluster.media import probe
from cluster.mixdown import Mixdown, MixedBlock, mix_down
from cluster.mux import dub_suffix, output_suffix
from cluster.pools import Pools, speech_stage
from cluster.progress import Progress
from cluster.results import Heard, write_results
from cluster.speaking import Speaker, Spoken
from cluster.streams import flatten, from_thread, in_own_thread, ordered_map, tap, tee
from cluster.tracks import choose_audio_track
from cluster.translating import Translator, Utterance
from cluster.windows import cut_windows


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


Happening = HeardUnit | Utterance | Spoken | MixedBlock
"""What becomes of a video, as it is ready. Told on the event loop; mixed blocks on the thread that mixes them."""


async def dub(
    job: Job, config: Config, pools: Pools, progress: Progress, observe: Callable[[Happening], None] = lambda _: None
) -> Manifest:
    """Dub one input.

    Raises MediaError, ConfigError, EngineLoadError, alone or in an exception group; a bad item
    only flags its utterance.
    """
    with log_context(job=job.source.name), outputs.scratch_folder(job.out) as folder:
        info = await asyncio.to_thread(probe, job.source, config.media)
        track = await asyncio.to_thread(choose_audio_track, info, job.audio_track, config.media)
        suffix = await asyncio.to_thread(output_suffix, info, config.media)
        progress.begin(info.duration_s)
        limit = config.pipeline

        damage = Damage()
        audio = decode_audio(info, track, hz=ASR_HZ, channels="mono", config=config.media, damage=damage)
        windows = from_thread(cut_windows(audio, config.windows), limit.max_windows)

        transcription = await pools.get("transcription", config.transcription)
        listener = Listener(config, transcription, job.source_language, job.targets, progress)
        heard = ordered_map(listener.watch(windows), listener.transcribe, limit.max_windows)

        units: list[Unit] = []
        grouped = tap(tap(group_units(heard, config, info.duration_s), observe), lambda heard: units.append(heard.unit))

        branches = branches_of(job.targets, job.arms, config)
        tracks: list[asyncio.Task[Mixdown]] = []
        async with tee(grouped, len(branches), limit.max_utterances) as readers, asyncio.TaskGroup() as dubs:
            for branch, reader in zip(branches, readers, strict=True):
                translation = await pools.get("translation", branch.config.translation)
                translator = Translator(branch.config, translation, branch.target, progress)
                utterances = tap(flatten(ordered_map(reader, translator.translate, limit.max_utterances)), observe)

                speech = await pools.get("speech", speech_stage(branch.config, branch.target))
                speaker = Speaker(branch.config, speech, branch.target, progress)
                spoken = tap(ordered_map(utterances, speaker.speak, limit.max_utterances), observe)

                mixing = mix_down(
                    spoken,
                    branch=branch,
                    info=info,
                    track=track,
                    audio=folder / f".{branch.name}{dub_suffix(suffix)}",
                    progress=progress,
                    observe=observe,
                )
                tracks.append(dubs.create_task(mixing))

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
                damaged=bool(damage),
            ),
            dubs=[mixed.result() for mixed in tracks],
            config=config,
            progress=progress,
            pools=pools.stats(),
        )
        return await _to_the_end(in_own_thread(write, "write results"))


async def _to_the_end(work: asyncio.Future[Manifest]) -> Manifest:
    """Wait even when cancelled: a thread that goes on writing would publish half of what is removed meanwhile."""
    try:
        return await asyncio.shield(work)
    finally:
        await asyncio.shield(asyncio.gather(work, return_exceptions=True))
