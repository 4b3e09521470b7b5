"""Encodes pictures again that the output's container cannot hold: turned, coloured and timed as before."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av.error
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.sidedata.sidedata import SideData, Type
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from cluster.media.config import MediaConfig
from cluster.media.container import open_media
from cluster.media.joins import joined_packets
from cluster.media.probe import MediaInfo

ENCODERS = {"h264": "libx264", "hevc": "libx265"}
QUALITY = {"preset": "veryfast", "crf": "18"}
"""Near the quality at which the eye finds no difference; the pictures that need it are old and small."""
HDR_TRANSFERS = frozenset({16, 18})
"""PQ and HLG, by H.273. Their pictures have ten bits, for which HEVC is what players read."""
UNSPECIFIED, RGB, BT709 = 2, 0, 1
LIMITED, FULL = 1, 2
"""Ranges, by FFmpeg."""
MASTERING_DISPLAY = struct.Struct("=20i2I")
"""Libavutil's AVMasteringDisplayMetadata: red, green, blue, white point, least and most luminance, as fractions."""
CHROMA_UNIT, LUMINANCE_UNIT = 50_000, 10_000
MAX_TRIED_PACKETS = 300
"""Packets until which a picture must have been decoded; recordings of broadcasts begin between two key pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The turn and the colours of a stream's pictures."""

    matrix: tuple[int, ...] | None
    """Display matrix: how they are turned or mirrored."""
    primaries: int
    transfer: int
    matrix_coefficients: int
    """These three by H.273."""
    full_range: bool
    is_rgb: bool
    mastering: str
    """Mastering display and light levels, as x265 takes them; empty for none."""


def picture_codec(stream: Stream) -> str:
    """The codec that pictures are encoded with, by FFmpeg's name."""
    return "hevc" if cast(VideoStream, stream).codec_context.color_trc in HDR_TRANSFERS else "h264"


def look_of(info: MediaInfo, index: int, config: MediaConfig) -> Look:
    """The look of one stream's pictures, by the first that decodes, or else by the stream's header."""
    with open_media(info.path, config) as container:
        context = cast(VideoStream, container.streams[index]).codec_context
        header = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        frame = next(_pictures(container, info, index), None)
        is_rgb = context.format is not None and context.format.is_rgb
        if frame is None:
            primaries, transfer, coefficients, colour_range = header
            sides: dict[Type, Any] = {}
        else:
            own = (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range)
            primaries, transfer, coefficients, colour_range = (
                stated if seen in (0, UNSPECIFIED) and stated else seen
                for seen, stated in zip(own, header, strict=True)
            )
            sides = {side.type: bytes(side) for side in cast("Iterable[SideData]", frame.side_data)}
            is_rgb = frame.format.is_rgb
        return Look(
            matrix=struct.unpack("=9i", sides[Type.DISPLAYMATRIX]) if Type.DISPLAYMATRIX in sides else None,
            primaries=int(primaries),
            transfer=int(transfer),
            matrix_coefficients=int(coefficients),
            full_range=int(colour_range) == FULL,
            is_rgb=is_rgb,
            mastering=_mastering(sides),
        )


def has_picture(path: Path, index: int, config: MediaConfig) -> bool:
    """True if one of the stream's first packets gives a picture."""
    with open_media(path, config) as container, suppress(av.error.FFmpegError):
        for number, packet in enumerate(container.demux(container.streams[index])):
            if number >= MAX_TRIED_PACKETS:
                return False
            with suppress(av.error.FFmpegError):
                if packet.decode():
                    return True
    return False


def add_picture(target: OutputContainer, source: VideoStream, codec: str, look: Look) -> VideoStream:
    """An output stream for the pictures of ``source``, with their shape, look and timing."""
    rate = source.average_rate or source.base_rate or Fraction(25)
    options = dict(QUALITY)
    if codec == "hevc":
        options["x265-params"] = ":".join(filter(None, ["log-level=none", look.mastering]))
    stream = cast(VideoStream, target.add_stream(ENCODERS[codec], rate=rate, options=options))
    # 4:2:0 needs even sides; of an odd one the last line is lost.
    stream.width, stream.height = max(2, source.width & ~1), max(2, source.height & ~1)
    stream.pix_fmt = "yuv420p10le" if codec == "hevc" else "yuv420p"
    context = stream.codec_context
    context.time_base = source.time_base or Fraction(1, 90_000)
    if codec == "hevc" and target.format.name != "matroska":
        context.codec_tag = "hvc1"
    if source.sample_aspect_ratio:
        context.sample_aspect_ratio = source.sample_aspect_ratio
    context.color_primaries, context.color_trc = look.primaries, look.transfer
    context.colorspace = BT709 if look.is_rgb else look.matrix_coefficients
    context.color_range = FULL if look.full_range and not look.is_rgb else LIMITED
    if look.matrix is not None:
        stream.set_display_matrix(look.matrix)
    return stream


def picture_packets(
    info: MediaInfo, index: int, stream: VideoStream, look: Look, config: MediaConfig
) -> Iterator[Packet[Stream]]:
    """The pictures of one source stream, moved to the media timeline and encoded for ``stream``."""
    base = stream.codec_context.time_base
    last: int | None = None
    with open_media(info.path, config) as container:
        for frame in _pictures(container, info, index):
            if frame.pts is None:
                continue
            pts = round((frame.time - info.start_s) / base)
            if pts < 0 or (last is not None and pts <= last):
                continue
            last = pts
            shaped = _shaped(frame, stream, look)
            shaped.pts, shaped.time_base = pts, base
            yield from _typed(stream.encode(shaped))
    yield from _typed(stream.encode(None))


def _shaped(frame: VideoFrame, stream: VideoStream, look: Look) -> VideoFrame:
    """The picture in the encoder's size and pixels. Only RGB changes its matrix and range: H.264 has it as BT.709."""
    context = stream.codec_context
    colour_range = FULL if look.full_range else LIMITED
    return frame.reformat(
        width=stream.width,
        height=stream.height,
        format=stream.pix_fmt,
        dst_colorspace=BT709 if look.is_rgb else None,
        src_color_range=FULL if look.is_rgb else colour_range,
        dst_color_range=context.color_range,
    )


def _mastering(sides: dict[Type, Any]) -> str:
    parts = []
    if display := sides.get(Type.MASTERING_DISPLAY_METADATA):
        numbers = MASTERING_DISPLAY.unpack(display[: MASTERING_DISPLAY.size])
        fractions = [over / max(1, under) for over, under in zip(numbers[0:20:2], numbers[1:20:2], strict=True)]
        red, green, blue, white = (
            f"({round(fractions[at] * CHROMA_UNIT)},{round(fractions[at + 1] * CHROMA_UNIT)})" for at in (0, 2, 4, 6)
        )
        least, most = (round(value * LUMINANCE_UNIT) for value in fractions[8:])
        parts.append(f"master-display=G{green}B{blue}R{red}WP{white}L({most},{least})")
    if light := sides.get(Type.CONTENT_LIGHT_LEVEL):
        parts.append("max-cll={},{}".format(*struct.unpack("=2I", light[:8])))
    return ":".join(parts)


def _pictures(container: InputContainer, info: MediaInfo, index: int) -> Iterator[VideoFrame]:
    """Decoded pictures; those that do not decode are skipped."""
    stream = container.streams[index]
    packets = joined_packets(container, [stream], info.parts)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        with suppress(av.error.FFmpegError):
            for frame in packet.decode():
                yield cast(VideoFrame, frame)


def _typed(packets: list[Any]) -> list[Packet[Stream]]:
    return packets
