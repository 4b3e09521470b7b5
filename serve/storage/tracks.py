"""Extracts one language of a finished dub into its own file, at the first request for it.

Its source's packets are in it as a stranger made them, so it is read in the sandbox.
"""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Literal

from cluster.manifest import Manifest
from cluster.media.config import MediaConfig
from cluster.media.sandbox import extract, inspect
from serve.errors import NotFoundError
from serve.storage.files import JobFiles
from serve.threads import FairThreads

AUDIO_SUFFIX = {".mp4": ".m4a", ".mov": ".m4a", ".mkv": ".mka", ".mka": ".mka"}

Kind = Literal["audio", "video"]


class TrackFiles:
    """The files of single languages. Each is made once, however many ask for it at the same time."""

    def __init__(self, files: JobFiles, threads: FairThreads, config: MediaConfig) -> None:
        self._files = files
        self._threads = threads
        self._config = config
        self._making: dict[Path, asyncio.Task[None]] = {}

    async def get(self, folder: Path, made: Manifest, language: str, kind: Kind) -> Path:
        """The file. Raises NotFoundError if there is no such track, MediaError, BucketError."""
        languages = [dub.language for dub in made.dubs]
        if language not in languages:
            raise NotFoundError(f"the language must be made first; the dub has {', '.join(languages)} so far")
        number = languages.index(language)
        whole = folder / made.media_file
        suffix = AUDIO_SUFFIX.get(whole.suffix, ".mka") if kind == "audio" else whole.suffix
        path = folder / f"{kind}-{number}{suffix}"
        if path not in self._making:
            if await asyncio.to_thread(self._files.exists, path):
                return path
            if path not in self._making:  # nobody began it in the meantime
                task = asyncio.create_task(self._threads.run(self._make, whole, path, number, kind))
                task.add_done_callback(lambda task: self._made(path, task))
                self._making[path] = task
        await asyncio.shield(self._making[path])  # others may wait for it too
        return path

    def _made(self, path: Path, task: asyncio.Task[None]) -> None:
        del self._making[path]
        if not task.cancelled():
            task.exception()  # known to those who wait, if there still is anybody

    def _make(self, whole: Path, path: Path, number: int, kind: Kind) -> None:
        with self._files.local_copy(whole) as copy:
            info = inspect(copy, self._config)
            if kind == "video" and not info.video:
                raise NotFoundError("a dub must have video to be downloaded as video; this one has only audio")
            if number >= len(info.audio):
                raise NotFoundError("a dub must have speech to have an audio track; none was found in the source")
            aside = copy.with_name(f".{uuid.uuid4().hex}{path.suffix}")
            try:
                extract(info, aside, info.audio[number].index, with_video=kind == "video", config=self._config)
                self._files.publish(aside, path)
            finally:
                aside.unlink(missing_ok=True)
