"""Extracts one sound track of a file, with or without its pictures. Packets are copied, nothing is encoded again."""

from __future__ import annotations

from pathlib import Path

import av
import av.error
from av.stream import Stream

from actors.errors import MediaError
from cluster.media.config import MediaConfig
from cluster.media.container import is_cover, open_media


def extract(path: Path, out: Path, index: int, *, with_video: bool, config: MediaConfig) -> None:
    """Write the audio stream of that index to ``out``, whose suffix names the container. Raises MediaError."""
    try:
        with open_media(path, config) as source, av.open(str(out.absolute()), "w") as target:
            videos = [stream for stream in source.streams.video if with_video and not is_cover(stream)]
            chosen: list[Stream] = [*videos, source.streams[index]]
            added = {stream.index: target.add_stream_from_template(stream, opaque=True) for stream in chosen}
            for packet in source.demux(chosen):
                if packet.size:
                    packet.stream = added[packet.stream_index]
                    target.mux(packet)
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            f"{path.name} must be readable, and {out.name} writable, to extract a track: {error.strerror or error}"
        ) from error
