"""The dubbing API, asked by a real client over a real socket; models are stood in for."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import httpx
import httpx_sse
import pytest

from tests.api.server import STANDINS, Running, finished, running
from tests.command_line import raydub_here
from tests.corpus.write import File, Sound, Talk, write
from tests.media import speech


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("data"), *STANDINS, "quality.max_wer=0", config="base") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def done(client: httpx.Client, talk: Path) -> dict[str, Any]:
    """A finished dub."""
    return finished(client, create(client, talk)["id"])


def create(client: httpx.Client, path: Path, *, headers: dict[str, str] | None = None, **data: str) -> Any:
    with path.open("rb") as file:
        answer = client.post(
            "/v1/dubs", data={"to": "pt", "source": "en", **data}, files={"file": (path.name, file)}, headers=headers
        )
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def events_of(client: httpx.Client, dub_id: str, after: int | None = None) -> list[httpx_sse.ServerSentEvent]:
    headers = {} if after is None else {"last-event-id": str(after)}
    with httpx_sse.connect_sse(client, "GET", f"/v1/dubs/{dub_id}/events", headers=headers) as source:
        # A comment, which keeps the connection open, is to this client an event without data.
        return [event for event in source.iter_sse() if event.data]


def test_metrics_of_dubs_and_pools_are_shown_without_names(client: httpx.Client, done: dict[str, Any]) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {
        line.partition("{")[0].partition(" ")[0]
        for line in answer.text.splitlines()
        if not line.endswith((" 0", " 0.0"))
    }
    assert found >= {
        "ray_raydub_jobs_total",
        "ray_raydub_job_segments_total",
        "ray_raydub_job_finished_segments_total",
        "ray_raydub_job_wall_seconds_count",
        "ray_raydub_job_first_utterance_seconds_sum",
        "ray_raydub_jobs_busy_seconds_total",
        "ray_raydub_pool_engine_seconds_sum",
        "ray_raydub_pool_cpu_seconds_total",
    }
    assert done["id"] not in answer.text
    assert "talk" not in answer.text
    told = json.loads(raydub_here("kpi", "--url", str(client.base_url), "--json").stdout)
    measured = {row["name"] for row in told["kpis"] if row["measured"] is not None}
    assert measured >= {"time per 100 segments", "throughput", "failed videos", "videos at once"}


def test_a_dub_is_made_of_an_upload(done: dict[str, Any]) -> None:
    assert done["state"] == "done", done["error"]
    assert done["name"] == "talk.mp4"
    assert done["revision"] == 1
    [target] = done["targets"]
    assert target == {"language": "pt", "state": "completed", "revision": 1, "error": None}
    assert done["duration_s"] == pytest.approx(12, abs=0.1)


@pytest.mark.parametrize("form", ["amr", "3gp"])
def test_a_phones_recording_is_dubbed_whatever_its_name(client: httpx.Client, tmp_path: Path, form: str) -> None:
    sound = Sound(codec="libopencore_amrnb", hz=8_000, layout="mono", bits_per_s=12_200)
    talk = Talk(samples=speech("The boat leaves at six."), pictures=[])
    dub = finished(client, create(client, write(tmp_path / "call", talk, File(sounds=[sound], form=form)))["id"])
    assert (dub["state"], dub["error"]) == ("done", None)
    with av.open(io.BytesIO(client.get(f"/v1/dubs/{dub['id']}/media").content)) as container:
        codecs = [stream.codec_context.codec.canonical_name for stream in container.streams.audio]
    assert codecs == ["opus", "flac"]


def test_events_tell_every_line_once_and_end_with_the_job(client: httpx.Client, done: dict[str, Any]) -> None:
    events = events_of(client, done["id"])
    assert [int(event.id) for event in events] == list(range(1, len(events) + 1))
    assert events[0].event == "started"
    assert events[-1].event == "done"
    manifest = client.get(f"/v1/dubs/{done['id']}/manifest").json()
    told = {kind: [event.json()["id"] for event in events if event.event == kind] for kind in ("segment", "utterance")}
    assert told["segment"] == [segment["id"] for segment in manifest["segments"]]
    assert told["utterance"] == [line["id"] for line in manifest["dubs"][0]["utterances"]]


def test_events_resume_behind_the_last_one_seen(client: httpx.Client, done: dict[str, Any]) -> None:
    everything = events_of(client, done["id"])
    rest = events_of(client, done["id"], after=int(everything[2].id))
    assert [event.id for event in rest] == [event.id for event in everything[3:]]
    ended = client.get(f"/v1/dubs/{done['id']}/events", headers={"last-event-id": everything[-1].id})
    assert ended.status_code == 204


def test_a_finished_dub_says_which_lines_to_look_at(client: httpx.Client, done: dict[str, Any]) -> None:
    base = f"/v1/dubs/{done['id']}"
    found = client.get(f"{base}/lines").json()
    recorded = client.get(f"{base}/manifest").json()["dubs"][0]["utterances"]
    assert [(line["id"], line["flags"]) for line in found["lines"]] == [
        (line["id"], line["flags"]) for line in recorded
    ]
    assert found["num_lines"] == len(recorded)
    # The voice hums, and the stand-in hears words of its own: no line is heard as it is, and none may differ.
    wrong = client.get(f"{base}/lines", params={"flag": "heard_wrong", "language": "pt"}).json()["lines"]
    assert wrong
    assert all(line["to_look_at"] and "heard_wrong" in line["flags"] for line in wrong)
    others = client.get(f"{base}/lines", params={"to_look_at": "false"}).json()["lines"]
    assert len(others) == sum(not line["to_look_at"] for line in found["lines"])
    several = client.get(f"{base}/lines", params={"flag": ["heard_wrong", "cut"]}).json()["lines"]
    assert len(several) >= len(wrong)
    assert client.get(f"{base}/lines", params={"flag": "no_such_flag"}).status_code == 422
    assert client.get(f"{base}/lines", params={"language": "fr"}).status_code == 404


def test_the_verdict_is_in_the_dub_and_in_its_last_event(client: httpx.Client, done: dict[str, Any]) -> None:
    verdict = client.get(f"/v1/dubs/{done['id']}").json()["verdict"]
    assert verdict == client.get(f"/v1/dubs/{done['id']}/manifest").json()["verdict"]
    assert verdict["outcome"] == "failed"
    lines = client.get(f"/v1/dubs/{done['id']}/lines").json()["lines"]
    assert (verdict["num_lines"], verdict["num_flagged"]) == (len(lines), sum(line["to_look_at"] for line in lines))
    assert verdict["flags"] == Counter(flag for line in lines for flag in line["flags"])
    assert verdict["flags"]["heard_wrong"] == len(lines) > 0
    assert events_of(client, done["id"])[-1].json()["verdict"] == verdict


def test_every_spoken_line_can_be_heard(client: httpx.Client, done: dict[str, Any]) -> None:
    spoken = [event.json() for event in events_of(client, done["id"]) if event.event == "utterance"]
    assert spoken
    for line in spoken:
        answer = client.get(line["clip"])
        assert answer.headers["content-type"] == "audio/wav"
        with av.open(io.BytesIO(answer.content)) as container:
            heard_s = sum(frame.samples for frame in container.decode(audio=0)) / container.streams.audio[0].rate
        assert heard_s == pytest.approx(line["end_s"] - line["start_s"], abs=0.002)


def test_results_are_had_as_a_whole_and_by_language(client: httpx.Client, done: dict[str, Any]) -> None:
    base = f"/v1/dubs/{done['id']}"
    whole, audio = client.get(f"{base}/media"), client.get(f"{base}/audio/pt")
    with av.open(io.BytesIO(whole.content)) as container:
        assert [stream.metadata["language"] for stream in container.streams.audio] == ["por", "eng"]
    with av.open(io.BytesIO(audio.content)) as container:
        assert len(container.streams.audio) == 1
    assert "attachment" in whole.headers["content-disposition"]
    with av.open(io.BytesIO(client.get(f"{base}/video/pt").content)) as container:
        assert (len(container.streams.video), len(container.streams.audio)) == (1, 1)
    assert client.get(f"{base}/audio/fr").status_code == 404
    part = client.get(f"{base}/media", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])


def test_transcripts_of_the_dub_and_of_the_original(client: httpx.Client, done: dict[str, Any]) -> None:
    base = f"/v1/dubs/{done['id']}/transcripts"
    assert client.get(f"{base}/pt/srt").text.startswith("1\n00:00:0")
    assert client.get(f"{base}/pt/vtt").text.startswith("WEBVTT")
    lines = client.get(f"{base}/en/json").json()["lines"]
    assert lines
    assert all(line["text"] for line in lines)
    assert client.get(f"{base}/fr/json").status_code == 404


def test_one_idempotency_key_makes_one_dub(client: httpx.Client, talk: Path) -> None:
    key = {"idempotency-key": "k1"}
    first, again = create(client, talk, headers=key), create(client, talk, headers=key)
    assert first["id"] == again["id"]
    with talk.open("rb") as file:
        other = client.post("/v1/dubs", data={"to": "pt"}, files={"file": ("x", file)}, headers=key)
    assert other.status_code == 409
    client.post(f"/v1/dubs/{first['id']}/cancel")


def test_one_idempotency_key_keeps_one_upload_however_many_come_at_once(
    client: httpx.Client, talk: Path, service: Running
) -> None:
    before = set(service.dispatcher.files.dub_ids())
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(create, client, talk, headers={"idempotency-key": "k2"}) for _ in range(4)]
        [dub_id] = {each.result()["id"] for each in asked}
    assert set(service.dispatcher.files.dub_ids()) - before == {dub_id}
    client.post(f"/v1/dubs/{dub_id}/cancel")


def test_a_dub_is_cancelled_then_deleted(client: httpx.Client, talk: Path, service: Running) -> None:
    made = create(client, talk, name="to be deleted")
    folder = service.dispatcher.files.paths.folder(made["id"])
    assert folder.is_dir()
    client.post(f"/v1/dubs/{made['id']}/cancel").raise_for_status()
    ended = finished(client, made["id"])
    assert ended["state"] == "cancelled"
    assert [event.event for event in events_of(client, made["id"])][-1] == "cancelled"
    assert client.delete(f"/v1/dubs/{made['id']}").status_code == 204
    assert client.get(f"/v1/dubs/{made['id']}").status_code == 404
    assert not folder.exists()


def test_pages_hold_every_dub_once_newest_first(client: httpx.Client, talk: Path, done: dict[str, Any]) -> None:
    for name in ("one", "two"):
        client.post(f"/v1/dubs/{create(client, talk, name=name)['id']}/cancel")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = client.get("/v1/dubs", params={"limit": 1, **({"cursor": cursor} if cursor else {})}).json()
        seen += [dub["id"] for dub in page["dubs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(set(seen), reverse=True)
    assert done["id"] in seen
    assert len(seen) >= 3
    finished_only = client.get("/v1/dubs", params={"state": "done"}).json()["dubs"]
    assert {dub["state"] for dub in finished_only} == {"done"}


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"to": "en", "source": "en"}, "must differ"),
        ({"to": "xx-nonsense-tag-that-is-none"}, "language"),
        ({"to": ","}, "languages to dub into"),
        ({"to": "pt", "profile": "best"}, "profile must be one of"),
        ({"to": "pt", "voices": "{"}, "voices must be JSON"),
        ({"to": "pt", "voices": '{"S1": "nobody"}'}, "a voice must be one of"),
        ({"to": "pt", "audio_track": "-1"}, "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    client: httpx.Client, talk: Path, data: dict[str, str], found: str
) -> None:
    with talk.open("rb") as file:
        answer = client.post("/v1/dubs", data=data, files={"file": ("x.flac", file)})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert found in answer.json()["detail"]


def test_what_is_no_media_is_refused_without_this_machines_paths(client: httpx.Client, service: Running) -> None:
    answer = client.post("/v1/dubs", data={"to": "pt"}, files={"file": ("x.mp4", b"no media at all")})
    assert answer.status_code == 422
    assert service.dispatcher.settings.data_dir not in answer.text
    assert len(list((Path(service.dispatcher.settings.data_dir) / "dubs").glob("*/source"))) == len(
        client.get("/v1/dubs", params={"limit": 100}).json()["dubs"]
    )


def test_a_bad_input_fails_its_dub_and_says_why(client: httpx.Client, talk: Path) -> None:
    made = finished(client, create(client, talk, audio_track="7")["id"])
    assert made["state"] == "failed"
    assert "audio track must be one of" in str(made["error"])
    events = events_of(client, str(made["id"]))
    assert events[-1].event == "failed"
    assert client.get(f"/v1/dubs/{made['id']}/media").status_code == 409


def test_health_tells_ready_once_the_models_are_loaded(client: httpx.Client, done: dict[str, Any]) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_the_openapi_document_names_every_route(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/dubs", "/v1/dubs/{dub_id}/events", "/healthz", "/readyz"} <= set(paths)
