"""Pictures that are encoded again look as before: turned, coloured, timed, and as bright."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from actors.errors import MediaError
from cluster.media import plan
from cluster.media.config import MediaConfig
from cluster.media.plan import plan_output
from cluster.media.probe import probe
from tests.corpus.cases import HDR10, HLG
from tests.corpus.write import File, Picture, Sound, Talk, write
from tests.integration.test_mux_out import dub
from tests.media import tone

MASTERING = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"


@pytest.fixture
def shapes() -> Talk:
    """Two seconds with a bright corner, by which turns and colours are told apart."""
    pictures = []
    for number in range(50):
        picture = np.full((96, 160, 3), 40, np.uint8)
        picture[:30, :50] = (200, 60, 30)
        picture[60 + number % 20 :, 100:] = (20, 90, 210)
        pictures.append(picture)
    return Talk(samples=tone(2.0), pictures=pictures)


def first_picture(path: Path) -> tuple[Any, Any]:
    """The header's codec and the first picture."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.codec_context, next(container.decode(stream))


def colours(shown: Any) -> tuple[int, int, int, int]:
    return (int(shown.color_primaries), int(shown.color_trc), int(shown.colorspace), int(shown.color_range))


def film(path: Path, talk: Talk, **picture: Any) -> Path:
    return write(path, talk, File(pictures=[Picture(**picture)], sounds=[Sound(codec="pcm_s16le")]))


@pytest.fixture
def without_hevc(monkeypatch: pytest.MonkeyPatch) -> None:
    """No container holds HEVC as it is."""
    refusal = plan._refusal
    monkeypatch.setattr(
        plan, "_refusal", lambda stream, muxer: "not today" if stream.name == "hevc" else refusal(stream, muxer)
    )


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_turned_picture_stays_turned(tmp_path: Path, shapes: Talk, degrees: int) -> None:
    source = film(tmp_path / "raw.mkv", shapes, codec="rawvideo", rotation=degrees)
    _, before = first_picture(source)
    context, after = first_picture(dub(source).path)
    assert context.name == "h264"
    assert before.rotation % 360 == after.rotation % 360 == degrees % 360


@pytest.mark.parametrize("colour", [(1, 1, 1, 1), (5, 6, 5, 1), (1, 13, 1, 2), (9, 14, 9, 1)])
def test_colours_are_tagged_as_before_and_look_the_same(
    tmp_path: Path, shapes: Talk, colour: tuple[int, int, int, int]
) -> None:
    source = film(tmp_path / "raw.mkv", shapes, codec="rawvideo", colour=colour)
    _, before = first_picture(source)
    context, after = first_picture(dub(source).path)
    assert context.name == "h264"
    assert colours(after) == colour
    assert before.format.name == after.format.name.replace("yuvj", "yuv")
    plane, other = (np.frombuffer(frame.planes[0], np.uint8).astype(float)[:100] for frame in (before, after))
    assert np.abs(plane - other).mean() < 6


def test_rgb_becomes_colours_that_players_show_alike(tmp_path: Path, shapes: Talk) -> None:
    source = write(
        tmp_path / "raw.avi",
        shapes,
        File(pictures=[Picture(codec="rawvideo", pix_fmt="bgr24")], sounds=[Sound(codec="pcm_s16le")]),
    )
    _, before = first_picture(source)
    _, after = first_picture(dub(source).path)
    assert int(after.colorspace) == 1
    shown = after.reformat(format="rgb24", src_colorspace=1).to_ndarray().astype(float)
    assert np.abs(shown - before.to_ndarray(format="rgb24").astype(float)).mean() < 8


def test_hlg_is_encoded_with_ten_bits(tmp_path: Path, shapes: Talk) -> None:
    source = film(tmp_path / "raw.mkv", shapes, codec="rawvideo", colour=HLG)
    [picture, _] = plan_output(probe(source)).streams
    assert picture.new_codec == "hevc"
    context, after = first_picture(dub(source).path)
    assert context.name == "hevc"
    assert after.format.name == "yuv420p10le"
    assert colours(after) == HLG


@pytest.mark.usefixtures("without_hevc")
def test_the_mastering_display_and_the_light_levels_stay(tmp_path: Path, shapes: Talk) -> None:
    options = {"x265-params": f"log-level=none:{MASTERING}"}
    source = film(
        tmp_path / "hdr.mkv", shapes, codec="libx265", pix_fmt="yuv420p10le", colour=HDR10, options=options, rotation=90
    )
    _, before = first_picture(source)
    result = dub(source)
    _, after = first_picture(result.path)
    assert colours(after) == HDR10
    assert after.rotation == before.rotation
    sides = [{side.type.name: bytes(side) for side in frame.side_data} for frame in (before, after)]
    for name in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"):
        assert sides[0][name] == sides[1][name]


def test_pictures_that_cannot_be_decoded_are_refused_before_the_work(tmp_path: Path, shapes: Talk) -> None:
    source = write(
        tmp_path / "raw.mov", shapes, File(pictures=[Picture(codec="rawvideo")], sounds=[Sound(codec="pcm_s16le")])
    )
    with pytest.raises(MediaError, match=r"stream 0 of .*raw\.mov is rawvideo; convert the picture"):
        plan_output(probe(source), MediaConfig())
