"""The audio track to dub: by --from, tags, roles and what is heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.errors import ConfigError
from actors.types import ASR_HZ, Samples, TranscribeRequest, Transcript
from cluster.media.config import MediaConfig
from cluster.media.probe import AudioTrack, probe
from cluster.steps import choose_track as module
from cluster.steps.choose_track import choose_track, rank
from tests.media import AudioSpec, make_media, silence
from tests.unit.steps.test_language import sounding
from tests.unit.steps.test_stages import FakePool


def track(number: int, language: str | None, *, default: bool = False) -> AudioTrack:
    return AudioTrack(
        number=number,
        index=number,
        codec="flac",
        channels=1,
        layout="mono",
        channel_names=("FC",),
        sample_hz=48_000,
        language=language,
        title="",
        default=default,
        commentary=False,
    )


@pytest.mark.parametrize(
    ("known", "source", "expected", "reason"),
    [
        (("de", "fr"), "fr", 1, "in fr, as --from says"),
        (("de", None), "fr", 1, "no track is known to be in fr"),
        (("de", "fr"), None, 0, "the default one"),
        (("es", "fr"), None, 1, "track 0 is in es already"),
        (("es-MX", "es"), None, 0, "the default one"),
        ((None, "fr"), None, 0, "the default one"),
    ],
)
def test_the_track_in_the_language_that_is_asked_for_or_not_yet_in_the_target(
    known: tuple[str | None, ...], source: str | None, expected: int, reason: str
) -> None:
    tracks = [track(number, None, default=number == 0) for number in range(len(known))]
    best, why = rank(tracks, dict(enumerate(known)), source, ["es"])
    assert (best.number, why) == (expected, reason)


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three tracks, all with speech: Spanish, then a commentary and the feature's sound, both in French."""
    monkeypatch.setattr(module, "speech_share", lambda excerpts: 1.0)
    seconds = 2.0
    return make_media(
        tmp_path / "film.mkv",
        audio=[
            AudioSpec(samples=silence(seconds), codec="flac", language="spa", default=True),
            AudioSpec(samples=silence(seconds), codec="flac", language="fre", title="Director's commentary"),
            AudioSpec(samples=silence(seconds), codec="flac", language="fre"),
        ],
    )


async def test_commentaries_come_last_and_tracks_in_the_target_are_named(film: Path) -> None:
    chosen = await choose_track(probe(film), None, None, ("es",), MediaConfig(), None)
    assert chosen.track.number == 2
    assert chosen.reason == "track 0 is in es already"
    assert [each.number for each in chosen.in_target] == [0]


async def test_what_is_heard_outweighs_the_tags(film: Path) -> None:
    """The tags of the first and the last track are exchanged."""
    heard = iter(["fr", "es", "fr"])

    def answer(request: TranscribeRequest) -> Transcript:
        return sounding(**{next(heard): 0.95})

    chosen = await choose_track(probe(film), None, "fr", ("es",), MediaConfig(), FakePool(answer))  # type: ignore[arg-type]
    assert chosen.track.number == 0
    assert [each.number for each in chosen.in_target] == [2]


async def test_in_doubt_the_tags_are_believed(film: Path) -> None:
    pool = FakePool(lambda request: sounding(it=0.4))
    chosen = await choose_track(probe(film), None, "fr", ("es",), MediaConfig(), pool)  # type: ignore[arg-type]
    assert chosen.track.number == 2
    assert len(pool.requests) == 3


async def test_the_option_settles_it(film: Path) -> None:
    chosen = await choose_track(probe(film), 1, "es", ("pt",), MediaConfig(), None)
    assert (chosen.track.number, chosen.reason) == (1, "chosen by --audio-track")
    with pytest.raises(ConfigError, match="audio track must be one of"):
        await choose_track(probe(film), 3, None, ("pt",), MediaConfig(), None)


async def test_long_excerpts_fit_the_transcriber(monkeypatch: pytest.MonkeyPatch, film: Path) -> None:
    def minute(*_: object) -> list[Samples]:
        return [np.zeros(20 * ASR_HZ, np.float32)] * 3

    monkeypatch.setattr(module, "sample_track", minute)
    pool = FakePool(lambda request: sounding(fr=0.9))
    await choose_track(probe(film), None, None, ("es",), MediaConfig(), pool)  # type: ignore[arg-type]
    assert all(len(request.samples) <= 30 * ASR_HZ for request in pool.requests)
