"""One attempt at a job: fetches its source, dubs it and publishes the results."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from actors.errors import MediaError
from cluster.config.schema import Config
from cluster.manifest import Manifest
from cluster.pipeline import Job, PipelineEvent, dub
from cluster.pools.pool_set import PoolSet
from cluster.speakers.config import speaker_settings
from cluster.speakers.turns import SPEAKER_NAME
from cluster.steps.from_manifest import ManifestSource, read_manifest_source
from cluster.steps.progress import Progress
from cluster.steps.records import MixedBlock
from cluster.storage import outputs
from cluster.storage.keys import salted
from cluster.streams import in_own_thread
from serve.dispatch.cast_copy import with_cast
from serve.jobs.casts import Casts
from serve.jobs.database import until_it_answers
from serve.jobs.events import Recorder
from serve.jobs.jobs import DubOptions, Jobs
from serve.jobs.leases import AttemptOutcome
from serve.jobs.tables import Dub, DubState, Edit
from serve.live.mirror import mirrored
from serve.live.streams import LiveStreams
from serve.settings import config_for
from serve.storage.files import JobFiles


class SourceGoneError(Exception):
    """The source is not in the data folder, and must be fetched again."""


class DubAttempts:
    """Makes dubs, for any job that this dispatcher has claimed.

    Without ``share_results``, those of one owner are not found for others.
    """

    def __init__(
        self,
        configs: Mapping[str | None, Config],
        files: JobFiles,
        jobs: Jobs,
        casts: Casts,
        pools: PoolSet,
        *,
        share_results: bool = True,
    ) -> None:
        self._configs = configs
        self._share_results = share_results
        self._files = files
        self._jobs = jobs
        self._casts = casts
        self._pools = pools

    async def run(self, row: Dub, languages: tuple[str, ...], recorder: Recorder) -> AttemptOutcome:
        """Make a dub from its source, or from its manifest if it was made before and then edited.

        Raises DubbingError, alone or in an exception group.
        """
        options = DubOptions.model_validate(row.options)
        config = with_voices(config_for(self._configs, options.profile), options.voices)
        config = with_speakers(config, options.speakers)
        try:
            async with with_cast(config, self._casts, row.owner, options.cast) as config:
                given = await self._edited(row, languages)
                if given is not None:
                    await asyncio.to_thread(given.check, config)
                with salted("" if self._share_results else row.owner):
                    return await self._run(row, options, languages, recorder, config, given)
        finally:
            await asyncio.to_thread(self._files.release, row.id)

    async def _run(
        self,
        row: Dub,
        options: DubOptions,
        languages: tuple[str, ...],
        recorder: Recorder,
        config: Config,
        given: ManifestSource | None,
    ) -> AttemptOutcome:
        source = await self._source(row)
        name, out = await asyncio.to_thread(self._files.new_output, row.id)
        job = Job(
            source=source,
            targets=languages,
            source_language=options.source_language,
            audio_track=options.audio_track,
            out=out,
            manifest=given,
        )
        progress = Progress(job=row.id, on_change=recorder.on_change)
        async with mirrored(self._files) as on_written:
            with LiveStreams(source, out, config, on_written) as live:

                def observe(event: PipelineEvent) -> None:
                    if isinstance(event, MixedBlock):
                        live.write(event)
                    else:
                        recorder.observe(event)

                manifest = await dub(job, config, self._pools, progress, observe)
        await in_own_thread(lambda: self._files.publish_results(out), "keep results")
        return _done(manifest, name)

    async def _source(self, row: Dub) -> Path:
        """The local path of the source, which was uploaded or fetched. Raises MediaError, SourceGoneError."""
        path = self._files.paths.source(row.id)
        if await in_own_thread(lambda: self._files.bring(path), "bring source"):
            return path
        if row.source_url is None:
            raise MediaError("the uploaded file must still exist; it is gone; create the dub again")
        raise SourceGoneError(row.id)

    async def _edited(self, row: Dub, languages: tuple[str, ...]) -> ManifestSource | None:
        if row.output is None:
            return None
        path = self._files.paths.output(row.id, row.output) / outputs.MANIFEST_NAME
        await asyncio.to_thread(self._files.bring, path)
        given = await asyncio.to_thread(read_manifest_source, path)
        if set(given.targets) != set(languages):
            return None  # a language was added: all are made again, with cached results from the store
        edits = {edit.utterance_id: edit for edit in await until_it_answers(lambda: self._jobs.edits(row.id))}
        return ManifestSource(manifest=edited(given.manifest, edits))


def edited(manifest: Manifest, edits: Mapping[str, Edit]) -> Manifest:
    """The manifest with the edited texts and voices."""
    dubs = []
    for made in manifest.dubs:
        lines = []
        for line in made.utterances:
            edit = edits.get(line.id)
            wanted = {} if edit is None else {"text": edit.text, "voice": edit.voice}
            lines.append(line.model_copy(update={key: value for key, value in wanted.items() if value is not None}))
        dubs.append(made.model_copy(update={"utterances": tuple(lines)}))
    return manifest.model_copy(update={"dubs": tuple(dubs)})


def with_voices(config: Config, voices: Mapping[str, str]) -> Config:
    """The configuration with these voices for their languages or speakers. Engines and pools stay the same."""
    of_speakers = {name: (voice,) for name, voice in voices.items() if SPEAKER_NAME.fullmatch(name)}
    of_languages = {tag: voice for tag, voice in voices.items() if tag not in of_speakers}
    speech = config.speech.model_copy(update={"voices": {**config.speech.voices, **of_languages}})
    speakers = config.speakers.model_copy(update={"voices": {**config.speakers.voices, **of_speakers}})
    return config.model_copy(update={"speech": speech, "speakers": speakers})


def with_speakers(config: Config, given: str | None) -> Config:
    """The configuration with this number of speakers, or ``auto``. Raises ConfigError."""
    if given is None:
        return config
    speakers = config.speakers.model_copy(update=speaker_settings(given))
    return config.model_copy(update={"speakers": speakers})


def _mean_quality(manifest: Manifest) -> dict[str, float]:
    """The mean of each measure over the lines of all languages."""
    sums: dict[str, tuple[float, int]] = {}
    for summary in (summary for made in manifest.dubs for summary in made.quality):
        if summary.value is not None and summary.num_measured:
            value, number = sums.get(summary.metric.value, (0.0, 0))
            sums[summary.metric.value] = value + summary.value * summary.num_measured, number + summary.num_measured
    return {metric: round(value / number, 4) for metric, (value, number) in sums.items()}


def _done(manifest: Manifest, output: str) -> AttemptOutcome:
    verdict = None if manifest.verdict is None else manifest.verdict.model_dump(mode="json")
    return AttemptOutcome(
        state=DubState.DONE,
        output=output,
        duration_s=manifest.input.duration_s,
        source_language=manifest.input.language,
        verdict=verdict,
        event={
            "status": manifest.status,
            "verdict": verdict,
            "flags": [flag.value for flag in manifest.flags],
            "source_language": manifest.input.language,
            "languages": [made.language for made in manifest.dubs],
            "wall_s": manifest.timings.wall_s,
            "first_utterance_s": manifest.timings.first_utterance_s,
            "realtime_factor": manifest.timings.realtime_factor,
            "quality": _mean_quality(manifest),
        },
    )
