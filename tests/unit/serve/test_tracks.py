"""A language's own file is made once, whoever asks."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.media.config import MediaConfig
from serve.errors import NotFoundError
from serve.ids import new_dub_id
from serve.storage import tracks
from serve.storage.folder_files import FolderFiles
from serve.storage.tracks import TrackFiles
from serve.threads import FairThreads

MADE: Any = SimpleNamespace(
    dubs=(SimpleNamespace(language="pt"), SimpleNamespace(language="fr")), media_file="talk.mp4"
)

FOUND: Any = SimpleNamespace(
    video=(SimpleNamespace(index=0),), audio=(SimpleNamespace(index=1), SimpleNamespace(index=2))
)


@pytest.fixture
def files(tmp_path: Path) -> FolderFiles:
    return FolderFiles(tmp_path)


async def test_many_requests_make_one_file(files: FolderFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = files.paths.folder(new_dub_id())
    files.write(folder / "talk.mp4", b"x")
    gate, calls = threading.Event(), []

    def extract(info: Any, out: Path, index: int, **_: Any) -> None:
        calls.append(index)
        gate.wait()
        out.write_bytes(b"track")

    monkeypatch.setattr(tracks, "inspect", lambda *_: FOUND)
    monkeypatch.setattr(tracks, "extract", extract)
    made = TrackFiles(files, FairThreads("test", 4), MediaConfig())
    asked = [asyncio.create_task(made.get(folder, MADE, "fr", "audio")) for _ in range(20)]
    while not calls:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    asked[0].cancel()  # it came first, and goes before the file is made
    await asyncio.sleep(0.01)
    gate.set()
    found = await asyncio.gather(*asked[1:])
    assert {path.read_bytes() for path in found} == {b"track"}
    assert calls == [2]
    assert (await made.get(folder, MADE, "fr", "audio")) == found[0]
    assert len(calls) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["audio-1.m4a", "talk.mp4"]


async def test_a_language_that_is_not_made_yet_is_not_found(files: FolderFiles) -> None:
    made = TrackFiles(files, FairThreads("test", 1), MediaConfig())
    with pytest.raises(NotFoundError, match="has pt, fr so far"):
        await made.get(files.paths.folder(new_dub_id()), MADE, "es", "audio")


async def test_a_failure_is_not_kept(files: FolderFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = files.paths.folder(new_dub_id())
    files.write(folder / "talk.mp4", b"x")
    monkeypatch.setattr(tracks, "inspect", lambda *_: SimpleNamespace(video=(), audio=FOUND.audio))
    made = TrackFiles(files, FairThreads("test", 1), MediaConfig())
    for _ in range(2):
        with pytest.raises(NotFoundError, match="must have video"):
            await made.get(folder, MADE, "pt", "video")
    assert [path.name for path in folder.iterdir()] == ["talk.mp4"]
