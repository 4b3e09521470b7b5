"""Cuts the sound of single units from the source and from both arms' dubs, to be played side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.types import Span
from cluster.config.schema import Config
from cluster.media.encode import ENCODE_HZ, AudioEncoder
from cluster.media.probe import AudioTrack, MediaInfo
from cluster.media.sandbox import decode_excerpt, inspect

MARGIN_S = 0.25
"""Margin before and after a unit, so that no first or last sound is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSource:
    """One video's source, and the file that holds both dubs as its first two audio tracks."""

    source: Path
    source_track: int
    dubbed: Path


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clips:
    """The sound of one unit by the source and both arms, each an encoded MP4 file."""

    source: bytes
    a: bytes
    b: bytes

    @property
    def num_bytes(self) -> int:
        return len(self.source) + len(self.a) + len(self.b)


class Clipper:
    """Cuts clips of one video. Blocking. Raises MediaError if a file cannot be read."""

    def __init__(self, source: ClipSource, config: Config) -> None:
        self._config = config
        info, dubbed = inspect(source.source, config.media), inspect(source.dubbed, config.media)
        self._tracks: Sequence[tuple[MediaInfo, AudioTrack]] = (
            (info, info.audio[source.source_track]),
            (dubbed, dubbed.audio[0]),
            (dubbed, dubbed.audio[1]),
        )

    def cut(self, span: Span) -> Clips:
        source, a, b = (self._encoded(info, track, span) for info, track in self._tracks)
        return Clips(source=source, a=a, b=b)

    def _encoded(self, info: MediaInfo, track: AudioTrack, span: Span) -> bytes:
        start_s = max(0.0, span.start_s - MARGIN_S)
        duration_s = min(span.end_s + MARGIN_S, info.duration_s) - start_s
        samples = decode_excerpt(
            info, track, start_s=start_s, duration_s=duration_s, hz=ENCODE_HZ, config=self._config.media
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.m4a"
            bits_per_s = self._config.output.report_audio_bits_per_s
            with AudioEncoder(path, num_channels=1, bits_per_s=bits_per_s) as encoder:
                encoder.write(samples[:, None])
            return path.read_bytes()
