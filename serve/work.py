"""One attempt at one job: its source brought here, dubbed, and what came out described."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from actors.errors import ConfigError, MediaError
from cluster.config import Config
from cluster.manifest import Manifest
from cluster.mixdown import MixedBlock
from cluster.pipeline import Happening, Job, dub
from cluster.pools import Pools
from cluster.progress import Progress
from serve.events import Recorder
from serve.files import JobFiles
from serve.jobs import DubOptions
from serve.leases import Outcome
from serve.live import LiveStreams
from serve.settings import ServeSettings
from serve.tables import Dub, DubState


class Work:
    def __init__(
        self, settings: ServeSettings, configs: Mapping[str | None, Config], files: JobFiles, pools: Pools
    ) -> None:
        self._settings = settings
        self._configs = configs
        self._files = files
        self._pools = pools

    async def make(self, row: Dub, languages: tuple[str, ...], recorder: Recorder) -> Outcome:
        """Raises DubbingError, alone or in an exception group."""
        options = DubOptions.model_validate(row.options)
        config = with_voices(config_for(self._configs, options.profile), options.voices)
        source = await self._source(row)
        name, out = self._files.new_output(row.id)
        job = Job(
            source=source,
            targets=languages,
            source_language=options.source_language,
            audio_track=options.audio_track,
            out=out,
        )
        progress = Progress(job=row.id, on_change=recorder.on_change)
        with LiveStreams(source, out, config) as live:

            def observe(happening: Happening) -> None:
                if isinstance(happening, MixedBlock):
                    live.write(happening)
                else:
                    recorder.observe(happening)

            manifest = await dub(job, config, self._pools, progress, observe)
        return _done(manifest, name)

    async def _source(self, row: Dub) -> Path:
        path = self._files.source(row.id)
        if not await asyncio.to_thread(path.exists):
            raise MediaError("the uploaded file must still be here; it is gone; create the dub again")
        return path


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
