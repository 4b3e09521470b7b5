"""Small files that are large once FFmpeg opens them."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from fractions import Fraction

import av
import numpy as np
from av.packet import Packet

MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def repeated_samples(num_samples: int) -> bytes:
    """An MP4 of 1.5 kB whose tables say that one entry holds so many times; FFmpeg indexes each, 24 bytes or more."""
    entry = _box(b"sowt", bytes(6), struct.pack(">HHHIHHHHI", 1, 0, 0, 0, 1, 16, 0, 0, 48_000 << 16))
    table = _box(
        b"stbl",
        _box(b"stsd", struct.pack(">II", 0, 1), entry),
        # Two ticks each: what lasts one, FFmpeg knows to be plain sound, and indexes by the chunk.
        _box(b"stts", struct.pack(">IIII", 0, 1, num_samples, 2)),
        _box(b"stsc", struct.pack(">IIIII", 0, 1, 1, num_samples, 1)),
        _box(b"stsz", struct.pack(">III", 0, 1, num_samples)),
        _box(b"stco", struct.pack(">III", 0, 1, 40)),
    )
    media = _box(
        b"mdia",
        _box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, 48_000, 480_000, 0x55C4, 0)),
        _box(b"hdlr", struct.pack(">II4s12x", 0, 0, b"soun"), b"s\0"),
        _box(b"minf", _box(b"smhd", bytes(8)), table),
    )
    track = _box(b"tkhd", struct.pack(">IIIIIIIIHHHH", 3, 0, 0, 1, 0, 10_000, 0, 0, 0, 0, 0x100, 0), MATRIX, bytes(8))
    film = _box(b"mvhd", struct.pack(">IIIIIIH10x", 0, 0, 0, 1000, 10_000, 0x10000, 0x100), MATRIX, bytes(24), bytes(4))
    ftyp = _box(b"ftyp", b"isom", bytes(4), b"isommp41")
    return ftyp + _box(b"mdat", bytes(1000)) + _box(b"moov", film, _box(b"trak", track, media))


def compressed_header(num_bytes: int) -> bytes:
    """QuickTime keeps its header compressed if it likes: a thousandth of what it unpacks to."""
    data = zlib.compress(struct.pack(">I4s", num_bytes, b"moov") + bytes(num_bytes - 8), 9)
    header = _box(b"cmov", _box(b"dcom", b"zlib"), _box(b"cmvd", struct.pack(">I", num_bytes), data))
    return _box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + _box(b"moov", header)


def nested_header(num_bytes: int) -> bytes:
    """The same, packed twice."""
    inner = compressed_header(num_bytes)
    data = zlib.compress(inner[inner.index(b"moov") - 4 :], 9)
    header = _box(b"cmov", _box(b"dcom", b"zlib"), _box(b"cmvd", struct.pack(">I", 2**20), data))
    return _box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + _box(b"moov", header)


def huge_cover(width: int) -> bytes:
    """Sound with a picture on its sleeve of so many pixels squared, all of them empty."""
    rows = zlib.compressobj(9)
    packed = b"".join([rows.compress(bytes(1 + width)) for _ in range(width)] + [rows.flush()])
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, width, 8, 0, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b"")]
    image = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    mime = b"image/png"
    picture = struct.pack(">II", 3, len(mime)) + mime + bytes(4) + struct.pack(">IIII", 16, 16, 32, 0)
    picture += struct.pack(">I", len(image)) + image
    sound = _written("flac", "flac", [0.0])
    # The first block, which describes the sound, and then this picture as the last one.
    return sound[:4] + b"\0" + sound[5:42] + b"\x86" + struct.pack(">I", len(picture))[1:] + picture + sound[-64:]


def hours_of_nothing(duration_s: float) -> bytes:
    """A packet at either end, and a kilobyte in all."""
    return _written("matroska", "libopus", [0.0, duration_s])


def packed(data: bytes) -> bytes:
    return gzip.compress(data)


def _written(form: str, codec: str, starts_s: list[float]) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=48_000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 48_000, 0
        [packet, *_] = [*stream.encode(frame), *stream.encode(None)]
        for start_s in starts_s:
            copy = Packet(bytes(packet))
            copy.stream, copy.time_base = stream, Fraction(1, 1000)
            copy.pts = copy.dts = round(start_s * 1000)
            container.mux(copy)
    return file.getvalue()


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), name) + body
