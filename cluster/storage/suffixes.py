"""File name suffixes of media, by the FFmpeg format that reads them."""

from __future__ import annotations

from collections.abc import Mapping

SUFFIXES_BY_FORMAT: Mapping[str, tuple[str, ...]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": ("mp4", "m4v", "m4a", "m4b", "mov", "f4v", "3gp", "3g2", "qt"),
    "matroska,webm": ("mkv", "mka", "mk3d", "webm"),
    "avi": ("avi", "divx"),
    "mpegts": ("ts", "mts", "m2ts", "m2t", "tp", "trp"),
    "mpeg": ("mpg", "mpeg", "vob", "m2p", "dat", "mod"),
    "mpegvideo": ("m2v", "m1v"),
    "asf": ("wmv", "wma", "asf"),
    "flv": ("flv",),
    "ogg": ("ogg", "ogv", "oga", "ogx", "opus", "spx"),
    "rm": ("rm", "rmvb", "ra"),
    "mxf": ("mxf",),
    "gxf": ("gxf",),
    "dv": ("dv", "dif"),
    "nut": ("nut",),
    "wtv": ("wtv",),
    "mp3": ("mp3", "mp2", "mpa"),
    "aac": ("aac", "adts"),
    "ac3": ("ac3",),
    "eac3": ("eac3", "ec3"),
    "dts": ("dts",),
    "wav": ("wav",),
    "w64": ("w64",),
    "aiff": ("aiff", "aif", "aifc"),
    "au": ("au", "snd"),
    "caf": ("caf",),
    "flac": ("flac",),
    "ape": ("ape",),
    "wv": ("wv",),
    "tta": ("tta",),
    "tak": ("tak",),
    "mpc": ("mpc",),
    "amr": ("amr",),
    "gsm": ("gsm",),
    "voc": ("voc",),
    "aa": ("aa",),
}
"""A test holds every format against those that PyAV can read."""

MEDIA_SUFFIXES = frozenset(f".{suffix}" for suffixes in SUFFIXES_BY_FORMAT.values() for suffix in suffixes)
"""Files of a folder that count as media; a file that is named itself needs no such suffix."""
