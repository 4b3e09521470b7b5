"""Paths and URLs: what is found, copied and told, on a disk and on a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from actors.errors import ConfigError, MediaError
from cluster import places
from cluster.fetch import FetchConfig
from tests.s3 import S3, Fault, s3_server


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


def test_folders_and_patterns_of_the_disk(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mkv", "notes.txt", "deep/c.MOV", ".hidden.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    here = str(tmp_path)
    assert places.expand([here]) == [f"{here}/a.mkv", f"{here}/b.mp4", f"{here}/deep/c.MOV"]
    assert places.expand([f"{here}/*.mp4", f"{here}/none.mp4"]) == [f"{here}/b.mp4", f"{here}/none.mp4"]
    assert places.expand([f"{here}/*.avi"]) == [f"{here}/*.avi"]


def test_a_name_with_brackets_is_no_pattern_if_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "talk [final].mp4"
    path.touch()
    assert places.expand([str(path)]) == [str(path)]


def test_prefixes_and_patterns_of_a_bucket(s3: S3) -> None:
    for name in ("list/a.mp4", "list/b.mp4", "list/notes.txt", "list/deep/c.mkv"):
        places.write_bytes(f"{s3.url}/{name}", b"x")
    assert places.expand([f"{s3.url}/list/*.mp4"]) == [f"{s3.url}/list/a.mp4", f"{s3.url}/list/b.mp4"]
    assert f"{s3.url}/list/deep/c.mkv" in places.expand([f"{s3.url}/list/"])
    assert places.expand([f"{s3.url}/list/a.mp4"]) == [f"{s3.url}/list/a.mp4"]


def test_bytes_there_and_back(s3: S3, tmp_path: Path) -> None:
    for place in (f"{s3.url}/bytes/a.json", str(tmp_path / "new" / "a.json")):
        assert places.read_bytes(place) is None
        assert (places.identity_of(place), places.size_of(place)) == (None, None)
        places.write_bytes(place, b"one")
        first = places.identity_of(place)
        places.write_bytes(place, b"other")
        assert places.read_bytes(place) == b"other"
        assert places.identity_of(place) not in (None, first)
        assert places.size_of(place) == 5


def test_a_download_is_whole_and_within_the_limit(s3: S3, tmp_path: Path) -> None:
    place = f"{s3.url}/get/a.mp4"
    places.write_bytes(place, b"12345")
    places.download(place, tmp_path / "a.mp4", FetchConfig())
    assert (tmp_path / "a.mp4").read_bytes() == b"12345"
    with pytest.raises(MediaError, match=r"fetch\.max_bytes"):
        places.download(place, tmp_path / "b.mp4", FetchConfig(max_bytes=4))
    with pytest.raises(MediaError, match="must exist"):
        places.download(f"{s3.url}/get/none.mp4", tmp_path / "b.mp4", FetchConfig())


def test_the_manifest_is_the_last_to_be_uploaded(s3: S3, tmp_path: Path) -> None:
    for name in ("manifest.json", "report.html", "zebra.mp4"):
        (tmp_path / name).write_text(name)
    places.upload(tmp_path, f"{s3.url}/out/talk")
    assert s3.keys("out/talk/") == ["out/talk/manifest.json", "out/talk/report.html", "out/talk/zebra.mp4"]

    (tmp_path / "zebra.mp4").unlink()
    (tmp_path / "zebra.mp4").mkdir()  # what cannot be uploaded
    with pytest.raises(MediaError, match="must be reachable"):
        places.upload(tmp_path, f"{s3.url}/out/talk")
    assert "out/talk/manifest.json" not in s3.keys("out/talk/")


@pytest.mark.parametrize("fault", ["500", "slow", "short"])
def test_a_bucket_that_fails_is_asked_again(s3: S3, tmp_path: Path, fault: Fault) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.mp4").write_bytes(data)
    s3.faults.append(("PUT", fault))
    places.upload(tmp_path / "folder", f"{s3.url}/fault-{fault}")
    s3.faults += [("HEAD", "500"), ("GET", fault)]
    places.download(f"{s3.url}/fault-{fault}/a.mp4", tmp_path / "b.mp4", FetchConfig())
    assert (tmp_path / "b.mp4").read_bytes() == data
    assert s3.faults == []


def test_an_upload_that_arrives_in_part_is_sent_again(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fs, _ = fsspec.url_to_fs(s3.url, use_listings_cache=False)
    whole, attempts = fs.put_file, []

    def partial(source: str, to: str) -> None:
        attempts.append(to)
        if len(attempts) > 1:
            return whole(source, to)
        fs.pipe_file(to, b"123")

    (tmp_path / "a.mp4").write_bytes(b"12345")
    monkeypatch.setattr(fs, "put_file", partial)
    places.upload(tmp_path, f"{s3.url}/part")
    assert places.read_bytes(f"{s3.url}/part/a.mp4") == b"12345"
    assert len(attempts) == 2


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("https://host/a%20talk.mp4?signature=1", "a talk.mp4"),
        ("s3://bucket/deep/talk.mp4", "talk.mp4"),
        ("/here/talk.mp4", "talk.mp4"),
        ("https://host/..%2f..%2fetc/passwd", "passwd"),
        (f"https://host/{'x' * 300}.mp4", "x" * 196 + ".mp4"),
    ],
)
def test_names(place: str, name: str) -> None:
    assert places.name_of(place) == name


@pytest.mark.parametrize("place", ["https://host/", "https://host", "https://host/%2e%2e"])
def test_urls_without_a_name(place: str) -> None:
    with pytest.raises(ConfigError, match="must end in a file's name"):
        places.name_of(place)


def test_of_a_place_that_nobody_can_read_nothing_is_known() -> None:
    place = "nowhere://bucket/a.mp4"
    assert (places.identity_of(place), places.size_of(place)) == (None, None)


def test_a_folder_that_cannot_be_made_is_told_as_any_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match=r"a\.json must be writable"):
        places.write_bytes(str(tmp_path / "file" / "a.json"), b"")


@pytest.mark.parametrize("place", ["nowhere://bucket/out", "https://host/out"])
def test_places_that_cannot_be_written(place: str) -> None:
    with pytest.raises(ConfigError):
        places.write_bytes(place, b"")
