"""Reading media: what a file holds, and its audio on the media timeline."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from actors.errors import ConfigError, MediaError
from actors.types import ASR_HZ, Samples
from cluster.media.config import MediaConfig
from cluster.media.decode import Damage, decode_audio, decode_excerpt
from cluster.media.probe import MediaInfo, probe
from cluster.media.tracks import choose_audio_track
from tests.media import (
    AudioSpec,
    SubtitleSpec,
    VideoSpec,
    click_error_s,
    clicks,
    damage,
    make_media,
    music,
    png,
    silence,
    speech,
    tone,
    truncate,
)

AT_S = (0.5, 1.5, 2.5)
CLIPS = Path(__file__).parents[3] / "shared" / "media"


def decoded(info: MediaInfo, hz: int = 48_000, number: int = 0) -> Samples:
    return np.concatenate(list(decode_audio(info, info.audio[number], hz=hz, channels="mono")))


# --- what a file holds


def test_probe_tells_what_the_file_holds(tmp_path: Path) -> None:
    path = make_media(
        tmp_path / "all.mkv",
        video=[VideoSpec(duration_s=2.0, language="eng")],
        audio=[
            AudioSpec(samples=tone(2.0), language="por", title="Direção", default=True),
            AudioSpec(samples=tone(2.0, channels=6), codec="ac3", language="eng"),
            AudioSpec(samples=tone(1.0, hz=16_000, channels=1), hz=16_000, codec="flac"),
        ],
        subtitles=[SubtitleSpec(cues=[(0.5, 1.0, "hello")], language="fre")],
        attachments=[("font.ttf", "font/ttf", b"not a font")],
    )
    info = probe(path)
    assert info.format == "matroska,webm"
    assert info.start_s == 0.0
    assert info.duration_s == pytest.approx(2.0, abs=0.05)
    assert [(a.number, a.codec, a.channels, a.sample_hz, a.language, a.default) for a in info.audio] == [
        (0, "aac", 2, 48_000, "pt", True),
        (1, "ac3", 6, 48_000, "en", False),
        (2, "flac", 1, 16_000, None, False),
    ]
    assert info.audio[0].title == "Direção"
    assert info.audio[1].channel_names[2] == "FC"
    assert [(v.codec, v.language) for v in info.video] == [("h264", "en")]
    assert [(s.codec, s.language) for s in info.subtitles] == [("subrip", "fr")]
    assert [s.kind for s in info.others] == ["attachment"]


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".wav", "pcm_s16le"),
        (".flac", "flac"),
        (".mp3", "libmp3lame"),
        (".ogg", "libopus"),
        (".m4a", "aac"),
        (".mka", "libopus"),
    ],
)
def test_audio_files_are_media(tmp_path: Path, suffix: str, codec: str) -> None:
    path = make_media(tmp_path / f"sound{suffix}", audio=[AudioSpec(samples=clicks(3.0, AT_S), codec=codec)])
    info = probe(path)
    assert info.video == ()
    # Codecs fill up their last packet.
    assert info.duration_s == pytest.approx(3.0, abs=0.06)
    audio = decoded(info)
    assert len(audio) == round(info.duration_s * 48_000)
    assert all(abs(click_error_s(audio, at_s)) < 0.001 for at_s in AT_S)


@pytest.mark.parametrize(
    ("suffix", "video", "audio"),
    [
        (".mp4", "libx264", "aac"), (".mov", "libx264", "aac"), (".mkv", "libx264", "libopus"),
        (".ts", "libx264", "mp2"),
        (".webm", "libvpx", "libopus"), (".avi", "mpeg4", "libmp3lame"),
    ],
)  # fmt: skip
def test_containers_agree_on_the_timeline(tmp_path: Path, suffix: str, video: str, audio: str) -> None:
    path = make_media(
        tmp_path / f"film{suffix}",
        video=[VideoSpec(duration_s=3.0, codec=video)],
        audio=[AudioSpec(samples=clicks(3.0, AT_S), codec=audio)],
    )
    info = probe(path)
    assert len(info.video) == 1
    assert info.duration_s == pytest.approx(3.0, abs=0.1)
    heard = decoded(info)
    # AVI cannot say that MP3 starts with 1105 samples of encoder delay, nor TS for MP2.
    tolerance_s = 0.03 if suffix in (".avi", ".ts") else 0.001
    assert all(abs(click_error_s(heard, at_s)) < tolerance_s for at_s in AT_S)


def test_cover_art_is_not_video(tmp_path: Path) -> None:
    info = probe(make_media(tmp_path / "song.m4a", audio=[AudioSpec(samples=tone(1.0))], cover_png=png()))
    assert info.video == ()
    assert [stream.kind for stream in info.others] == ["cover"]


def test_duration_is_that_of_the_longest_of_video_and_audio_not_of_subtitles(tmp_path: Path) -> None:
    path = make_media(
        tmp_path / "long_subtitle.mkv",
        video=[VideoSpec(duration_s=3.0)],
        audio=[AudioSpec(samples=tone(2.0))],
        subtitles=[SubtitleSpec(cues=[(1.0, 9.0, "still here")])],
    )
    assert probe(path).duration_s == pytest.approx(3.0, abs=0.05)


# --- files that are refused


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.mp4", None, "no such file"),
        ("empty.mp4", b"", "empty file"),
        ("text.mp4", b"This is a letter, not a film.\n" * 50, "must be a media file"),
        ("junk.mkv", bytes(range(256)) * 40, "must be a media file"),
    ],
)
def test_what_is_not_media_is_refused(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=says):
        probe(path)


def test_a_folder_and_an_unreadable_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="a folder must hold media to dub"):
        probe(tmp_path)
    if os.geteuid() != 0:
        path = make_media(tmp_path / "secret.wav", audio=[AudioSpec(samples=tone(0.1), codec="pcm_s16le")])
        path.chmod(0)
        with pytest.raises(MediaError, match="permission denied"):
            probe(path)


def test_a_film_without_sound_is_refused(tmp_path: Path) -> None:
    path = make_media(tmp_path / "mute.mp4", video=[VideoSpec(duration_s=0.5)])
    with pytest.raises(MediaError, match=r"must have an audio stream.*video"):
        probe(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{secret}\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{secret}\n#EXT-X-ENDLIST\n"),
        ("remote.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile '{secret}'\n"),
        ("session.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n"),
        (
            "manifest.mpd",
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
            '<Representation id="0"><BaseURL>{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>',
        ),
    ],
)  # fmt: skip
def test_playlists_cannot_open_other_files(tmp_path: Path, name: str, text: str) -> None:
    secret = make_media(tmp_path / "secret.ts", audio=[AudioSpec(samples=tone(1.0), codec="mp2")])
    path = tmp_path / name
    path.write_text(text.format(secret=secret))
    with pytest.raises(MediaError, match=r"self-contained media file|must be a media file"):
        probe(path)


def test_a_name_that_looks_like_a_protocol_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_media(tmp_path / "a.wav", audio=[AudioSpec(samples=tone(0.2), codec="pcm_s16le")]).rename(
        tmp_path / "concat:a"
    )
    monkeypatch.chdir(tmp_path)
    assert probe(Path("concat:a")).duration_s == pytest.approx(0.2)


def test_limits_are_kept(tmp_path: Path) -> None:
    path = make_media(tmp_path / "loud.wav", audio=[AudioSpec(samples=tone(3.0, channels=6), codec="pcm_s16le")])
    with pytest.raises(MediaError, match=r"at most 2 s.*max_duration_s"):
        probe(path, MediaConfig(max_duration_s=2.0))
    info = probe(path)
    with pytest.raises(MediaError, match="max_channels"):
        list(decode_audio(info, info.audio[0], hz=16_000, channels="mono", config=MediaConfig(max_channels=2)))
    with pytest.raises(MediaError, match="max_sample_hz"):
        list(decode_audio(info, info.audio[0], hz=16_000, channels="mono", config=MediaConfig(max_sample_hz=44_100)))


# --- audio on the timeline


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_file_that_starts_late_begins_at_zero(tmp_path: Path, suffix: str) -> None:
    path = make_media(
        tmp_path / f"late{suffix}",
        video=[VideoSpec(duration_s=3.0)],
        audio=[AudioSpec(samples=clicks(3.0, AT_S), codec="mp2" if suffix == ".ts" else "aac")],
        start_s=7.0,
    )
    info = probe(path)
    assert info.start_s > 6.0
    assert info.duration_s == pytest.approx(3.0, abs=0.1)
    heard = decoded(info)
    # MP4 presents AAC's priming when audio starts late, so t = 0 is 21 ms before the first sample.
    early_s = 7.0 - info.start_s if suffix == ".mp4" else 0.0
    tolerance_s = 0.03 if suffix == ".ts" else 0.0015
    assert all(abs(click_error_s(heard, at_s + early_s)) < tolerance_s for at_s in AT_S)


def test_audio_that_starts_late_is_preceded_by_silence(tmp_path: Path) -> None:
    path = make_media(
        tmp_path / "late_audio.mkv",
        video=[VideoSpec(duration_s=4.0)],
        audio=[AudioSpec(samples=clicks(3.0, AT_S), codec="flac", start_s=0.75)],
    )
    heard = decoded(probe(path))
    assert len(heard) == pytest.approx(4.0 * 48_000, abs=50)
    assert not heard[: round(1.2 * 48_000)].any()
    assert all(abs(click_error_s(heard, 0.75 + at_s)) < 0.001 for at_s in AT_S)


@pytest.mark.parametrize("hz", [16_000, 44_100, 48_000])
def test_a_gap_becomes_silence_and_nothing_after_it_moves(tmp_path: Path, hz: int) -> None:
    path = make_media(
        tmp_path / "gap.mkv", audio=[AudioSpec(samples=clicks(3.0, AT_S), codec="flac", gaps=[(0.7, 1.2), (1.8, 2.0)])]
    )
    info, mended = probe(path), Damage()
    heard = np.concatenate(list(decode_audio(info, info.audio[0], hz=hz, channels="mono", damage=mended)))
    assert all(abs(click_error_s(heard, at_s, hz)) < 0.001 for at_s in AT_S)
    assert mended.silence_s == pytest.approx(0.7, abs=0.2)
    assert mended.corrupt_packets == 0


def test_time_does_not_drift_over_a_long_file(tmp_path: Path) -> None:
    at_s = [10.0, 100.0, 200.0, 299.0]
    samples = clicks(300.0, at_s, hz=44_100, channels=1)
    info = probe(make_media(tmp_path / "long.mkv", audio=[AudioSpec(samples=samples, hz=44_100, codec="flac")]))
    heard = decoded(info, hz=16_000)
    assert len(heard) == pytest.approx(300 * 16_000, abs=16)
    assert all(abs(click_error_s(heard, time_s, 16_000)) < 0.001 for time_s in at_s)


def test_blocks_are_one_second_and_the_last_is_the_rest(tmp_path: Path) -> None:
    info = probe(make_media(tmp_path / "a.wav", audio=[AudioSpec(samples=tone(2.5), codec="pcm_s16le")]))
    blocks = list(decode_audio(info, info.audio[0], hz=16_000, channels=2))
    assert [block.shape for block in blocks] == [(16_000, 2), (16_000, 2), (8_000, 2)]
    assert all(block.dtype == np.float32 for block in blocks)


def test_a_very_short_file_is_decoded(tmp_path: Path) -> None:
    info = probe(
        make_media(tmp_path / "short.mp4", video=[VideoSpec(duration_s=0.3)], audio=[AudioSpec(samples=tone(0.3))])
    )
    assert len(decoded(info, ASR_HZ)) == pytest.approx(0.3 * ASR_HZ, abs=400)


def test_antiphase_and_5_1_are_heard(tmp_path: Path) -> None:
    wave = tone(2.0, channels=1)
    sides = np.zeros((len(wave), 6), np.float32)
    sides[:, 2:3] = wave
    for name, samples in (("antiphase", np.concatenate([wave, -wave], axis=1)), ("centre", sides)):
        info = probe(make_media(tmp_path / f"{name}.wav", audio=[AudioSpec(samples=samples, codec="pcm_s16le")]))
        level = float(np.sqrt(np.mean(decoded(info) ** 2)))
        assert level > 0.3 * float(np.sqrt(np.mean(wave**2))), name


# --- damaged files


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".wav", ".mp3"])
def test_a_file_cut_short_gives_what_there_is(tmp_path: Path, suffix: str) -> None:
    codec = {".wav": "pcm_s16le", ".mp3": "libmp3lame", ".ts": "mp2"}.get(suffix, "aac")
    video = [VideoSpec(duration_s=10.0)] if suffix in (".mkv", ".ts") else []
    path = make_media(tmp_path / f"cut{suffix}", video=video, audio=[AudioSpec(samples=tone(10.0), codec=codec)])
    info = probe(truncate(path, 0.5))
    assert 3.5 < info.duration_s < 6.5
    heard = decoded(info)
    assert len(heard) == round(info.duration_s * 48_000)
    assert np.abs(heard[: len(heard) * 9 // 10]).max() > 0.1


def test_an_mp4_without_its_index_is_refused(tmp_path: Path) -> None:
    path = make_media(tmp_path / "cut.mp4", audio=[AudioSpec(samples=tone(3.0))], video=[VideoSpec(duration_s=3.0)])
    with pytest.raises(MediaError, match="must be a media file"):
        probe(truncate(path, 0.5))


def test_corrupt_packets_become_silence_and_are_counted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_media(tmp_path / "bad.mp4", audio=[AudioSpec(samples=clicks(10.0, (1.0, 9.0)) + 0.5 * tone(10.0))])
    clean = decoded(probe(path))
    info = probe(damage(path, 0.4, 0.5))
    mended = Damage()
    caplog.clear()
    heard = np.concatenate(list(decode_audio(info, info.audio[0], hz=48_000, channels="mono", damage=mended)))
    assert mended
    assert mended.corrupt_packets > 0
    assert len([record for record in caplog.records if "repaired audio" in record.message]) == 1
    assert len(heard) == len(clean)
    np.testing.assert_allclose(heard[: 3 * 48_000], clean[: 3 * 48_000], atol=1e-6)
    np.testing.assert_allclose(heard[-3 * 48_000 :], clean[-3 * 48_000 :], atol=1e-6)


# --- which track is dubbed


@pytest.fixture(scope="module")
def talk() -> Samples:
    return speech("The harbour was quiet before the ships arrived. We kept the windows closed. Nobody asked us why.")


def test_the_wanted_track_is_taken_or_the_tracks_are_listed(tmp_path: Path) -> None:
    sounds = [AudioSpec(samples=tone(0.5), codec="flac", language=tag) for tag in ("eng", "por")]
    info = probe(make_media(tmp_path / "two.mkv", audio=sounds))
    assert choose_audio_track(info, 1).language == "pt"
    for wanted in (2, -1):
        with pytest.raises(ConfigError, match=r"0: flac stereo 48000 Hz en.*1: flac stereo 48000 Hz pt"):
            choose_audio_track(info, wanted)


def test_the_track_with_speech_is_dubbed(tmp_path: Path, talk: Samples) -> None:
    seconds = len(talk) / 48_000
    quiet = AudioSpec(samples=silence(seconds), codec="flac", default=True)
    song = AudioSpec(samples=music(seconds), codec="flac")
    spoken = AudioSpec(samples=talk, codec="flac")
    info = probe(make_media(tmp_path / "which.mkv", audio=[song, quiet, spoken]))
    assert choose_audio_track(info, None).number == 2


def test_the_default_track_wins_if_several_speak_or_none_does(tmp_path: Path, talk: Samples) -> None:
    for name, samples in (("talk", talk), ("silence", silence(3.0))):
        first = AudioSpec(samples=samples, codec="flac")
        second = AudioSpec(samples=samples, codec="flac", default=True)
        info = probe(make_media(tmp_path / f"{name}.mkv", audio=[first, second]))
        assert choose_audio_track(info, None).number == 1


def test_an_excerpt_is_the_same_audio(tmp_path: Path) -> None:
    at_s = [2.0, 20.0, 38.0]
    path = make_media(
        tmp_path / "film.mp4", video=[VideoSpec(duration_s=40.0)], audio=[AudioSpec(samples=clicks(40.0, at_s))]
    )
    info = probe(path)
    part = decode_excerpt(info, info.audio[0], start_s=19.5, duration_s=1.0, hz=48_000)
    assert len(part) == 48_000
    assert abs(click_error_s(part, 0.5)) < 0.001


@pytest.mark.skipif(not CLIPS.is_dir(), reason="no real clips beside the checkout")
def test_real_clips_are_read_to_their_end() -> None:
    for path in sorted(CLIPS.iterdir()):
        info = probe(path)
        audio = decoded(info, ASR_HZ)
        assert len(audio) == round(info.duration_s * ASR_HZ), path.name
        assert np.abs(audio).max() > 0.01, path.name
