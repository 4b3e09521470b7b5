"""Paths and URLs: what is found, copied and told, on a disk and on a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from actors.errors import ConfigError, MediaError
from cluster.storage import locations
from cluster.storage.config import FetchConfig
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
    assert locations.expand([here]) == [f"{here}/a.mkv", f"{here}/b.mp4", f"{here}/deep/c.MOV"]
    assert locations.expand([f"{here}/*.mp4", f"{here}/none.mp4"]) == [f"{here}/b.mp4", f"{here}/none.mp4"]
    assert locations.expand([f"{here}/*.avi"]) == [f"{here}/*.avi"]


def test_numbers_in_names_are_ordered_by_value(tmp_path: Path) -> None:
    for number in (1, 2, 10, 11):
        (tmp_path / f"v{number}.mp4").touch()
    assert [Path(name).name for name in locations.expand([str(tmp_path)])] == ["v1.mp4", "v2.mp4", "v10.mp4", "v11.mp4"]


def test_results_of_earlier_dubs_are_no_inputs(tmp_path: Path) -> None:
    for name in (
        "a.mp4",
        "out/a/a.mp4",
        "out/a/manifest.json",
        "out/a/report.html",
        "series/b.mp4",
        "series/manifest.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert locations.expand([str(tmp_path)]) == [f"{tmp_path}/a.mp4", f"{tmp_path}/series/b.mp4"]


def test_a_folder_without_media_fails_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert locations.expand([str(tmp_path)]) == [str(tmp_path)]


def test_a_name_with_brackets_is_no_pattern_if_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "talk [final].mp4"
    path.touch()
    assert locations.expand([str(path)]) == [str(path)]


def test_prefixes_and_patterns_of_a_bucket(s3: S3) -> None:
    for name in ("list/a.mp4", "list/b.mp4", "list/notes.txt", "list/deep/c.mkv"):
        locations.write_bytes(f"{s3.url}/{name}", b"x")
    assert locations.expand([f"{s3.url}/list/*.mp4"]) == [f"{s3.url}/list/a.mp4", f"{s3.url}/list/b.mp4"]
    assert f"{s3.url}/list/deep/c.mkv" in locations.expand([f"{s3.url}/list/"])
    assert locations.expand([f"{s3.url}/list/a.mp4"]) == [f"{s3.url}/list/a.mp4"]


def test_bytes_there_and_back(s3: S3, tmp_path: Path) -> None:
    for location in (f"{s3.url}/bytes/a.json", str(tmp_path / "new" / "a.json")):
        assert locations.read_bytes(location) is None
        assert (locations.identity_of(location), locations.size_of(location)) == (None, None)
        locations.write_bytes(location, b"one")
        first = locations.identity_of(location)
        locations.write_bytes(location, b"other")
        assert locations.read_bytes(location) == b"other"
        assert locations.identity_of(location) not in (None, first)
        assert locations.size_of(location) == 5


def test_a_download_is_whole_and_within_the_limit(s3: S3, tmp_path: Path) -> None:
    location = f"{s3.url}/get/a.mp4"
    locations.write_bytes(location, b"12345")
    locations.download(location, tmp_path / "a.mp4", FetchConfig())
    assert (tmp_path / "a.mp4").read_bytes() == b"12345"
    with pytest.raises(MediaError, match=r"fetch\.max_bytes"):
        locations.download(location, tmp_path / "b.mp4", FetchConfig(max_bytes=4))
    with pytest.raises(MediaError, match="must exist"):
        locations.download(f"{s3.url}/get/none.mp4", tmp_path / "b.mp4", FetchConfig())


def test_the_manifest_is_the_last_to_be_uploaded(s3: S3, tmp_path: Path) -> None:
    for name in ("manifest.json", "report.html", "zebra.mp4"):
        (tmp_path / name).write_text(name)
    locations.upload(tmp_path, f"{s3.url}/out/talk")
    assert s3.keys("out/talk/") == ["out/talk/manifest.json", "out/talk/report.html", "out/talk/zebra.mp4"]

    (tmp_path / "zebra.mp4").unlink()
    (tmp_path / "zebra.mp4").mkdir()  # what cannot be uploaded
    with pytest.raises(MediaError, match="must be reachable"):
        locations.upload(tmp_path, f"{s3.url}/out/talk")
    assert "out/talk/manifest.json" not in s3.keys("out/talk/")


@pytest.mark.parametrize("fault", ["500", "slow", "short", "lost"])
def test_a_bucket_that_fails_is_asked_again(s3: S3, tmp_path: Path, fault: Fault) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.mp4").write_bytes(data)
    s3.faults.append(("PUT", fault))
    locations.upload(tmp_path / "folder", f"{s3.url}/fault-{fault}")
    s3.faults += [("HEAD", "500"), ("GET", fault)]
    locations.download(f"{s3.url}/fault-{fault}/a.mp4", tmp_path / "b.mp4", FetchConfig())
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
    locations.upload(tmp_path, f"{s3.url}/part")
    assert locations.read_bytes(f"{s3.url}/part/a.mp4") == b"12345"
    assert len(attempts) == 2


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("https://host/a%20talk.mp4?signature=1", "a talk.mp4"),
        ("s3://bucket/deep/talk.mp4", "talk.mp4"),
        ("/here/talk.mp4", "talk.mp4"),
        ("https://host/..%2f..%2fetc/passwd", "passwd"),
        (f"https://host/{'x' * 300}.mp4", "x" * 196 + ".mp4"),
    ],
)
def test_names(location: str, name: str) -> None:
    assert locations.name_of(location) == name


@pytest.mark.parametrize("location", ["https://host/", "https://host", "https://host/%2e%2e"])
def test_urls_without_a_name(location: str) -> None:
    with pytest.raises(ConfigError, match="must end in a file's name"):
        locations.name_of(location)


@pytest.mark.parametrize(
    "location", ["https://[*a, *a]/t.mp4", "https://[/t.mp4", "a\0b.mp4", "\ud800.mp4", "s3://b/\0"]
)
def test_what_is_no_location_anywhere(location: str) -> None:
    with pytest.raises(ConfigError, match="must be a path or a URL"):
        locations.name_of(location)


def test_nothing_is_known_of_an_unreadable_location() -> None:
    location = "nowhere://bucket/a.mp4"
    assert (locations.identity_of(location), locations.size_of(location)) == (None, None)


def test_a_folder_that_cannot_be_made_is_told_as_any_location(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match=r"a\.json must be writable"):
        locations.write_bytes(str(tmp_path / "file" / "a.json"), b"")


@pytest.mark.parametrize("location", ["nowhere://bucket/out", "https://host/out"])
def test_locations_that_cannot_be_written(location: str) -> None:
    with pytest.raises(ConfigError):
        locations.write_bytes(location, b"")
