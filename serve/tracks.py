"""One language of a finished dub as a file of its own: packets copied, nothing encoded again."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Literal

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.stream import Stream

from actors.errors import MediaError
from cluster.manifest import Manifest
from cluster.media import MediaConfig, is_cover, open_media
from serve.errors import NotFoundError
from serve.files import JobFiles

AUDIO_SUFFIX = {".mp4": ".m4a", ".mov": ".m4a", ".mkv": ".mka", ".mka": ".mka"}


def track_file(
    files: JobFiles, folder: Path, made: Manifest, language: str, kind: Literal["audio", "video"], config: MediaConfig
) -> Path:
    """The file, made when it is first asked for. Raises NotFoundError if there is no such track."""
    number = [dub.language for dub in made.dubs].index(language)
    whole = folder / made.media_file
    suffix = AUDIO_SUFFIX.get(whole.suffix, ".mka") if kind == "audio" else whole.suffix
    path = folder / f"{kind}-{number}{suffix}"
    if files.exists(path):
        return path
    with files.borrowed(whole) as here:
        aside = here.with_name(f".{uuid.uuid4().hex}{suffix}")
        try:
            with open_media(here, config) as source, av.open(str(aside), "w") as target:
                _copy(source, target, number, with_video=kind == "video")
            files.keep(aside, path)
        except av.error.FFmpegError as error:
            raise MediaError(f"the dub must be readable as a file of its own; {error}") from error
        finally:
            aside.unlink(missing_ok=True)
    return path


def _copy(source: InputContainer, target: OutputContainer, number: int, *, with_video: bool) -> None:
    video = [stream for stream in source.streams.video if not is_cover(stream)]
    if with_video and not video:
        raise NotFoundError("a dub must have a picture to be had as video; this one is sound alone")
    if number >= len(source.streams.audio):
        raise NotFoundError("a dub must hold speech to have a track of its own; none was found in the source")
    chosen: list[Stream] = [*(video if with_video else []), source.streams.audio[number]]
    added = {stream.index: target.add_stream_from_template(stream, opaque=True) for stream in chosen}
    for packet in source.demux(chosen):
        if packet.size:
            packet.stream = added[packet.stream.index]
            target.mux(packet)
