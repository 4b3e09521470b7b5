"""HLS streams of a dub that is being made, one for each language, written as its audio is mixed."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from actors.errors import DubbingError
from cluster.config.schema import Config
from cluster.media.hls import INIT, MASTER, PLAYLIST
from cluster.media.sandbox import SandboxedHls, inspect
from cluster.steps.records import MixedBlock

log = logging.getLogger(__name__)

FILE_PATTERN = rf"^(?:{re.escape(PLAYLIST)}|{re.escape(MASTER)}|{re.escape(INIT)}|segment[0-9]{{5,9}}\.m4s)$"


def live_folder(output: Path, language: str) -> Path:
    """The folder of a language's stream, inside an attempt's results."""
    return output / "hls" / language


class LiveStreams:
    """Writes mixed blocks to the streams of their languages. Use as a context manager.

    ``write`` may be called on any thread. ``on_written`` is called with the stream's folder after each block, and
    must be quick.

    A stream that cannot be written ends and is logged; the dub goes on. The end waits for a block that is being
    written, and later blocks are dropped.
    """

    def __init__(
        self, source: Path, output: Path, config: Config, on_written: Callable[[Path], None] | None = None
    ) -> None:
        self._source = source
        self._output = output
        self._config = config
        self._on_written = on_written
        self._writers: dict[str, SandboxedHls | None] = {}
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
        except (OSError, DubbingError) as error:
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
                except (OSError, DubbingError) as failure:
                    log.warning("live stream not ended target=%s error=%s", target, failure)

    def _writer(self, block: MixedBlock) -> SandboxedHls:
        return SandboxedHls(
            live_folder(self._output, block.target),
            inspect(self._source, self._config.media),
            self._config.media,
            num_channels=block.samples.shape[1],
            bits_per_s=self._config.output.audio_bits_per_s,
        )
