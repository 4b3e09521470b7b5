"""Dispatchers that are replaced one after another, while jobs come and run: none is lost, and none ends twice."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.api.server import STANDINS, Running, finished, running
from tests.api.test_dubs import create, events_of
from tests.media import AudioSpec, make_media, speech


def test_a_rolling_restart_loses_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYDUB_DATABASE_URL", raising=False)
    sound = AudioSpec(samples=speech("Good morning, everyone, and welcome."))
    talk = make_media(tmp_path / "talk.mka", audio=[sound])
    settings = (*STANDINS, "serve.poll_s=0.2", "pipeline.max_videos=1")

    def dispatcher() -> AbstractContextManager[Running]:
        return running(tmp_path / "data", *settings, config="base")

    made, older = [], ExitStack()
    try:
        for _ in range(3):
            newer = ExitStack()
            service = newer.enter_context(dispatcher())
            older.close()  # in the middle of what it does
            older = newer
            with service.client() as client:
                made += [create(client, talk)["id"] for _ in range(2)]
        with service.client() as client:
            for dub_id in made:
                ended = finished(client, dub_id)
                assert (ended["state"], ended["revision"]) == ("done", 1)
                kinds = [event.event for event in events_of(client, dub_id)]
                assert kinds.count("done") == 1
                assert kinds[-1] == "done"
    finally:
        older.close()
