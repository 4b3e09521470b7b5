"""Packets of several files, on one timeline, in the order in which a muxer takes them.

Packets are written as they are read: those of dubs and subtitles just before the source packet of
their time. Memory does not grow with the media (an MP4's index aside, some 50 bytes a packet).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from cluster.subtitles import Cue, subrip_text

log = logging.getLogger(__name__)

MILLISECOND = Fraction(1, 1000)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Copy:
    """Source streams on their way into the output."""

    source: InputContainer
    streams: Mapping[int, Stream]
    """Source stream index → output stream."""
    start_s: float
    """The source's timestamp that becomes 0."""
    states_delay: bool
    """Whether the output's header will say by how much a codec delays each audio: its packets then begin
    before 0. Else what lies before 0 cannot be kept."""


def write_packets(target: OutputContainer, copy: Copy, added: Iterable[Iterator[Packet[Stream]]]) -> None:
    """Write all packets of ``copy`` and of ``added``, each of which is in order of time. Raises av.FFmpegError."""
    queues = [_Queue(packets) for packets in added]
    for time_s, packet in source_packets(copy):
        for queue in queues:
            queue.write_until(time_s, target)
        target.mux(packet)
    for queue in queues:
        queue.write_until(None, target)


def stream_packets(container: InputContainer, index: int, stream: Stream) -> Iterator[Packet[Stream]]:
    """The packets of one stream of a file, as packets of ``stream``."""
    for packet in container.demux(container.streams[index]):
        if packet.size:
            packet.stream = stream
            yield packet


def cue_packets(cues: Sequence[Cue], stream: Stream, *, timed_text: bool) -> Iterator[Packet[Stream]]:
    """Cues as packets of SubRip, or of Timed Text (3GPP TS 26.245), which puts the length before the text."""
    for cue in cues:
        text = cue.text.encode() if timed_text else subrip_text(cue.text).encode()
        packet = Packet(len(text).to_bytes(2, "big") + text if timed_text else text)
        packet.stream = stream
        packet.time_base = MILLISECOND
        start = round(cue.start_s * 1000)
        packet.pts = packet.dts = start
        packet.duration = max(1, round(cue.end_s * 1000) - start)
        packet.is_keyframe = True
        yield packet


def ticks(time_s: float, time_base: Fraction) -> int:
    """``time_s``, known to a microsecond as FFmpeg's start times are, counted in ``time_base``."""
    return round(Fraction(round(time_s * av.time_base), av.time_base) / time_base)


class _Queue:
    """Packets of one stream in order, written as far as asked."""

    def __init__(self, packets: Iterator[Packet[Stream]]) -> None:
        self._packets = packets
        self._next = next(packets, None)

    def write_until(self, time_s: float | None, target: OutputContainer) -> None:
        while self._next is not None and (time_s is None or _time_s(self._next) <= time_s):
            target.mux(self._next)
            self._next = next(self._packets, None)


def source_packets(copy: Copy) -> Iterator[tuple[float, Packet[Stream]]]:
    """The source's packets, moved, with their decoding times, in the file's order."""
    last: dict[int, int] = {}
    packets = copy.source.demux([stream for stream in copy.source.streams if stream.index in copy.streams])
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            # Cut short or damaged: decoding stopped here as well, and what there is gets dubbed.
            log.warning("source ends early path=%s error=%s", copy.source.name, error)
            return
        if packet is None:
            return
        index = packet.stream_index
        if packet.size == 0 or not _place(packet, copy, last.get(index)):
            continue
        last[index] = packet.dts or 0
        time_s = _time_s(packet)
        packet.stream = copy.streams[index]
        yield time_s, packet


def _place(packet: Packet[Stream], copy: Copy, last_dts: int | None) -> bool:
    """Move the packet, and mend timestamps that no muxer takes; False if there is nothing to present."""
    shift = ticks(copy.start_s, packet.time_base)
    duration = packet.duration or 0
    pts = None if packet.pts is None else packet.pts - shift
    dts = None if packet.dts is None else packet.dts - shift
    kind = packet.stream.type
    if pts is not None and pts < 0 and kind != "video" and not (kind == "audio" and copy.states_delay):
        # FFmpeg would move every stream to make room. A subtitle that is over goes, and so does audio
        # that is mostly a codec's priming: kept, it would delay all that follows by as much.
        if pts + duration <= (duration // 2 if kind == "audio" else 0):
            return False
        duration += pts
        pts = dts = 0
    if dts is None:
        after_last = 0 if last_dts is None else last_dts + max(1, duration)
        dts = after_last if pts is None else pts
    if last_dts is not None and dts <= last_dts:
        dts = last_dts + 1
    packet.dts, packet.pts = dts, dts if pts is None else max(pts, dts)
    packet.duration = duration
    return True


def _time_s(packet: Packet[Stream]) -> float:
    return float((packet.dts or 0) * packet.time_base)
