"""The inputs of the corpus, by what is odd about them, each with the outcome that is right."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from tests import bombs
from tests.corpus.expected import expected_outcomes
from tests.corpus.write import File, Picture, Sound, Talk, by_ffmpeg, write
from tests.media import SubtitleSpec, damage, png, truncate

Make = Callable[[Path, Talk], Path]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One input: its file's name, the group it belongs to, and how it is made."""

    name: str
    group: str
    make: Make

    @property
    def expected(self) -> str:
        """The outcome that is right; of a refusal its parts, with … for what may differ between them."""
        return expected_outcomes()[self.group, self.name]


FILM = File(pictures=[Picture()])
HDR10 = (9, 16, 9, 1)
HLG = (9, 18, 9, 1)
BT709 = (1, 1, 1, 1)
BT601 = (6, 6, 6, 1)
FULL_RANGE = (1, 1, 1, 2)
MASTERING = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"


def file(name: str, group: str, content: File) -> Case:
    return Case(name=name, group=group, make=lambda path, talk: write(path, talk, content))


def changed(name: str, group: str, content: File, change: Callable[[Path], object]) -> Case:
    def make(path: Path, talk: Talk) -> Path:
        change(write(path, talk, content))
        return path

    return Case(name=name, group=group, make=make)


def by_command(name: str, group: str, *arguments: str, base: File | None = None) -> Case:
    return Case(name=name, group=group, make=lambda path, talk: by_ffmpeg(path, talk, arguments, base))


def raw(name: str, group: str, content: Callable[[], bytes]) -> Case:
    def make(path: Path, talk: Talk) -> Path:
        path.write_bytes(content())
        return path

    return Case(name=name, group=group, make=make)


def containers() -> Iterator[Case]:
    """A film or a sound in every container that is met."""
    group = "containers"
    films = [
        ("film.mp4", "libx264", "aac"), ("film.m4v", "libx264", "aac"), ("film.mov", "libx264", "aac"),
        ("film.mkv", "libx264", "aac"), ("film.webm", "libvpx", "libopus"), ("film.ts", "libx264", "aac"),
        ("film.mpg", "mpeg1video", "mp2"), ("film.vob", "mpeg2video", "ac3"), ("film.avi", "mpeg4", "libmp3lame"),
        ("film.flv", "libx264", "aac"), ("old.flv", "flv", "libmp3lame"), ("film.wmv", "wmv2", "wmav2"),
        ("film.asf", "msmpeg4", "wmav1"), ("film.nut", "ffv1", "flac"), ("film.mxf", "mpeg2video", "pcm_s16le"),
        ("film.f4v", "libx264", "aac"), ("film.ismv", "libx264", "aac"), ("film.rm", "rv20", "ac3"),
    ]  # fmt: skip
    forms = {"film.f4v": "f4v", "film.ismv": "ismv", "film.vob": "vob", "film.m4v": "mp4"}
    for name, picture, sound in films:
        yield file(
            name,
            group,
            File(pictures=[Picture(codec=picture)], sounds=[Sound(codec=sound)], form=forms.get(name)),
        )
    phone = File(
        pictures=[Picture(codec="h263", size=(176, 144))],
        sounds=[Sound(codec="libopencore_amrnb", hz=8_000, layout="mono", bits_per_s=12_200)],
        form="3gp",
    )
    yield file("phone.3gp", group, phone)
    yield file("phone.3g2", group, File(pictures=[Picture()], form="3g2"))
    yield file(
        "fragmented.mp4", group, File(pictures=[Picture()], options={"movflags": "frag_keyframe+empty_moov+delay_moov"})
    )
    yield file("index_last.mp4", group, File(pictures=[Picture()]))
    yield file("index_first.mp4", group, File(pictures=[Picture()], options={"movflags": "+faststart"}))
    yield by_command("film.dv", group, "-s", "720x576", "-r", "25", "-pix_fmt", "yuv420p", "-ar", "48000", "-ac", "2")
    yield by_command("film.ogv", group, "-c:v", "libtheora", "-c:a", "libvorbis")
    yield by_command("blu-ray.m2ts", group, "-c:v", "libx264", "-c:a", "ac3", "-mpegts_m2ts_mode", "1")
    yield by_command("film.wtv", group, "-c:v", "mpeg2video", "-c:a", "mp2")
    yield by_command(
        "film.gxf", group, "-s", "720x576", "-c:v", "mpeg2video", "-c:a", "pcm_s16le", "-ar", "48000", "-ac", "1"
    )


SOUNDS = [
    ("sound.wav", Sound(codec="pcm_s16le")), ("sound.aiff", Sound(codec="pcm_s16be")),
    ("sound.au", Sound(codec="pcm_s16be")), ("sound.caf", Sound(codec="alac")), ("sound.w64", Sound(codec="pcm_s24le")),
    ("sound.flac", Sound(codec="flac")), ("sound.mp3", Sound(codec="libmp3lame")), ("sound.mp2", Sound(codec="mp2")),
    ("sound.ogg", Sound(codec="libopus")), ("sound.opus", Sound(codec="libopus")), ("sound.oga", Sound(codec="flac")),
    ("sound.m4a", Sound()), ("lossless.m4a", Sound(codec="alac")), ("sound.aac", Sound()),
    ("sound.ac3", Sound(codec="ac3")), ("sound.eac3", Sound(codec="eac3")), ("sound.mka", Sound(codec="libopus")),
    ("sound.webm", Sound(codec="libopus")), ("sound.wma", Sound(codec="wmav2")), ("sound.wv", Sound(codec="wavpack")),
    ("sound.tta", Sound(codec="tta")), ("sound.voc", Sound(codec="pcm_u8", hz=22_050, layout="mono")),
    ("sound.rso", Sound(codec="pcm_u8", hz=8_000, layout="mono")),
    ("voice.amr", Sound(codec="libopencore_amrnb", hz=8_000, layout="mono", bits_per_s=12_200)),
    ("voice.g722", Sound(codec="g722", hz=16_000, layout="mono")),
    ("voice.g726.wav", Sound(codec="g726", hz=8_000, layout="mono", bits_per_s=32_000)),
    ("voice.g723_1.wav", Sound(codec="g723_1", hz=8_000, layout="mono", bits_per_s=6_300)),
    ("mulaw.wav", Sound(codec="pcm_mulaw", hz=8_000, layout="mono")),
    ("alaw.wav", Sound(codec="pcm_alaw", hz=8_000, layout="mono")),
    ("ima.wav", Sound(codec="adpcm_ima_wav", hz=22_050)), ("ms.wav", Sound(codec="adpcm_ms", hz=22_050)),
    ("yamaha.wav", Sound(codec="adpcm_yamaha", hz=22_050)), ("qt.mov", Sound(codec="adpcm_ima_qt", hz=22_050)),
    ("swf.flv", Sound(codec="adpcm_swf", hz=22_050)),
    ("nelly.flv", Sound(codec="nellymoser", hz=22_050, layout="mono")),
    ("mp3.wav", Sound(codec="libmp3lame")), ("aac.mkv", Sound()),
    ("dfpwm.wav", Sound(codec="dfpwm", hz=48_000, layout="mono")), ("sound.adx", Sound(codec="adpcm_adx", hz=22_050)),
     ("sbc.sbc", Sound(codec="sbc", hz=44_100)),
    ("aptx.aptx", Sound(codec="aptx", hz=44_100)),
]  # fmt: skip


def sounds() -> Iterator[Case]:
    """Each codec of sound, in a file of its own."""
    group = "sound codecs"
    forms = {
        **{"sound.ac3": "ac3", "sound.eac3": "eac3", "sound.aac": "adts", "sound.mp2": "mp2", "sound.opus": "ogg"},
        **{"sound.oga": "ogg", "sound.m4a": "mp4", "lossless.m4a": "ipod", "sound.mka": "matroska", "sbc.sbc": "sbc"},
        **{"aptx.aptx": "aptx"},
    }
    for name, sound in SOUNDS:
        yield file(name, group, File(sounds=[sound], form=forms.get(name)))
    for name, codec, arguments in (
        ("speex.ogg", "libspeex", ("-ar", "16000", "-ac", "1")),
        ("gsm.gsm", "libgsm", ("-ar", "8000", "-ac", "1")),
        ("gsm.wav", "libgsm_ms", ("-ar", "8000", "-ac", "1")),
        ("vorbis.ogg", "libvorbis", ()),
        ("dts.dts", "dca", ("-strict", "-2")),
        ("truehd.thd", "truehd", ("-strict", "-2")),
        ("mlp.mlp", "mlp", ("-strict", "-2")),
        ("codec2.c2", "libcodec2", ("-ar", "8000", "-ac", "1")),
        ("s302m.ts", "s302m", ("-strict", "-2")),
        ("sonic.nut", "sonic", ("-strict", "-2")),
        ("voice.ra", "real_144", ("-ar", "8000", "-ac", "1", "-f", "rm")),
    ):
        yield by_command(name, group, "-vn", "-c:a", codec, *arguments)


def samples() -> Iterator[Case]:
    """Sample rates, sample formats, planar and packed, and channels."""
    group = "rates, formats, channels"
    for hz in (8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 88_200, 96_000, 192_000, 384_000):
        yield file(f"{hz}.wav", group, File(sounds=[Sound(codec="pcm_s16le", hz=hz, layout="mono")]))
    yield file("7350.m4a", group, File(sounds=[Sound(hz=7_350, layout="mono")], form="mp4"))
    for codec in ("u8", "s8", "s24le", "s32le", "f32le", "f64le", "s16be", "s24be", "s32be", "f32be", "f64be"):
        suffix = "wav" if codec.endswith(("u8", "le")) else "aiff"
        yield file(f"{codec}.{suffix}", group, File(sounds=[Sound(codec=f"pcm_{codec}")]))
    yield file("s64le.nut", group, File(sounds=[Sound(codec="pcm_s64le")]))
    yield file("planar.nut", group, File(sounds=[Sound(codec="pcm_s16le_planar")]))
    yield file("u16.nut", group, File(sounds=[Sound(codec="pcm_u16le")]))
    yield file("24_bit.flac", group, File(sounds=[Sound(codec="flac", sample_format="s32")]))
    layouts = [
        "2.1",
        "3.0",
        "quad",
        "5.0",
        "5.1",
        "5.1(side)",
        "6.1",
        "7.1",
        "7.1(wide)",
        "5.1.2",
        "5.1.4",
        "7.1.4",
        "9.1.4",
    ]
    for layout in layouts:
        name = layout.replace("(", "_").replace(")", "")
        yield file(f"{name}.wav", group, File(sounds=[Sound(codec="pcm_s16le", layout=layout)]))
    for layout, codec, suffix in (
        ("5.1", "aac", "mp4"), ("7.1", "aac", "mp4"), ("5.1(side)", "ac3", "mkv"), ("5.1(side)", "eac3", "mkv"),
        ("7.1", "flac", "flac"), ("7.1", "libopus", "mka"), ("7.1", "wavpack", "wv"), ("5.1", "alac", "m4a"),
        ("hexadecagonal", "pcm_s16le", "wav"), ("22.2", "pcm_s16le", "wav"),
    ):  # fmt: skip
        name = layout.replace("(", "_").replace(")", "")
        yield file(f"{name}_{codec}.{suffix}", group, File(sounds=[Sound(codec=codec, layout=layout)]))
    yield file("8_channels_float.wav", group, File(sounds=[Sound(codec="pcm_f32le", layout="7.1", hz=96_000)]))


def pictures() -> Iterator[Case]:
    """Codecs and shapes of the picture, rotation, colours and times."""
    group = "pictures"
    codecs = [
        ("h264.mkv", "libx264", "yuv420p"), ("hevc.mp4", "libx265", "yuv420p"), ("vp8.webm", "libvpx", "yuv420p"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"), ("av1.mp4", "libsvtav1", "yuv420p"), ("mpeg4.mp4", "mpeg4", "yuv420p"),
        ("mjpeg.avi", "mjpeg", "yuvj420p"), ("mjpeg.mov", "mjpeg", "yuvj420p"), ("msmpeg4.avi", "msmpeg4", "yuv420p"),
        ("msmpeg4v2.avi", "msmpeg4v2", "yuv420p"), ("huffyuv.avi", "huffyuv", "yuv422p"),
        ("ffvhuff.avi", "ffvhuff", "yuv420p"), ("ffv1.avi", "ffv1", "yuv420p"), ("utvideo.avi", "utvideo", "yuv420p"),
        ("rawvideo.avi", "rawvideo", "yuv420p"), ("raw_rgb.avi", "rawvideo", "bgr24"),
        ("cinepak.avi", "cinepak", "rgb24"),
        ("prores.mov", "prores_ks", "yuv422p10le"), ("dnxhd.mxf", "dnxhd", "yuv422p"), ("svq1.mov", "svq1", "yuv410p"),
        ("qtrle.mov", "qtrle", "rgb24"), ("png.mov", "png", "rgb24"), ("v210.mov", "v210", "yuv422p10le"),
        ("r210.mov", "r210", "gbrp10le"), ("flashsv.flv", "flashsv", "bgr24"), ("zmbv.avi", "zmbv", "bgr0"),
        ("snow.nut", "snow", "yuv420p"), ("magicyuv.avi", "magicyuv", "yuv420p"), ("asv1.avi", "asv1", "yuv420p"),
        ("gif.nut", "gif", "rgb8"), ("jpeg2000.mov", "jpeg2000", "yuv420p"), ("cfhd.mov", "cfhd", "yuv422p10le"),
        ("speedhq.nut", "speedhq", "yuv422p"), ("rv10.rm", "rv10", "yuv420p"),
        ("h261.avi", "h261", "yuv420p"), ("wmv1.wmv", "wmv1", "yuv420p"), ("mpeg2.ts", "mpeg2video", "yuv420p"),
        ("rpza.mov", "rpza", "rgb555"), ("msvideo1.avi", "msvideo1", "rgb555"),
        ("444.mp4", "libx264", "yuv444p"), ("10_bit.mkv", "libx264", "yuv420p10le"), ("grey.mkv", "ffv1", "gray"),
    ]  # fmt: skip
    sizes = {"dnxhd.mxf": (1920, 1080), "h261.avi": (176, 144), "rv10.rm": (176, 144)}
    sound_of = {
        "webm": "libopus",
        "avi": "libmp3lame",
        "mxf": "pcm_s16le",
        "wmv": "wmav2",
        "nut": "flac",
        "rm": "ac3",
        "ts": "mp2",
    }
    for name, codec, pix_fmt in codecs:
        options = (
            {"b": "36M"} if codec == "dnxhd" else {"x265-params": "log-level=none:crf=30"} if codec == "libx265" else {}
        )
        options |= {"strict": "-2"}
        picture = Picture(
            codec=codec, pix_fmt=pix_fmt, size=sizes.get(name, (160, 96)), options=options,
            num_pictures=20 if codec in ("dnxhd", "libsvtav1") else None,
        )  # fmt: skip
        yield file(
            name, group, File(pictures=[picture], sounds=[Sound(codec=sound_of.get(name.split(".")[-1], "aac"))])
        )
    for degrees in (90, 180, 270):
        yield file(f"rotated_{degrees}.mp4", group, File(pictures=[Picture(rotation=degrees)]))
        yield file(f"rotated_{degrees}.mkv", group, File(pictures=[Picture(rotation=degrees)]))
    turned = Picture(codec="rawvideo", pix_fmt="yuv420p", rotation=90)
    yield file("rotated_raw.mkv", group, File(pictures=[turned]))
    yield file("pixels_unknown.mov", group, File(pictures=[turned], sounds=[Sound(codec="pcm_s16le")]))
    yield file("odd_size.mkv", group, File(pictures=[Picture(codec="ffv1", pix_fmt="yuv444p", size=(161, 97))]))
    yield file(
        "odd_size_raw.avi",
        group,
        File(pictures=[Picture(codec="rawvideo", pix_fmt="bgr24", size=(161, 97))], sounds=[Sound(codec="libmp3lame")]),
    )
    yield file("aspect.mkv", group, File(pictures=[Picture(aspect=Fraction(16, 11))]))
    yield file("aspect_raw.mkv", group, File(pictures=[Picture(codec="rawvideo", aspect=Fraction(16, 11))]))
    yield from _colours(group)
    yield from _times(group)


def _colours(group: str) -> Iterator[Case]:
    hevc = {"x265-params": f"log-level=none:{MASTERING}", "crf": "30"}
    for name, colour in (("709", BT709), ("601", BT601), ("full", FULL_RANGE), ("hlg", HLG)):
        for suffix in ("mp4", "mkv"):
            yield file(f"{name}.{suffix}", group, File(pictures=[Picture(colour=colour)]))
        raw_picture = Picture(codec="rawvideo", colour=colour)
        yield file(f"{name}_raw.mkv", group, File(pictures=[raw_picture]))
    for suffix in ("mp4", "mkv", "ts"):
        picture = Picture(codec="libx265", pix_fmt="yuv420p10le", colour=HDR10, options=hevc)
        yield file(f"hdr10.{suffix}", group, File(pictures=[picture]))


def _times(group: str) -> Iterator[Case]:
    millisecond = Fraction(1, 1000)
    uneven = Picture(times_s=lambda number: number / 25 + 0.015 * (number % 3), base=millisecond)
    sparse = Picture(times_s=lambda number: number * 0.8, base=millisecond, num_pictures=5)
    for suffix in ("mp4", "mkv"):
        yield file(f"uneven.{suffix}", group, File(pictures=[uneven]))
        yield file(f"slides.{suffix}", group, File(pictures=[sparse]))
    uneven_raw = Picture(codec="rawvideo", times_s=uneven.times_s, base=millisecond)
    yield file("uneven_raw.mkv", group, File(pictures=[uneven_raw]))
    yield file("one_picture.mp4", group, File(pictures=[Picture(num_pictures=1)]))
    yield file("two_pictures.mkv", group, File(pictures=[Picture(), Picture(pix_fmt="yuv422p")]))
    yield file("b_frames.mp4", group, File(pictures=[Picture(options={"bf": "3", "b_strategy": "0"})]))


GROUPED = File(pictures=[Picture(options={"g": "12"})], sounds=[Sound(codec="flac")])


def offsets() -> Iterator[Case]:
    """Streams that start late or early, edit lists, and recordings whose times jump."""
    group = "times"
    for suffix in ("mp4", "mkv", "mov", "flv"):
        yield file(f"sound_late.{suffix}", group, File(pictures=[Picture()], sounds=[Sound(start_s=1.2)]))
        yield file(f"picture_late.{suffix}", group, File(pictures=[Picture(start_s=1.2)]))
        yield file(f"both_late.{suffix}", group, File(pictures=[Picture(start_s=9.0)], sounds=[Sound(start_s=9.0)]))
    yield file("sound_short.mp4", group, File(pictures=[Picture()], sounds=[Sound(speed=4.0)]))
    yield file("picture_short.mp4", group, File(pictures=[Picture(num_pictures=20)]))
    late_ts = File(pictures=[Picture(start_s=3600.0)], sounds=[Sound(codec="mp2", start_s=3600.0)])
    yield file("from_an_hour.ts", group, late_ts)
    yield by_command(
        "wraps.ts", group, "-c:v", "mpeg2video", "-c:a", "mp2", "-output_ts_offset", "95442", "-muxdelay", "0"
    )
    yield by_command(
        "edited.mp4", group, "-c:v", "libx264", "-bf", "2", "-c:a", "aac", "-ss", "1.03", "-movflags", "+faststart"
    )
    yield by_command("cut_in_the_middle.mp4", group, "-ss", "1.3", "-c:v", "copy", "-c:a", "aac", base=GROUPED)
    yield by_command("cut_copied.mkv", group, "-ss", "1.3", "-c", "copy", base=GROUPED)


TS = File(pictures=[Picture()], sounds=[Sound(codec="mp2")])
AVI = File(pictures=[Picture(codec="mpeg4")], sounds=[Sound(codec="libmp3lame")])
MXF = File(pictures=[Picture(codec="mpeg2video")], sounds=[Sound(codec="pcm_s16le")])
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+delay_moov"}
WHOLE_FILES = [
    ("film.mkv", FILM), ("film.ts", TS), ("film.avi", AVI),
    ("film.flv", FILM), ("film.webm", File(pictures=[Picture(codec="libvpx")], sounds=[Sound(codec="libopus")])),
    ("film.wmv", File(pictures=[Picture(codec="wmv2")], sounds=[Sound(codec="wmav2")])),
    ("first.mp4", File(pictures=[Picture()], options={"movflags": "+faststart"})), ("last.mp4", FILM),
    ("fragmented.mp4", File(pictures=[Picture(options={"g": "12"})], options=FRAGMENTS)),
    ("film.mpg", File(pictures=[Picture(codec="mpeg1video")], sounds=[Sound(codec="mp2")])),
    ("sound.wav", File(sounds=[Sound(codec="pcm_s16le")])), ("sound.mp3", File(sounds=[Sound(codec="libmp3lame")])),
    ("sound.flac", File(sounds=[Sound(codec="flac")])), ("sound.ogg", File(sounds=[Sound(codec="libopus")])),
    ("sound.aac", File(form="adts")), ("sound.aiff", File(sounds=[Sound(codec="pcm_s16be")])),
    ("sound.m4a", File(form="mp4")), ("film.mxf", MXF),
]  # fmt: skip

NOT_JOINED = {"fragmented.mp4", "film.mxf"}
"""Their readers mix the times of both files."""


def broken() -> Iterator[Case]:
    """Half files, broken indices, noise in the middle, and files appended to one another."""
    for name, content in WHOLE_FILES:
        yield changed(f"half_{name}", "half files", content, lambda path: truncate(path, 0.5))
        yield changed(f"noise_{name}", "noise in the middle", content, lambda path: damage(path, 0.5, 0.55))
        if name not in NOT_JOINED:
            yield changed(f"twice_{name}", "joined files", content, _twice)
    yield changed("no_index.avi", "broken index", dict(WHOLE_FILES)["film.avi"], lambda path: _overwrite(path, b"idx1"))
    yield changed("no_cues.mkv", "broken index", FILM, lambda path: _overwrite(path, b"\x1c\x53\xbb\x6b"))
    yield changed("no_seek_head.mkv", "broken index", FILM, lambda path: _overwrite(path, b"\x11\x4d\x9b\x74"))
    yield changed("zero_sizes.wav", "broken index", File(sounds=[Sound(codec="pcm_s16le")]), _streamed_wav)
    yield changed("moov_as_free.mp4", "broken index", FILM, lambda path: _overwrite(path, b"moov"))
    yield changed("no_sync_table.mp4", "broken index", FILM, lambda path: _overwrite(path, b"stss"))
    yield changed("head_cut.ts", "broken index", TS, lambda path: path.write_bytes(path.read_bytes()[1000:]))
    mp3 = File(sounds=[Sound(codec="libmp3lame")])
    yield changed("head_cut.mp3", "broken index", mp3, lambda path: path.write_bytes(path.read_bytes()[1000:]))
    yield changed(
        "trailing_junk.mp4", "broken index", FILM, lambda path: path.write_bytes(path.read_bytes() + b"x" * 9999)
    )
    yield changed(
        "leading_junk.mp3", "broken index", mp3, lambda path: path.write_bytes(b"\0" * 999 + path.read_bytes())
    )


def _twice(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def _overwrite(path: Path, name: bytes) -> None:
    """Make every element of this name one that no reader knows."""
    data = path.read_bytes()
    assert name in data
    path.write_bytes(data.replace(name, b"\xec" + name[1:] if name[0] < 0x20 else b"free"[: len(name)]))


def _streamed_wav(path: Path) -> None:
    """Sizes as recorders write them that cannot go back: unknown."""
    data = bytearray(path.read_bytes())
    data[4:8] = b"\xff\xff\xff\xff"
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)


def carried() -> Iterator[Case]:
    """What stands beside sound and picture: covers, chapters, attachments, subtitles, timecode and other data."""
    group = "brought along"
    chapters = [(0.0, 2.0, "Beginning"), (2.0, 4.0, "End — Ende")]
    tags = {"title": "Kleine Wunder", "artist": "Hannah & Joe", "comment": "a\nb", "date": "2024"}
    for suffix, sound in (
        ("mp4", "aac"),
        ("m4a", "aac"),
        ("mp3", "libmp3lame"),
        ("flac", "flac"),
    ):
        form = {"m4a": "mp4"}.get(suffix)
        yield file(f"cover.{suffix}", group, File(sounds=[Sound(codec=sound)], has_cover=True, form=form))
    for suffix, sound in (
        ("mp4", "aac"),
        ("mkv", "aac"),
        ("mov", "aac"),
        ("mp3", "libmp3lame"),
        ("ogg", "libopus"),
        ("m4a", "aac"),
    ):
        form = {"m4a": "ipod"}.get(suffix)
        yield file(f"chapters.{suffix}", group, File(sounds=[Sound(codec=sound)], chapters=chapters, form=form))
        yield file(f"tags.{suffix}", group, File(sounds=[Sound(codec=sound)], tags=tags, form=form))
    yield file("tags.wav", group, File(sounds=[Sound(codec="pcm_s16le")], tags=tags))
    yield file("tags.flac", group, File(sounds=[Sound(codec="flac")], tags=tags))
    yield file("any_tags.mkv", group, File(tags={**tags, "Anything": "goes", "ÜBER": "ü"}))
    yield file("any_tags.ogg", group, File(sounds=[Sound(codec="libopus")], tags={**tags, "anything": "goes"}))
    for suffix in ("mkv", "mka"):
        covers = [("cover.png", "image/png", png())]
        yield file(f"cover.{suffix}", group, File(attachments=covers, form="matroska"))
    fonts = [("Sans.ttf", "font/ttf", b"not a font" * 10), ("notes.txt", "text/plain", b"Hello")]
    yield file("attachments.mkv", group, File(pictures=[Picture()], attachments=fonts))
    cues = [(0.5, 1.5, "Hello"), (2.0, 3.0, "Good bye")]
    subtitles = [SubtitleSpec(cues=cues, language="eng"), SubtitleSpec(cues=cues, language="fra")]
    for suffix in ("mp4", "mkv", "mov"):
        yield file(f"subtitles.{suffix}", group, File(pictures=[Picture()], subtitles=subtitles))
    languages = [
        Sound(language="eng", title="Main", default=True),
        Sound(language="deu", title="Kommentar"),
        Sound(codec="ac3", language="jpn"),
    ]
    for suffix in ("mp4", "mkv", "mov"):
        yield file(f"three_languages.{suffix}", group, File(pictures=[Picture()], sounds=languages))
    yield file("klv.ts", group, File(pictures=[Picture()], sounds=[Sound(codec="mp2")], data_codec="klv"))
    yield file("scte_35.ts", group, File(pictures=[Picture()], sounds=[Sound(codec="mp2")], data_codec="scte_35"))
    yield file("timed_id3.ts", group, File(pictures=[Picture()], sounds=[Sound(codec="mp2")], data_codec="timed_id3"))
    for suffix in ("mp4", "mov"):
        yield by_command(f"timecode.{suffix}", group, "-c:v", "libx264", "-c:a", "aac", "-timecode", "01:02:03:04")
    yield by_command("timecode.mxf", group, "-c:v", "mpeg2video", "-c:a", "pcm_s16le", "-timecode", "01:02:03:04")


def hostile() -> Iterator[Case]:
    """Small files that are large once opened, endless ones, and files that are none."""
    group = "bombs"
    yield raw("many_samples.mp4", group, lambda: bombs.repeated_samples(60_000_000))
    yield raw("compressed_header.mov", group, lambda: bombs.compressed_header(2**28))
    yield raw("nested_header.mov", group, lambda: bombs.nested_header(2**28))
    yield raw("huge_cover.flac", group, lambda: bombs.huge_cover(9_000))
    yield raw("hours_of_nothing.mkv", group, lambda: bombs.hours_of_nothing(7 * 3600.0))
    group = "not media"
    yield raw("empty.mp4", group, lambda: b"")
    yield raw("text.mp4", group, lambda: b"This is a letter, not a film.\n" * 50)
    yield raw("noise.mkv", group, lambda: np.random.default_rng(1).bytes(50_000))
    yield raw("zeros.mp4", group, lambda: bytes(100_000))
    yield raw("page.mp4", group, lambda: b"<!DOCTYPE html><html><body>Not found</body></html>")
    yield raw("playlist.m3u8", group, lambda: b"#EXTM3U\n#EXTINF:5,\n/etc/passwd\n#EXT-X-ENDLIST\n")
    yield raw("list.ffconcat", group, lambda: b"ffconcat version 1.0\nfile '/etc/passwd'\n")
    yield raw("packed.zip", group, lambda: b"PK\x03\x04" + bytes(26) + b"film.mp4" + bytes(1000))
    yield raw("paper.pdf", group, lambda: b"%PDF-1.7\n" + bytes(1000))
    yield file("mute.mp4", group, File(pictures=[Picture()], sounds=[]))
    yield file(
        "still.png",
        group,
        File(pictures=[Picture(codec="png", pix_fmt="rgb24", num_pictures=1)], sounds=[], form="image2"),
    )
    yield file("moving.gif", group, File(pictures=[Picture(codec="gif", pix_fmt="rgb8")], sounds=[]))
    yield file("words.srt", group, File(sounds=[], subtitles=[SubtitleSpec(cues=[(0.5, 1.5, "Hello")])], form="srt"))
    yield raw(
        "header_alone.wav",
        group,
        lambda: b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\0\0\0\0",
    )
    yield raw(
        "no_rate.wav",
        group,
        lambda: (
            b"RIFF"
            + struct.pack("<I", 2036)
            + b"WAVEfmt \x10\0\0\0\1\0\1\0\0\0\0\0\0\0\0\0\2\0\x10\0data"
            + struct.pack("<I", 2000)
            + bytes(2000)
        ),
    )


NAMES = [
    "with space.mp4", "-i.mp4", "--help.mp4", "número ñ 日本語.mp4", "emoji 🎬.mp4", "new\nline.mp4",
    "quote's \"double\".mp4",
    "percent%03d.mp4", "http:x.mp4", "concat:a|b.mp4", "a;b&c$d`e.mp4", "no suffix", "wrong.mp3", "wrong.txt",
    "UPPER.MP4", ".hidden.mp4", "trailing.", "two..dots.mp4", "tab\there.mp4", "[brackets]{x}*.mp4", "back\\slash.mp4",
    "x" * 240 + ".mp4", "bytes\udcff\udcfe.mp4", "right\u202eleft.mp4", "combining e\u0301.mp4", "null.mp4.part",
]  # fmt: skip


def names() -> Iterator[Case]:
    """One film under every odd name."""
    for name in NAMES:
        yield file(name, "names", File(pictures=[Picture()], form="mp4"))


def all_cases() -> list[Case]:
    makers = (containers, sounds, samples, pictures, offsets, broken, carried, hostile, names)
    return [case for make in makers for case in make()]
