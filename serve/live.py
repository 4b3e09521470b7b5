"""What plays of a dub while it is made: a stream per language, written as its sound is mixed."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import av.error

from actors.errors import DubbingError
from cluster.config import Config
from cluster.media import probe
from cluster.mixdown import MixedBlock
from serve.hls import INIT, MASTER, PLAYLIST, HlsWriter

log = logging.getLogger(__name__)

FILE_PATTERN = rf"^(?:{re.escape(PLAYLIST)}|{re.escape(MASTER)}|{re.escape(INIT)}|segment[0-9]{{5,9}}\.m4s)$"


def live_folder(output: Path, language: str) -> Path:
    """Inside the folder that an attempt's results go to."""
    return output / "hls" / language


class LiveStreams:
    """``write`` every mixed block, on whatever thread mixes it; use as a context manager.

    ``on_written`` is told of the folder each time, and must be quick.

    A stream that cannot be written ends, and is logged: the dub goes on. What
    comes after the end is dropped, and the end waits for a block under way: FFmpeg would crash.
    """

    def __init__(
        self, source: Path, output: Path, config: Config, on_written: Callable[[Path], None] | None = None
    ) -> None:
        self._source = source
        self._output = output
        self._config = config
        self._on_written = on_written
        self._writers: dict[str, HlsWriter | None] = {}
        self._writing = threading.Lock()
        self._is_over = False

    def write(self, block: MixedBlock) -> None:
        with self._writing:
            if not self._is_over:
                self._write(block)

    def _write(self, block: MixedBlock) -> None:
        try:
            if block.target not in self._writers:
                self._writers[block.target] = None
                self._writers[block.target] = self._writer(block)
            writer = self._writers[block.target]
            if writer is not None:
                writer.write(block.samples)
                if self._on_written is not None:
                    self._on_written(live_folder(self._output, block.target))
        except (av.error.FFmpegError, OSError, DubbingError) as error:
            self._writers[block.target] = None
            log.warning("live stream ended target=%s error=%s", block.target, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._writing:
            self._is_over = True
            for target, writer in self._writers.items():
                try:
                    if writer is not None:
                        writer.__exit__(kind, error, trace)
                except (av.error.FFmpegError, OSError) as failure:
                    log.warning("live stream not ended target=%s error=%s", target, failure)

    def _writer(self, block: MixedBlock) -> HlsWriter:
        return HlsWriter(
            live_folder(self._output, block.target),
            probe(self._source, self._config.media),
            self._config.media,
            num_channels=block.samples.shape[1],
            bits_per_s=self._config.output.audio_bits_per_s,
        )
