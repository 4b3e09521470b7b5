"""Reads from the headers of a file whether some of it is missing, or another file follows."""

from __future__ import annotations

from pathlib import Path

HEAD_BYTES = 2**16
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def missing_ratio(path: Path) -> float:
    """Bytes that the header of a RIFF or ASF file states, by those that it has; 1 if it states none."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    stated = _stated_bytes(head)
    return 1.0 if stated is None else max(1.0, stated / path.stat().st_size)


def is_followed(path: Path) -> bool:
    """True if another file was appended to a Matroska file."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        end = _segment_end(head)
        if end is None or end > path.stat().st_size:
            return False
        file.seek(end)
        return file.read(len(EBML)) == EBML


def is_mp4(path: Path) -> bool:
    """True for a file that begins as MP4 and QuickTime do, whatever its name."""
    with path.open("rb") as file:
        return file.read(8)[4:] in (b"ftyp", b"mdat", b"free", b"wide", b"skip", b"moov")


def _stated_bytes(head: bytes) -> int | None:
    if head[:4] == b"RIFF":
        size = int.from_bytes(head[4:8], "little") + 8
        return size if 8 < size < 2**32 else None
    properties = head.find(ASF_FILE_PROPERTIES)
    if properties >= 0:
        at = properties + 40  # after the object's id and size, and the file's id
        return int.from_bytes(head[at : at + 8], "little") or None
    return None


def _segment_end(head: bytes) -> int | None:
    """The place where a Matroska file's segment ends; None if it is no such file, or does not tell."""
    if head[:4] != EBML:
        return None
    size, at = _number(head, 4)
    if size is None or head[at + size : at + size + 4] != SEGMENT:
        return None
    segment, start = _number(head, at + size + 4)
    return None if segment is None else start + segment


def _number(data: bytes, at: int) -> tuple[int | None, int]:
    """An EBML size and the place after it; None for an unknown one."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    return (None if length > 8 or value == (1 << 7 * length) - 1 else value), at + length
