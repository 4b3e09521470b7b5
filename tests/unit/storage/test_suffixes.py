"""Suffixes of media files."""

from __future__ import annotations

import av
import pytest

from cluster.storage.suffixes import MEDIA_SUFFIXES, SUFFIXES_BY_FORMAT


@pytest.mark.parametrize("name", SUFFIXES_BY_FORMAT)
def test_pyav_reads_every_format(name: str) -> None:
    assert av.format.ContainerFormat(name, "r").is_input


@pytest.mark.parametrize("name", SUFFIXES_BY_FORMAT)
def test_the_suffixes_that_ffmpeg_states_for_sound_and_pictures_are_known(name: str) -> None:
    stated = av.format.ContainerFormat(name, "r").extensions - NOT_MEDIA
    assert {f".{suffix}" for suffix in stated} <= MEDIA_SUFFIXES


NOT_MEDIA = {
    *("avif", "heic", "heif", "jxl"),  # still pictures
    *("mks",),  # subtitles alone
    *("ism", "isma", "ismv", "mj2", "psp"),  # fragments for servers, and what nobody keeps in a folder of films
    *("apl", "mac", "m2a"),  # indexes, and names that other programs use
}


def test_no_suffix_stands_twice() -> None:
    all_of_them = [suffix for suffixes in SUFFIXES_BY_FORMAT.values() for suffix in suffixes]
    assert len(all_of_them) == len(set(all_of_them))
