"""A finished dub edited and made again, by raydub's own API and by the real ElevenLabs client."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from elevenlabs import ElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.types import DubbingTargetSegmentUpdateRequest

from serve.jobs.api_keys import hash_key
from tests.api.server import STANDINS, Running, finished, running

KEY = "a key for tests"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keys = f"serve.auth.keys=[{{name: tests, sha256: {hash_key(KEY)}}}]"
    with running(
        tmp_path_factory.mktemp("data"), *STANDINS, "serve.auth.required=true", keys, config="base"
    ) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[httpx.Client]:
    with service.client(KEY) as client:
        yield client


@pytest.fixture(scope="module")
def labs(service: Running) -> ElevenLabs:
    return ElevenLabs(base_url=service.url, api_key=KEY)


@pytest.fixture(scope="module")
def dubbing_id(labs: ElevenLabs, client: httpx.Client, talk: Path) -> str:
    """Made by the ElevenLabs client."""
    with talk.open("rb") as file:
        made = labs.dubbing.create(file=("talk.mp4", file), target_lang="pt", source_lang="en", name="a talk")
    assert made.expected_duration_sec == pytest.approx(12, abs=0.1)
    assert finished(client, made.dubbing_id)["state"] == "done"
    return made.dubbing_id


def test_version_1_of_elevenlabs(labs: ElevenLabs, dubbing_id: str) -> None:
    found = labs.dubbing.get(dubbing_id)
    assert (found.status, found.name, found.target_languages) == ("dubbed", "a talk", ["pt"])
    assert found.media_metadata is not None
    assert found.media_metadata.duration == pytest.approx(12, abs=0.1)
    page = labs.dubbing.list(page_size=1)
    assert [dub.dubbing_id for dub in page.dubs] == [dubbing_id]
    media = b"".join(labs.dubbing.audio.get(dubbing_id, "pt"))
    with av.open(io.BytesIO(media)) as container:
        assert (len(container.streams.video), len(container.streams.audio)) == (1, 1)
    srt = labs.dubbing.transcripts.get(dubbing_id, "pt", "srt")
    assert "-->" in str(srt.srt)
    spoken = labs.dubbing.transcripts.get(dubbing_id, "pt", "json")
    assert spoken.json_ is not None
    assert spoken.json_.utterances
    with pytest.raises(ApiError) as refused:
        labs.dubbing.get("dub_" + "0" * 26)
    assert refused.value.status_code == 404
    assert "message" in refused.value.body["detail"]


def test_a_line_is_edited_and_only_that_is_spoken_anew(client: httpx.Client, dubbing_id: str) -> None:
    before = client.get(f"/v1/dubs/{dubbing_id}/manifest").json()
    line = before["dubs"][0]["utterances"][0]
    edited = client.patch(f"/v1/dubs/{dubbing_id}/lines/{line['id']}", json={"text": "Bom dia a todos."})
    assert edited.json()["targets"][0]["state"] == "stale"
    assert client.post(f"/v1/dubs/{dubbing_id}/regenerate").status_code == 202
    again = finished(client, dubbing_id)
    assert (again["state"], again["revision"]) == ("done", 2), again["error"]
    after = client.get(f"/v1/dubs/{dubbing_id}/manifest").json()
    texts = [[line["text"] for line in made["dubs"][0]["utterances"]] for made in (before, after)]
    assert texts[1] == ["Bom dia a todos.", *texts[0][1:]]
    assert "Bom dia" in client.get(f"/v1/dubs/{dubbing_id}/transcripts/pt/srt").text
    with av.open(io.BytesIO(client.get(f"/v1/dubs/{dubbing_id}/media").content)) as container:
        assert len(container.streams.audio) == 2


def test_an_edit_must_be_of_a_line_there_is(client: httpx.Client, dubbing_id: str) -> None:
    assert client.patch(f"/v1/dubs/{dubbing_id}/lines/pt:u9999", json={"text": "x"}).status_code == 404
    assert client.patch(f"/v1/dubs/{dubbing_id}/lines/pt:u0000", json={"text": ""}).status_code == 422


def test_version_2_of_elevenlabs(labs: ElevenLabs, client: httpx.Client, talk: Path) -> None:
    projects = labs.dubbing.project
    with talk.open("rb") as file:
        project = projects.create(file=("talk.mp4", file), source_language="en", reference="mine")
    assert (project.status, project.language_ids) == ("ready", [])
    language = projects.language.create(project.project_id, target_language="pt")
    assert language.status == "queued"
    language = wait_for(labs, project.project_id)
    assert (language.status, language.revision) == ("completed", 1)
    assert language.outputs is not None
    assert client.get(str(language.outputs.lossless_audio)).status_code == 200

    transcripts = projects.language.transcript
    segment = transcripts.get(project.project_id, "pt").segments[-1]
    assert projects.transcript.get(project.project_id).segments
    updated = transcripts.update_segment(
        project.project_id, "pt", segment.id, request=DubbingTargetSegmentUpdateRequest(translation="Até logo.")
    )
    assert updated.segment.translation == "Até logo."
    assert projects.language.get(project.project_id, "pt").status == "stale"
    assert transcripts.regenerate(project.project_id, "pt").regenerated_segment_ids == [segment.id]
    language = wait_for(labs, project.project_id)
    assert (language.status, language.revision) == ("completed", 2)
    assert transcripts.get(project.project_id, "pt").segments[-1].translation == "Até logo."

    listed = projects.list()
    assert project.project_id in [each.project_id for each in listed.projects]
    projects.delete(project.project_id)
    with pytest.raises(ApiError):
        projects.get(project.project_id)


def wait_for(labs: ElevenLabs, project_id: str) -> Any:
    while True:
        language = labs.dubbing.project.language.get(project_id, "pt")
        if language.status not in ("queued", "processing"):
            return language
        time.sleep(0.1)
