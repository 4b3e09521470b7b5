"""Encodes sound and text again that the output's container cannot hold, on the media timeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from cluster.media.config import MediaConfig
from cluster.media.container import open_media
from cluster.media.decode import decode_audio
from cluster.media.frames import audio_frame
from cluster.media.probe import AudioTrack, MediaInfo


def add_audio(target: OutputContainer, track: AudioTrack, codec: str) -> AudioStream:
    """An output stream for the track, with its rate and channels."""
    stream = cast(AudioStream, target.add_stream(codec, rate=track.sample_hz))
    stream.layout = _layout(track)
    stream.format = "s16"
    stream.codec_context.thread_count = 1
    return stream


def audio_packets(
    info: MediaInfo, track: AudioTrack, stream: AudioStream, config: MediaConfig
) -> Iterator[Packet[Stream]]:
    """The track from t = 0 to the media's end, encoded for ``stream``."""
    position = 0
    for block in decode_audio(info, track, hz=track.sample_hz, channels=track.channels, config=config):
        frame = audio_frame(block, "s16", hz=track.sample_hz, position=position, layout=_layout(track))
        position += len(block)
        yield from _typed(stream.encode(frame))
    yield from _typed(stream.encode(None))


def text_packets(info: MediaInfo, index: int, stream: Stream, config: MediaConfig) -> Iterator[Packet[Stream]]:
    """Timed Text (3GPP TS 26.245) as SubRip: the text alone, without its length and styles."""
    with open_media(info.path, config) as container:
        for packet in container.demux(container.streams[index]):
            data = bytes(packet)
            text = data[2 : 2 + int.from_bytes(data[:2], "big")]
            if not text or packet.pts is None:
                continue
            added: Packet[Stream] = Packet(text)
            added.stream, added.time_base = stream, packet.time_base
            added.pts = added.dts = max(0, packet.pts - round(info.start_s / packet.time_base))
            added.duration = packet.duration
            yield added


def _layout(track: AudioTrack) -> str:
    with suppress(ValueError):
        return AudioLayout(track.layout).name
    return AudioLayout(f"{track.channels}c").name


def _typed(packets: list[Any]) -> list[Packet[Stream]]:
    return packets
