"""Joins recordings whose times jump: transport streams that were appended to one another, or lost their signal.

Each part goes on where the one before it ended, sound and picture together, as players show it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

JOINABLE_FORMATS = frozenset({"mpeg", "mpegts"})
"""Formats that may be appended byte by byte, and do not tell; each is read to its end to find out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePart:
    """A part of a file within which no times jump."""

    positions: Mapping[int, int]
    """Stream index → the first byte of its first packet. FFmpeg's places of one stream are in order, but those of
    several may be apart by some packets."""
    start_s: float
    """Its earliest timestamp, as the file has it."""
    end_s: float
    shift_s: float
    """To be added to its timestamps, so that it begins where the part before ends."""

    @property
    def joined_s(self) -> float:
        """Its start among the joined parts, as a timestamp."""
        return self.start_s + self.shift_s

    def begins_by(self, index: int, position: int) -> bool:
        """True if a packet of a stream, at a place in the file, is of this part or of a later one."""
        return self.positions.get(index, min(self.positions.values())) <= position


@dataclass(slots=True, kw_only=True)
class _Span:
    """A part while it is read."""

    start_s: float
    end_s: float
    positions: dict[int, int] = field(default_factory=dict)
    ends_s: dict[int, float] = field(default_factory=dict)
    """Stream index → the end of its last packet."""

    def add(self, index: int, position: int, start_s: float, end_s: float) -> None:
        self.positions.setdefault(index, position)
        self.ends_s[index] = end_s
        self.start_s, self.end_s = min(self.start_s, start_s), max(self.end_s, end_s)

    def continues(self, index: int, time_s: float, max_jump_s: float) -> bool:
        """True if the time is near where its own stream is, or near where all streams are."""
        own_s = self.ends_s.get(index)
        if own_s is not None and abs(time_s - own_s) <= max_jump_s:
            return True
        return min(self.ends_s.values()) - max_jump_s <= time_s <= max(self.ends_s.values()) + max_jump_s


def find_parts(container: InputContainer, streams: Sequence[Stream], max_jump_s: float) -> tuple[TimePart, ...]:
    """The parts of a file, found by reading all of it; none without packets.

    A part ends where a stream's times go on more than ``max_jump_s`` from where both it and all other streams are.
    One stream's gap alone is no jump: the others went on.
    """
    spans: list[_Span] = []
    for packet, position in _positions(container, streams):
        time = packet.dts if packet.dts is not None else packet.pts
        if time is None:
            continue
        index, time_s = packet.stream_index, float(time * packet.time_base)
        start_s = time_s if packet.pts is None else float(packet.pts * packet.time_base)
        end_s = start_s + float((packet.duration or 0) * packet.time_base)
        # A picture is complete when the next one begins: the last of a part comes after sound of the next part.
        is_late = len(spans) > 1 and index not in spans[-1].ends_s and spans[-2].continues(index, time_s, max_jump_s)
        if not spans or not (is_late or spans[-1].continues(index, time_s, max_jump_s)):
            spans.append(_Span(start_s=start_s, end_s=end_s))
        spans[-2 if is_late else -1].add(index, position, start_s, end_s)
    parts: list[TimePart] = []
    for span in spans:
        shift_s = parts[-1].end_s + parts[-1].shift_s - span.start_s if parts else 0.0
        parts.append(TimePart(positions=span.positions, start_s=span.start_s, end_s=span.end_s, shift_s=shift_s))
    return tuple(parts)


def joined_packets(
    container: InputContainer, streams: Sequence[Stream], parts: Sequence[TimePart]
) -> Iterator[Packet[Stream]]:
    """The packets of some streams, with the times of the joined parts. Raises av.FFmpegError where reading fails."""
    if len(parts) < 2:
        yield from container.demux(list(streams))
        return
    for packet, position in _positions(container, streams):
        part = next((part for part in reversed(parts) if part.begins_by(packet.stream_index, position)), parts[0])
        shift = round(part.shift_s / packet.time_base) if packet.size else 0
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift
        yield packet


def _positions(container: InputContainer, streams: Sequence[Stream]) -> Iterator[tuple[Packet[Stream], int]]:
    """Each packet with its place in the file; a packet without one lies where its stream's last one does."""
    last: dict[int, int] = {}
    for packet in container.demux(list(streams)):
        position = packet.pos
        if position is None or position < 0:
            position = last.get(packet.stream_index, 0)
        last[packet.stream_index] = position
        yield packet, position
