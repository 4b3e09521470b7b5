"""Merges packets of several files on one timeline, in the order that a muxer needs.

Packets are written as they are read: those of dubs and subtitles just before the source packet of
the same time. Memory does not grow with the media, except for an MP4's index (some 50 bytes a packet).
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from cluster.media.joins import TimePart, joined_packets
from cluster.subtitles.layout import Cue, subrip_text

log = logging.getLogger(__name__)

UNWRITABLE = (av.error.InvalidDataError, av.error.PatchWelcomeError)
"""Errors of the content of a packet; errors of the disk are others."""

MILLISECOND = Fraction(1, 1000)
MAX_REORDERED = 16
"""Pictures that H.264 and HEVC may show later than they are decoded."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Copy:
    """The source streams to copy into the output."""

    source: InputContainer
    streams: Mapping[int, Stream]
    """Source stream index → output stream."""
    start_s: float
    """The source's timestamp that becomes 0."""
    parts: tuple[TimePart, ...] = ()
    """Parts of a source whose times jump, as ``MediaInfo`` has them."""
    states_delay: bool
    """True if the output's header will state each audio codec's delay: its packets then begin before 0.
    Otherwise packets before 0 cannot be kept."""


def write_packets(target: OutputContainer, copy: Copy, added: Iterable[Iterator[Packet[Stream]]]) -> int:
    """Write all packets of ``copy`` and of ``added``, each of them in order of time. Raises av.FFmpegError.

    A packet of the source is left out if it is too damaged for the output's container. Returns the number of those.
    """
    copied = {stream.index for stream in copy.streams.values()}
    num_left_out = 0
    timed = [((_time_s(packet), packet) for packet in packets) for packets in added]
    # At equal times those of the dubs come first: a player that stops reading there has heard them.
    for _, packet in heapq.merge(*timed, source_packets(copy), key=itemgetter(0)):
        try:
            target.mux(packet)
        except UNWRITABLE:
            if packet.stream_index not in copied:
                raise
            num_left_out += 1
    if num_left_out:
        log.warning("packets too damaged to copy path=%s packets=%d", copy.source.name, num_left_out)
    return num_left_out


def stream_packets(container: InputContainer, index: int, stream: Stream) -> Iterator[Packet[Stream]]:
    """The packets of one stream of a file, assigned to the output's ``stream``."""
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


def source_packets(copy: Copy) -> Iterator[tuple[float, Packet[Stream]]]:
    """The source's packets in the file's order, moved to the output's timeline, with their decoding times."""
    if not copy.streams:
        return  # demux takes no streams for all streams
    last: dict[int, int] = {}
    for packet in _decoding_times(_readable(copy)):
        index = packet.stream_index
        if packet.size == 0 or not _place(packet, copy, last.get(index)):
            continue
        last[index] = packet.dts or 0
        time_s = _time_s(packet)
        packet.stream = copy.streams[index]
        yield time_s, packet


def _readable(copy: Copy) -> Iterator[Packet[Stream]]:
    """The packets of the streams to copy, up to where reading fails."""
    streams = [stream for stream in copy.source.streams if stream.index in copy.streams]
    try:
        yield from joined_packets(copy.source, streams, copy.parts)
    except av.error.FFmpegError as error:
        # Truncated or damaged: decoding stopped here as well, and the part before is dubbed.
        log.warning("source ends early path=%s error=%s", copy.source.name, error)


def _decoding_times(packets: Iterator[Packet[Stream]]) -> Iterator[Packet[Stream]]:
    """The packets, where the first pictures of a stream have decoding times before that of the first which states one.

    Matroska states none, and FFmpeg knows them only after as many pictures as the codec reorders.
    """
    waiting: dict[int, list[Packet[Stream]]] = {}
    known: set[int] = set()
    for packet in packets:
        index = packet.stream_index
        if index in known or packet.size == 0 or packet.stream.type != "video":
            yield packet
            continue
        held = waiting.setdefault(index, [])
        held.append(packet)
        if packet.dts is not None or len(held) > MAX_REORDERED:
            known.add(index)
            yield from _counted_back(waiting.pop(index))
    for held in waiting.values():
        yield from held


def _counted_back(packets: Sequence[Packet[Stream]]) -> Sequence[Packet[Stream]]:
    """The packets with decoding times up to that of the last, if it has one."""
    last = packets[-1]
    if last.dts is not None:
        step = max(1, last.duration or 0)
        for number, packet in enumerate(packets[:-1]):
            packet.dts = last.dts - (len(packets) - 1 - number) * step
    return packets


def _place(packet: Packet[Stream], copy: Copy, last_dts: int | None) -> bool:
    """Move a packet, and repair timestamps that no muxer accepts; False for a packet to be dropped."""
    shift = ticks(copy.start_s, packet.time_base)
    duration = packet.duration or 0
    pts = None if packet.pts is None else packet.pts - shift
    dts = None if packet.dts is None else packet.dts - shift
    kind = packet.stream.type
    if pts is not None and pts < 0 and kind != "video" and not (kind == "audio" and copy.states_delay):
        # FFmpeg would move every stream to make room. A subtitle that is over is dropped, and so is audio
        # that is mostly a codec's priming: kept, it would delay everything after it by as much.
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
