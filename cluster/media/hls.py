"""Writes HLS in fragmented MP4 with FFmpeg's segmenter, so that a dub plays while it is made.

https://www.rfc-editor.org/rfc/rfc8216: the playlist grows (type EVENT) and ends with the dub. The source's video is
copied and not encoded again. If browsers cannot play its codec in fragmented MP4, the stream has only audio.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import av
from av.packet import Packet
from av.stream import Stream

from actors.types import Samples
from cluster.audio.limiter import RATE_HZ
from cluster.media.config import MediaConfig
from cluster.media.container import is_cover, open_media
from cluster.media.frames import LAYOUTS, audio_frame
from cluster.media.probe import MediaInfo
from cluster.media.remux import Copy, source_packets

PLAYLIST = "index.m3u8"
MASTER = "master.m3u8"
"""The playlist that names the codecs, which a player must know before it plays."""
INIT = "init.mp4"
SEGMENT_S = 4
"""A segment ends at the first key frame after this time."""
VIDEO_CODECS = frozenset({"h264", "hevc", "av1", "vp9"})
MIME = {".m3u8": "application/vnd.apple.mpegurl", ".mp4": "video/mp4", ".m4s": "video/iso.segment"}


class HlsWriter:
    """Writes a playlist and its segments into ``folder`` as audio is mixed. Use as a context manager.

    Leaving the block ends the playlist. After an exception the playlist stays open.
    Raises MediaError if the source cannot be read, av.FFmpegError if the folder cannot be written.
    """

    def __init__(
        self, folder: Path, info: MediaInfo, config: MediaConfig, *, num_channels: int, bits_per_s: int
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._source = ExitStack()
        self._container = av.open(str(folder / PLAYLIST), "w", format="hls", options=_options(folder))
        self._video = self._source_video(info, config)
        self._next_video = next(self._video, None)
        self._audio = self._container.add_stream("aac", rate=RATE_HZ)
        self._audio.layout = LAYOUTS[num_channels]
        self._audio.bit_rate = bits_per_s
        self._audio.codec_context.thread_count = 1
        self._position = 0

    def write(self, block: Samples) -> None:
        """Append float32 (num_samples, num_channels) at ``RATE_HZ``, and the video of the same time."""
        frame = audio_frame(block, "fltp", hz=RATE_HZ, position=self._position)
        self._position += len(block)
        self._copy_video(until_s=self._position / RATE_HZ)
        self._container.mux(self._audio.encode(frame))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._source:
            if kind is None:
                self._copy_video(until_s=math.inf)
                self._container.mux(self._audio.encode(None))
                self._container.close()

    def _source_video(self, info: MediaInfo, config: MediaConfig) -> Iterator[tuple[float, Packet[Stream]]]:
        """Packets of the source's first video stream with decoding times; none if browsers cannot play it."""
        source = self._source.enter_context(open_media(info.path, config))
        stream = next((stream for stream in source.streams.video if not is_cover(stream)), None)
        if stream is None or stream.codec_context.name not in VIDEO_CODECS:
            return iter(())
        target = self._container.add_stream_from_template(stream)
        copy = Copy(source=source, streams={stream.index: target}, start_s=info.start_s, states_delay=True)
        return source_packets(copy)

    def _copy_video(self, until_s: float) -> None:
        while self._next_video is not None and self._next_video[0] <= until_s:
            self._container.mux(self._next_video[1])
            self._next_video = next(self._video, None)


def _options(folder: Path) -> dict[str, str]:
    return {
        "hls_time": str(SEGMENT_S),
        "hls_playlist_type": "event",
        "hls_segment_type": "fmp4",
        "hls_fmp4_init_filename": INIT,
        "hls_segment_filename": str(folder / "segment%05d.m4s"),
        # A segment is complete before the playlist names it.
        "hls_flags": "temp_file+independent_segments",
        "hls_list_size": "0",
        "master_pl_name": MASTER,
    }
