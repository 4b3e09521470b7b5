"""A dub whose input, subtitles and output lie in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.batch.items import Item, jobs_of
from cluster.batch.runner import ItemOutcome, run
from cluster.config.load import load_config
from cluster.manifest import Manifest
from cluster.storage import locations
from tests.media import make_short_talk
from tests.s3 import S3, s3_server

CUES = "WEBVTT\n\n00:01.000 --> 00:04.000\nHoje vamos falar do mar.\n"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    talk = make_short_talk(tmp_path_factory.mktemp("talk") / "talk.mp4")
    with s3_server() as server:
        locations.write_bytes(f"{server.url}/in/talk.mp4", talk.read_bytes())
        locations.write_bytes(f"{server.url}/in/pt.vtt", CUES.encode())
        locations.write_bytes(f"{server.url}/in/en.vtt", CUES.encode())
        yield server


async def dub(source: str, out: str, **fields: object) -> ItemOutcome:
    settings = ("ray.mode=inline", "output.per_language=true", "quality.check=none")
    config = load_config("offline", [*settings, "speech.engine=tests.standins.speaks"])
    item = Item.model_validate({"source": source, "from": "en", "to": ["pt"], **fields})
    [outcome] = await run(jobs_of([item], out, config), config, lambda progress: None, lambda outcome: None)
    return outcome


async def test_from_a_bucket_into_a_bucket(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = {"subtitles": f"{s3.url}/in/en.vtt", "target_subtitles": {"pt": f"{s3.url}/in/pt.vtt"}}
    outcome = await dub(f"{s3.url}/in/talk.mp4", f"{s3.url}/out", **own)
    assert outcome.error is None
    names = ("en.srt", "en.vtt", "manifest.json", "pt.srt", "pt.vtt", "report.html", "talk.pt.mp4")
    assert s3.keys("out/") == [f"out/talk/{name}" for name in names]
    delivered = locations.read_bytes(f"{s3.url}/out/talk/manifest.json")
    assert delivered is not None
    manifest = Manifest.model_validate_json(delivered)
    assert manifest == outcome.manifest
    assert manifest.media_file == manifest.dubs[0].media_file == "talk.pt.mp4"
    assert [line.text for line in manifest.dubs[0].utterances] == ["Hoje vamos falar do mar."]
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


@pytest.mark.parametrize("source", ["in/none.mp4", "in/pt.vtt"])
async def test_an_input_that_cannot_be_dubbed_leaves_nothing(s3: S3, source: str) -> None:
    outcome = await dub(f"{s3.url}/{source}", f"{s3.url}/nothing")
    assert outcome.manifest is None
    assert outcome.error is not None
    assert Path(source).name in outcome.error
    assert s3.keys("nothing/") == []


async def test_a_bucket_that_cannot_be_written_is_told(s3: S3) -> None:
    own = {"subtitles": f"{s3.url}/in/en.vtt", "target_subtitles": {"pt": f"{s3.url}/in/pt.vtt"}}
    outcome = await dub(f"{s3.url}/in/talk.mp4", "s3://no-such-bucket/out", **own)
    assert "s3://no-such-bucket/out" in (outcome.error or "")
