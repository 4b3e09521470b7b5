"""Only the formats and codecs that people use are read; a setting admits others, but none that opens other files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.errors import MediaError
from cluster.media import sandbox
from cluster.media.config import MediaConfig
from cluster.media.decode import decode_audio
from cluster.media.probe import probe
from tests.media import AudioSpec, make_media, tone


def speech_like(path: Path, codec: str) -> Path:
    return make_media(path, audio=[AudioSpec(samples=tone(1.0, hz=22_050, channels=1), hz=22_050, codec=codec)])


@pytest.mark.parametrize("name", ["game.vag", "game.apm"])
def test_a_rare_format_is_named_with_the_setting_that_admits_it(tmp_path: Path, name: str) -> None:
    codec, demuxer = {"game.vag": ("adpcm_ima_ssi", "kvag"), "game.apm": ("adpcm_ima_apm", "apm")}[name]
    source = speech_like(tmp_path / name, codec)
    for read in (probe, sandbox.inspect):
        with pytest.raises(MediaError, match=rf"{name} is {demuxer}, which few use; .* add {demuxer} to media\.more_f"):
            read(source, MediaConfig())


def test_a_rare_codec_is_named_with_the_setting_that_admits_it(tmp_path: Path) -> None:
    source = speech_like(tmp_path / "game.apm", "adpcm_ima_apm")
    config = MediaConfig(more_formats=("apm",))
    with pytest.raises(MediaError, match=r"that of .*game\.apm is adpcm_ima_apm.* media\.more_codecs"):
        sandbox.inspect(source, config)
    config = MediaConfig(more_formats=("apm",), more_codecs=("adpcm_ima_apm",))
    info = sandbox.inspect(source, config)
    heard = np.concatenate(list(sandbox.decode_audio(info, info.audio[0], hz=16_000, channels="mono", config=config)))
    assert np.abs(heard).max() > 0.1


def test_ffmpeg_itself_opens_no_other_decoder(tmp_path: Path) -> None:
    """Also of a track that was described under other settings."""
    source = speech_like(tmp_path / "game.apm", "adpcm_ima_apm")
    info = probe(source, MediaConfig(more_formats=("apm",), more_codecs=("adpcm_ima_apm",)))
    strict = MediaConfig(more_formats=("apm",))
    heard = np.concatenate(list(decode_audio(info, info.audio[0], hz=16_000, channels="mono", config=strict)))
    assert not heard.any()


@pytest.mark.parametrize("admitted", ["hls", "concat", "image2"])
def test_no_setting_admits_what_opens_other_files(tmp_path: Path, admitted: str) -> None:
    secret = make_media(tmp_path / "secret.ts", audio=[AudioSpec(samples=tone(1.0), codec="mp2")])
    texts = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{secret}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "image2": f"{secret}\n",
    }
    path = tmp_path / "list.ffconcat"
    path.write_text(texts[admitted])
    with pytest.raises(MediaError):
        probe(path, MediaConfig(more_formats=(admitted,)))
