"""One attempt at one job: its source brought here, dubbed, and what came out described."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from pathlib import Path

from actors.errors import ConfigError, MediaError
from cluster import outputs
from cluster.config import Config
from cluster.fetch import fetch
from cluster.given import Given, read_given
from cluster.inspection import inspect
from cluster.manifest import Manifest
from cluster.mixdown import MixedBlock
from cluster.pipeline import Happening, Job, dub
from cluster.pools import Pools
from cluster.progress import Progress
from cluster.streams import in_own_thread
from serve.database import until_it_answers
from serve.events import Recorder
from serve.files import JobFiles
from serve.jobs import DubOptions, Jobs
from serve.leases import Outcome
from serve.live import LiveStreams
from serve.mirror import mirrored
from serve.tables import Dub, DubState, Edit


class Work:
    def __init__(self, configs: Mapping[str | None, Config], files: JobFiles, jobs: Jobs, pools: Pools) -> None:
        self._configs = configs
        self._files = files
        self._jobs = jobs
        self._pools = pools

    async def make(self, row: Dub, languages: tuple[str, ...], recorder: Recorder) -> Outcome:
        """Anew; or, of one that was made and then edited, as its manifest says.

        Raises DubbingError, alone or in an exception group.
        """
        options = DubOptions.model_validate(row.options)
        config = with_voices(config_for(self._configs, options.profile), options.voices)
        try:
            given = await self._edited(row, languages)
            if given is not None:
                await asyncio.to_thread(given.check, config)
            return await self._make(row, options, languages, recorder, config, given)
        finally:
            await asyncio.to_thread(self._files.put_away, row.id)

    async def _make(
        self,
        row: Dub,
        options: DubOptions,
        languages: tuple[str, ...],
        recorder: Recorder,
        config: Config,
        given: Given | None,
    ) -> Outcome:
        source = await self._source(row, config)
        name, out = await asyncio.to_thread(self._files.new_output, row.id)
        job = Job(
            source=source,
            targets=languages,
            source_language=options.source_language,
            audio_track=options.audio_track,
            out=out,
            given=given,
        )
        progress = Progress(job=row.id, on_change=recorder.on_change)
        async with mirrored(self._files) as on_written:
            with LiveStreams(source, out, config, on_written) as live:

                def observe(happening: Happening) -> None:
                    if isinstance(happening, MixedBlock):
                        live.write(happening)
                    else:
                        recorder.observe(happening)

                manifest = await dub(job, config, self._pools, progress, observe)
        await in_own_thread(lambda: self._files.keep_results(out), "keep results")
        return _done(manifest, name)

    async def _source(self, row: Dub, config: Config) -> Path:
        """Uploaded, or fetched by an earlier attempt, or fetched now."""
        path = self._files.source(row.id)
        if await in_own_thread(lambda: self._files.bring(path), "bring source"):
            return path
        if row.source_url is None:
            raise MediaError("the uploaded file must still be here; it is gone; create the dub again")
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        aside = path.with_name(f"source.{row.lease_owner}")
        try:
            await fetch(row.source_url, aside, config.fetch)
            info = await asyncio.to_thread(inspect, aside, config.media)
            await until_it_answers(functools.partial(self._jobs.note_length, row.id, info.duration_s))
            return await in_own_thread(lambda: self._files.keep(aside, path), "keep source")
        except BaseException as error:
            await asyncio.to_thread(aside.unlink, missing_ok=True)
            if isinstance(error, MediaError):
                raise MediaError(error.message.replace(str(aside), "what the URL leads to")) from error
            raise

    async def _edited(self, row: Dub, languages: tuple[str, ...]) -> Given | None:
        if row.output is None:
            return None
        path = self._files.output(row.id, row.output) / outputs.MANIFEST_NAME
        await asyncio.to_thread(self._files.bring, path)
        given = await asyncio.to_thread(read_given, path)
        if set(given.targets) != set(languages):
            return None  # a language was added: all are made anew, from the store what is in it
        edits = {edit.utterance_id: edit for edit in await until_it_answers(lambda: self._jobs.edits(row.id))}
        return Given(manifest=edited(given.manifest, edits))


def edited(manifest: Manifest, edits: Mapping[str, Edit]) -> Manifest:
    """With the texts and voices that somebody wants of some lines."""
    dubs = []
    for made in manifest.dubs:
        lines = []
        for line in made.utterances:
            edit = edits.get(line.id)
            wanted = {} if edit is None else {"text": edit.text, "voice": edit.voice}
            lines.append(line.model_copy(update={key: value for key, value in wanted.items() if value is not None}))
        dubs.append(made.model_copy(update={"utterances": tuple(lines)}))
    return manifest.model_copy(update={"dubs": tuple(dubs)})


def config_for(configs: Mapping[str | None, Config], profile: str | None) -> Config:
    """Raises ConfigError if requests may not ask for this profile."""
    if profile not in configs:
        names = ", ".join(name for name in configs if name is not None)
        raise ConfigError(f"profile must be one of {names or 'none'}; found {str(profile)[:60]!r}")
    return configs[profile]


def with_voices(config: Config, voices: Mapping[str, str]) -> Config:
    """These languages' lines spoken by these voices; the engines and their pools stay the same."""
    speech = config.speech.model_copy(update={"voices": {**config.speech.voices, **voices}})
    return config.model_copy(update={"speech": speech})


def _done(manifest: Manifest, output: str) -> Outcome:
    return Outcome(
        state=DubState.DONE,
        output=output,
        duration_s=manifest.input.duration_s,
        source_language=manifest.input.language,
        event={
            "status": manifest.status,
            "flags": [flag.value for flag in manifest.flags],
            "source_language": manifest.input.language,
            "languages": [made.language for made in manifest.dubs],
            "wall_s": manifest.timings.wall_s,
            "first_utterance_s": manifest.timings.first_utterance_s,
            "realtime_factor": manifest.timings.realtime_factor,
        },
    )
