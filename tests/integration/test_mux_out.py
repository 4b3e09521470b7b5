"""Writing media: dubs beside the untouched source, in time to the millisecond."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from actors.errors import ConfigError, MediaError
from actors.types import Samples
from cluster.media.decode import decode_audio
from cluster.media.encode import ENCODE_HZ, AudioEncoder
from cluster.media.mux import DubTrack, MuxResult, SourceText, mux
from cluster.media.plan import dub_suffix, output_suffix
from cluster.media.probe import probe
from cluster.subtitles.layout import Cue, lay_out
from tests.media import (
    AudioSpec,
    SubtitleSpec,
    VideoSpec,
    click_error_s,
    clicks,
    damage,
    make_media,
    packets_of,
    png,
    tone,
    truncate,
)

AT_S = (0.5, 1.5, 2.5)
CUES = lay_out([Cue(start_s=0.25, end_s=1.5, text="Olá <i>mundo</i>"), Cue(start_s=1.75, end_s=2.5, text="Até logo")])
CLIPS = Path(__file__).parents[3] / "shared" / "media"


def encode(path: Path, samples: Samples) -> Path:
    with AudioEncoder(path, num_channels=samples.shape[1]) as encoder:
        for at in range(0, len(samples), ENCODE_HZ):
            encoder.write(samples[at : at + ENCODE_HZ])
    return path


def dub(
    source: Path, languages: Sequence[str] = ("pt",), source_language: str | None = "en", suffix: str = ""
) -> MuxResult:
    """Dub with clicks as long as the source."""
    info = probe(source)
    out = source.with_name("out" + (suffix or output_suffix(info)))
    length = round(info.duration_s * ENCODE_HZ)
    samples = np.resize(clicks(max(3.0, info.duration_s), AT_S), (length, 2))
    dubs = [
        DubTrack(
            language=language,
            audio=encode(source.with_name(f"{language}{dub_suffix(out.suffix)}"), samples),
            subtitles=CUES,
            title=f"Dub {language}",
        )
        for language in languages
    ]
    text = SourceText(track=info.audio[0], language=source_language, subtitles=CUES)
    return mux(info, dubs, out, source=text)


def heard(path: Path, number: int) -> Samples:
    info = probe(path)
    return np.concatenate(list(decode_audio(info, info.audio[number], hz=ENCODE_HZ, channels="mono")))


def describe(path: Path) -> list[tuple[Any, ...]]:
    """Each stream as (type, language, default, original, dub)."""
    with av.open(str(path)) as container:
        return [
            (
                stream.type,
                stream.language,
                bool(stream.disposition & Disposition.default),
                bool(stream.disposition & Disposition.original),
                bool(stream.disposition & Disposition.dub),
            )
            for stream in container.streams
        ]


def streams_of(path: Path, kind: str) -> list[int]:
    with av.open(str(path)) as container:
        return [stream.index for stream in container.streams if stream.type == kind]


def payload_hash(path: Path, index: int) -> str:
    # MP4's muxer puts empty text (two bytes) between subtitles.
    return hashlib.sha256(b"\0".join(data for _, _, data in packets_of(path, index) if len(data) > 2)).hexdigest()


def pictures(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [hashlib.sha256(frame.to_ndarray().tobytes()).digest() for frame in container.decode(video=0)]


# --- where the dub lands


@pytest.mark.parametrize("suffix", [".m4a", ".mka", ".flac"])
@pytest.mark.parametrize("num_samples", [1023, 48_000, 154_421])
def test_encoded_audio_starts_at_zero_and_is_as_long_as_written(tmp_path: Path, suffix: str, num_samples: int) -> None:
    path = encode(tmp_path / f"a{suffix}", tone(4.0)[:num_samples])
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        assert frames[0].time == 0.0
        total = sum(frame.samples for frame in frames)
    # AAC's last frame is whole; the container says where in it the audio ends.
    assert num_samples <= total < num_samples + (1024 if suffix == ".m4a" else 1)
    if suffix == ".m4a":
        assert probe(path).duration_s == pytest.approx(num_samples / ENCODE_HZ, abs=1e-4)


@pytest.mark.parametrize("start_s", [0.0, 1.6])
@pytest.mark.parametrize("video", [True, False])
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".mkv", "libopus"), (".mkv", "aac"), (".mkv", "flac")])
def test_clicks_stay_in_place(tmp_path: Path, suffix: str, codec: str, video: bool, start_s: float) -> None:
    source = make_media(
        tmp_path / f"source{suffix}",
        video=[VideoSpec(duration_s=3.0)] if video else [],
        audio=[AudioSpec(samples=clicks(3.0, AT_S), codec=codec)],
        start_s=start_s,
    )
    result = dub(source)
    assert result.path.suffix == ((suffix if suffix == ".mp4" else ".mkv") if video else ".mka")
    info, before = probe(result.path), probe(source)
    # To one packet: a codec may round its own last one up.
    assert info.duration_s == pytest.approx(before.duration_s, abs=0.025)
    assert info.start_s == pytest.approx(0.0, abs=0.0011)
    dubbed, original = heard(result.path, 0), heard(result.path, 1)
    assert all(abs(click_error_s(dubbed, at_s)) < 0.001 for at_s in AT_S)
    # The original must be heard where the source has it on the media timeline.
    reference = heard(source, 0)
    for at_s in AT_S:
        assert click_error_s(original, at_s) == pytest.approx(click_error_s(reference, at_s), abs=0.0015)


@pytest.mark.parametrize(
    ("suffix", "video", "audio"),
    [(".ts", "libx264", "mp2"), (".avi", "mpeg4", "libmp3lame"), (".webm", "libvpx", "libopus")],
)
def test_other_containers_become_matroska(tmp_path: Path, suffix: str, video: str, audio: str) -> None:
    source = make_media(
        tmp_path / f"source{suffix}",
        video=[VideoSpec(duration_s=3.0, codec=video)],
        audio=[AudioSpec(samples=clicks(3.0, AT_S), codec=audio)],
    )
    result = dub(source)
    assert result.path.suffix == ".mkv"
    assert result.dropped == ()
    assert all(abs(click_error_s(heard(result.path, 0), at_s)) < 0.001 for at_s in AT_S)
    (before,), (after,) = streams_of(source, "video"), streams_of(result.path, "video")
    # Matroska wants lengths before H.264's units where a transport stream has start codes: the units are
    # the same, so they decode to the same pictures.
    assert pictures(source) == pictures(result.path)
    assert suffix == ".ts" or payload_hash(source, before) == payload_hash(result.path, after)
    shift = Fraction(round(probe(source).start_s * 1_000_000), 1_000_000)
    for (pts, _, _), (new, _, _) in zip(packets_of(source, before), packets_of(result.path, after), strict=True):
        assert pts is not None
        assert new is not None
        assert abs(float(pts - shift - new)) <= 0.001


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".wav", "pcm_s16le"), (".flac", "flac"), (".mp3", "libmp3lame"), (".ogg", "libopus"), (".m4a", "aac")],
)
def test_audio_files_become_matroska_audio(tmp_path: Path, suffix: str, codec: str) -> None:
    source = make_media(tmp_path / f"source{suffix}", audio=[AudioSpec(samples=clicks(3.0, AT_S), codec=codec)])
    result = dub(source)
    assert result.path.suffix == ".mka"
    assert result.dropped == ()
    for number in (0, 1):
        audio = heard(result.path, number)
        assert all(abs(click_error_s(audio, at_s)) < 0.0015 for at_s in AT_S), number


# --- what is kept


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    "video",
    [
        VideoSpec(duration_s=3.0),
        VideoSpec(duration_s=3.0, times_s=[0.0, 0.04, 0.5, 0.511, 0.9, 1.7, 2.0, 2.9]),
        VideoSpec(duration_s=3.0, options={"bf": "0"}),
        VideoSpec(duration_s=2.0, start_s=0.437),
    ],
    ids=["b-frames", "variable rate", "no b-frames", "starts late"],
)
def test_video_packets_and_times_are_identical(tmp_path: Path, suffix: str, video: VideoSpec) -> None:
    source = make_media(tmp_path / f"source{suffix}", video=[video], audio=[AudioSpec(samples=tone(3.0))])
    result = dub(source)
    (before,), (after,) = streams_of(source, "video"), streams_of(result.path, "video")
    assert payload_hash(source, before) == payload_hash(result.path, after)
    wanted, found = packets_of(source, before), packets_of(result.path, after)
    if suffix == ".mp4":
        assert [(pts, dts) for pts, dts, _ in found] == [(pts, dts) for pts, dts, _ in wanted]
    else:
        assert [pts for pts, _, _ in found] == [pts for pts, _, _ in wanted]


def test_every_stream_of_a_full_mp4_is_kept(tmp_path: Path) -> None:
    source = make_media(
        tmp_path / "full.mp4",
        video=[VideoSpec(duration_s=3.0, rotation=90, language="eng"), VideoSpec(duration_s=3.0, rate=30)],
        audio=[AudioSpec(samples=tone(3.0), default=True), AudioSpec(samples=tone(3.0, channels=1), language="fra")],
        subtitles=[
            SubtitleSpec(cues=[(0.5, 1.0, "hello"), (1.5, 2.0, "there")], language="eng"),
            SubtitleSpec(cues=[(0.5, 1.0, "salut")], language="fra"),
        ],
        chapters=[(0.0, 1.0, "One"), (1.0, 3.0, "Two")],
        cover_png=png(),
        metadata={"title": "A film", "artist": "Somebody"},
    )
    result = dub(source, ("pt", "es"))
    assert result.dropped == ()
    assert result.lost_metadata == ()
    with av.open(str(source)) as before, av.open(str(result.path)) as after:
        assert after.metadata["title"] == "A film"
        assert after.metadata["artist"] == "Somebody"
        assert [c["metadata"]["title"] for c in after.chapters()] == ["One", "Two"]
        assert [c["end"] * c["time_base"] for c in after.chapters()] == [1, 3]
        assert len(after.streams.video) == len(before.streams.video) == 3
        frame = next(after.decode(video=0))
        assert frame.rotation == 90
    kinds = [(kind, language) for kind, language, *_ in describe(result.path) if kind in ("audio", "subtitle")]
    assert [language for kind, language in kinds if kind == "audio"] == ["por", "spa", "eng", "fra"]
    assert [language for kind, language in kinds if kind == "subtitle"] == ["eng", "fra", "por", "spa", "eng"]
    defaults = [default for kind, _, default, _, _ in describe(result.path) if kind == "audio"]
    assert defaults == [True, False, False, False]
    for kind in ("video", "audio", "subtitle"):
        hashes = {payload_hash(result.path, index) for index in streams_of(result.path, kind)}
        assert {payload_hash(source, index) for index in streams_of(source, kind)} <= hashes, kind


def test_every_stream_of_a_full_mkv_is_kept(tmp_path: Path) -> None:
    source = make_media(
        tmp_path / "full.mkv",
        video=[VideoSpec(duration_s=3.0, rotation=180), VideoSpec(duration_s=3.0)],
        audio=[
            AudioSpec(samples=tone(3.0), default=True),
            AudioSpec(samples=tone(3.0), codec="flac", title="Director"),
        ],
        subtitles=[SubtitleSpec(cues=[(0.5, 1.0, "hello")], language="eng")],
        chapters=[(0.0, 1.0, "One")],
        attachments=[("font.ttf", "font/ttf", b"not a font"), ("cover.png", "image/png", png())],
        metadata={"title": "A film", "anything": "kept"},
    )
    result = dub(source)
    assert result.dropped == ()
    assert result.lost_metadata == ()
    with av.open(str(result.path)) as after:
        assert after.metadata["ANYTHING"] == "kept"
        assert [(a.name, a.data) for a in after.streams.attachments] == [("font.ttf", b"not a font")]
        covers = [s for s in after.streams.video if s.disposition & Disposition.attached_pic]
        assert len(covers) == 1
        assert next(bytes(packet) for packet in after.demux(covers[0])) == png()
        assert len(after.streams.video) == 3
        assert "Director" in {stream.metadata.get("title") for stream in after.streams.audio}
        assert next(after.decode(video=0)).rotation in (180, -180)
    audio = [row[1:] for row in describe(result.path) if row[0] == "audio"]
    assert audio == [("por", True, False, True), ("eng", False, True, False), (None, False, False, False)]
    for kind in ("video", "audio", "subtitle"):
        hashes = {payload_hash(result.path, index) for index in streams_of(result.path, kind)}
        assert {payload_hash(source, index) for index in streams_of(source, kind)} <= hashes, kind


def test_a_language_the_source_states_is_not_overwritten(tmp_path: Path) -> None:
    source = make_media(tmp_path / "source.mkv", audio=[AudioSpec(samples=tone(1.0), language="deu")])
    result = dub(source, source_language="en")
    assert [track.language for track in probe(result.path).audio] == ["pt", "de"]


def test_subtitles_are_plain_text_at_their_times(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv"):
        folder = tmp_path / suffix[1:]
        folder.mkdir()
        source = make_media(
            folder / f"source{suffix}", video=[VideoSpec(duration_s=3.0)], audio=[AudioSpec(samples=tone(3.0))]
        )
        result = dub(source)
        index = streams_of(result.path, "subtitle")[0]
        shown = [(pts, data) for pts, _, data in packets_of(result.path, index) if len(data) > 2]
        assert [pts for pts, _ in shown] == [Fraction(1, 4), Fraction(7, 4)]
        with av.open(str(result.path)) as container:
            stream = container.streams.subtitles[0]
            texts = [
                sub.dialogue.decode() for packet in container.demux(stream) if packet.size for sub in packet.decode()
            ]
        visible = [text.replace("\u2060", "") for text in texts if text]
        assert "mundo" in visible[0]
        assert visible[1] == "Até logo"


def test_what_a_container_cannot_hold_is_told(tmp_path: Path) -> None:
    source = make_media(
        tmp_path / "source.mkv",
        video=[VideoSpec(duration_s=1.0)],
        audio=[AudioSpec(samples=tone(1.0))],
        subtitles=[SubtitleSpec(cues=[(0.2, 0.8, "hello")])],
        attachments=[("font.ttf", "font/ttf", b"not a font")],
        metadata={"anything": "lost"},
    )
    result = dub(source, suffix=".mp4")
    assert sorted((stream.kind, stream.codec) for stream in result.dropped) == [
        ("attachment", "font.ttf"),
        ("subtitle", "subrip"),
    ]
    assert all("mp4 cannot hold it" in stream.why for stream in result.dropped)
    assert result.lost_metadata == ("ANYTHING",)


def test_quicktime_that_mp4_cannot_hold_stays_quicktime(tmp_path: Path) -> None:
    source = make_media(
        tmp_path / "source.mov",
        video=[VideoSpec(duration_s=1.0, codec="qtrle", pix_fmt="rgb24")],
        audio=[AudioSpec(samples=tone(1.0), codec="pcm_s16le")],
    )
    result = dub(source)
    assert result.path.suffix == ".mov"
    assert result.dropped == ()
    assert pictures(result.path) == pictures(source)


# --- damaged input, failures


def test_a_source_cut_short_is_muxed_as_far_as_it_goes(tmp_path: Path) -> None:
    source = make_media(tmp_path / "cut.mkv", video=[VideoSpec(duration_s=20.0)], audio=[AudioSpec(samples=tone(20.0))])
    truncate(source, 0.4)
    result = dub(source)
    assert probe(result.path).duration_s == pytest.approx(probe(source).duration_s, abs=0.1)


def test_an_mp4_cut_short_after_its_index_is_dubbed_as_far_as_it_goes(tmp_path: Path) -> None:
    source = make_media(
        tmp_path / "source.mp4", video=[VideoSpec(duration_s=20.0)], audio=[AudioSpec(samples=tone(20.0))]
    )
    cut = truncate(dub(source).path, 0.5).rename(tmp_path / "cut.mp4")
    info = probe(cut)
    assert 5.0 < info.duration_s < 15.0
    assert np.abs(heard(cut, 1)[: round((info.duration_s - 1.0) * ENCODE_HZ)]).max() > 0.1
    assert probe(dub(cut).path).duration_s == pytest.approx(info.duration_s, abs=0.1)


def test_a_damaged_transport_stream_is_muxed(tmp_path: Path) -> None:
    source = make_media(
        tmp_path / "bad.ts", video=[VideoSpec(duration_s=10.0)], audio=[AudioSpec(samples=tone(10.0), codec="mp2")]
    )
    damage(source, 0.4, 0.45)
    result = dub(source)
    assert len(probe(result.path).audio) == 2


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_media(
        tmp_path / "source.mkv", video=[VideoSpec(duration_s=1.0)], audio=[AudioSpec(samples=tone(1.0))]
    )

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cluster.media.mux.write_packets", fail)
    with pytest.raises(KeyboardInterrupt):
        dub(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pt.mka", "source.mkv"]


def test_an_encoder_that_is_interrupted_removes_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    encoder = AudioEncoder(path)
    encoder.write(tone(1.0))
    with pytest.raises(ZeroDivisionError), encoder:
        raise ZeroDivisionError
    assert not path.exists()


def test_wrong_use_is_told_apart(tmp_path: Path) -> None:
    source = make_media(tmp_path / "source.mkv", audio=[AudioSpec(samples=tone(1.0))])
    info = probe(source)
    text = SourceText(track=info.audio[0], language=None)
    with pytest.raises(ConfigError, match=r"must end in \.mp4"):
        mux(info, [], tmp_path / "out.avi", source=text)
    with pytest.raises(ConfigError, match=r"must be \.mka"):
        mux(info, [DubTrack(language="pt", audio=tmp_path / "a.m4a")], tmp_path / "out.mka", source=text)
    with pytest.raises(MediaError, match=r"folder\.mka must be writable: No such file or directory; free space"):
        mux(info, [], tmp_path / "no" / "folder.mka", source=text)
    with pytest.raises(ConfigError, match=r"1 or 2 channels"):
        AudioEncoder(tmp_path / "a.m4a", num_channels=6)
    with pytest.raises(ConfigError, match=r"\.m4a, \.mka"):
        AudioEncoder(tmp_path / "a.wav")


def test_an_encoder_that_heard_nothing_still_leaves_a_file(tmp_path: Path) -> None:
    with AudioEncoder(tmp_path / "a.mka"):
        pass
    assert len(probe(tmp_path / "a.mka").audio) == 1


@pytest.mark.skipif(not CLIPS.is_dir(), reason="no real clips beside the checkout")
def test_real_films_keep_their_streams(tmp_path: Path) -> None:
    for clip in sorted(CLIPS.glob("*.mp4")):
        source = tmp_path / clip.name
        source.write_bytes(clip.read_bytes())
        result = dub(source)
        assert result.dropped == (), clip.name
        for before, after in zip(streams_of(clip, "video"), streams_of(result.path, "video"), strict=True):
            assert packets_of(clip, before) == packets_of(result.path, after), clip.name
        assert probe(result.path).duration_s == pytest.approx(probe(clip).duration_s, abs=0.025), clip.name


def test_a_packet_that_no_container_takes_is_left_out(tmp_path: Path) -> None:
    source = make_media(tmp_path / "talk.aac", audio=[AudioSpec(samples=clicks(4.0, AT_S))])
    content = bytearray(source.read_bytes())
    at, starts = 0, []
    while at < len(content):  # ADTS, ISO/IEC 13818-7: 13 bits of length from bit 30
        starts.append(at)
        at += (content[at + 3] & 3) << 11 | content[at + 4] << 3 | content[at + 5] >> 5
    middle = starts[len(starts) // 2]
    content[middle + 1] &= ~1  # checksums
    content[middle + 6] |= 3  # and four blocks, which FFmpeg does not read
    source.write_bytes(content)
    out = dub(source).path
    assert describe(out)[0][0] == "audio"
    with av.open(str(out)) as container:
        copied = [stream.index for stream in container.streams.audio][1]
    assert len(starts) - 3 <= len(packets_of(out, copied)) < len(starts)


def test_the_timecode_of_a_camera_is_kept_and_not_called_dropped(tmp_path: Path) -> None:
    source = make_media(
        tmp_path / "camera.mov",
        audio=[AudioSpec(samples=clicks(3.0, AT_S))],
        video=[VideoSpec(duration_s=3.0)],
        metadata={"timecode": "02:00:00:00"},
    )
    with av.open(str(source)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio", "data"]
    made = dub(source)
    assert made.dropped == ()
    with av.open(str(made.path)) as container:
        tracks = [stream for stream in container.streams if stream.type == "data"]
        assert [track.metadata["timecode"] for track in tracks] == ["02:00:00:00"]
