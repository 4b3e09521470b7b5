"""Containers and codecs of strangers' files that are read: those that people use, not all that FFmpeg knows.

FFmpeg reads hundreds of formats of old games and cameras; their code is seldom tried, and faults in it stay for years.
"""

from __future__ import annotations

import functools
from typing import Protocol

import av
from av.codec import Codec

FORMATS = frozenset(
    {
        # film
        *("asf", "avi", "dv", "flv", "gxf", "ivf", "live_flv", "matroska", "mov", "mpeg", "mpegts", "mxf", "nsv"),
        *("nut", "ogg", "rm", "wtv"),
        # bare pictures, which hold no sound: to be told so
        *("gif", "h264", "hevc", "m4v", "mpegvideo"),
        # sound
        *("aac", "ac3", "adx", "aiff", "amr", "amrnb", "amrwb", "ape", "aptx", "aptx_hd", "au", "caf", "dfpwm"),
        *("dsf", "dts", "dtshd", "eac3", "flac", "g722", "g723_1", "g726", "g726le", "g729", "gsm", "ilbc", "ircam"),
        *("latm", "loas", "mlp", "mp3", "mpc", "mpc8", "nistsphere", "oma", "qcp", "rso", "sbc", "sox", "spdif"),
        *("tak", "truehd", "tta", "voc", "w64", "wav", "wv", "xwma"),
    }
)
"""Demuxers, by any of FFmpeg's names of each."""

REFUSED_FORMATS = frozenset(
    {
        *("concat", "concatf", "dash", "hds", "hls", "imf", "rtp", "rtsp", "sap", "sdp", "smoothstreaming"),
        *("image2", "ivr", "lavfi", "mlv", "realtext", "tedcaptions", "tty", "vobsub", "webm_dash_manifest"),
        *("alsa", "fbdev", "kmsgrab", "oss", "v4l2", "video4linux2", "x11grab"),
    }
)
"""FFmpeg inputs that are not one file: playlists, capture devices, picture sequences, scripts. Each
could make FFmpeg open paths that the caller never named, so no setting admits them."""

CODECS = frozenset(
    {
        # sound
        *("aac", "aac_latm", "ac3", "alac", "amr_nb", "amr_wb", "ape", "aptx", "aptx_hd", "atrac1", "atrac3"),
        *("atrac3p", "cook", "dfpwm", "dolby_e", "dsd_lsbf", "dsd_lsbf_planar", "dsd_msbf", "dsd_msbf_planar", "dts"),
        *("dvaudio", "eac3", "evrc", "flac", "g723_1", "g729", "gsm", "gsm_ms", "ilbc", "mace3", "mace6", "mlp"),
        *("mp1", "mp2", "mp3", "mp3adu", "mp4als", "musepack7", "musepack8", "nellymoser", "opus", "qcelp", "qdm2"),
        *("ra_144", "ra_288", "s302m", "sbc", "shorten", "sipr", "speex", "tak", "truehd", "truespeech", "tta"),
        *("vorbis", "wavpack", "wmalossless", "wmapro", "wmav1", "wmav2", "wmavoice", "adpcm_adx", "adpcm_g722"),
        *("adpcm_g726", "adpcm_g726le", "adpcm_ima_oki", "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "adpcm_swf"),
        "adpcm_yamaha",
        # pictures
        *("8bps", "aic", "apng", "asv1", "asv2", "av1", "avrn", "avrp", "avui", "bmp", "cavs", "cfhd", "cinepak"),
        *("cljr", "cscd", "cyuv", "dirac", "dnxhd", "dvvideo", "ffv1", "ffvhuff", "flashsv", "flashsv2", "flv1"),
        *("fraps", "g2m", "gif", "h261", "h263", "h263i", "h263p", "h264", "hap", "hevc", "huffyuv", "indeo2"),
        *("indeo3", "indeo4", "indeo5", "jpeg2000", "jpegls", "lagarith", "magicyuv", "mjpeg", "mjpegb"),
        *("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "msrle", "mss1", "mss2"),
        *("msvideo1", "mszh", "pixlet", "png", "prores", "prores_raw", "qtrle", "r10k", "r210", "rawvideo", "rpza"),
        *("rv10", "rv20", "rv30", "rv40", "rv60", "smc", "snow", "speedhq", "svq1", "svq3", "targa", "theora"),
        *("tiff", "tscc", "tscc2", "utvideo", "v210", "v210x", "v308", "v408", "v410", "vc1", "vc1image", "vp3"),
        *("vp4", "vp5", "vp6", "vp6a", "vp6f", "vp7", "vp8", "vp9", "vmnc", "vvc", "webp", "wmv1", "wmv2", "wmv3"),
        *("wmv3image", "y41p", "yuv4", "zlib", "zmbv"),
        # text and captions
        *("ass", "dvb_subtitle", "dvd_subtitle", "eia_608", "hdmv_pgs_subtitle", "mov_text", "subrip", "text"),
        *("webvtt", "xsub"),
    }
)
"""Codecs, by FFmpeg's names; all that are plain PCM besides."""


class AllowedMedia(Protocol):
    """The part of ``MediaConfig`` that admits more."""

    @property
    def more_formats(self) -> tuple[str, ...]: ...
    @property
    def more_codecs(self) -> tuple[str, ...]: ...


def formats(config: AllowedMedia) -> str:
    """The demuxers that may open a file, as FFmpeg's option takes them."""
    return ",".join(sorted((FORMATS | set(config.more_formats)) - REFUSED_FORMATS))


def is_codec_allowed(name: str, config: AllowedMedia) -> bool:
    return name in CODECS or name.startswith("pcm_") or name in config.more_codecs


def decoders(config: AllowedMedia) -> str:
    """The decoders that may be opened, as FFmpeg's option takes them."""
    return _decoders(config.more_codecs)


@functools.cache
def _decoders(more: tuple[str, ...]) -> str:
    found = []
    for name in av.codecs_available:
        try:
            codec = Codec(name, "r").canonical_name
        except ValueError:  # it is an encoder alone
            continue
        if codec in CODECS or codec.startswith("pcm_") or codec in more:
            found.append(name)
    return ",".join(sorted(found))
