"""Parts of the service that need no server: settings, keys, rates, ids, paths."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from actors.errors import CapacityError, ConfigError
from actors.types import Clip
from serve.api.app import ROUTERS, UPLOAD_ROUTERS
from serve.api.middleware import Deadlines, Rates, allow_longer, given_key
from serve.api.problems import ErrorAnswers, problem_of
from serve.app import check_keys
from serve.errors import NotFoundError, ServiceFullError
from serve.ids import made_s, new_dub_id
from serve.jobs.api_keys import hash_key
from serve.settings import is_loopback, load_service
from serve.storage.folder_files import FolderFiles
from serve.storage.paths import DubPaths


def test_an_unknown_setting_names_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match=r"serve\.max_upload_byte is unknown; did you mean 'max_upload_bytes'"):
        load_service("offline", ["serve.max_upload_byte=1"])


def test_the_services_settings_are_in_no_output() -> None:
    _, config = load_service("offline", ["serve.database_url=postgresql+asyncpg://me:secret@host/db"])
    assert "serve" not in config.model_dump()


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("a.b", False)]
)
def test_which_addresses_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("host", "haproxy", "says"),
    [("0.0.0.0", "0", "serve.host is 0.0.0.0"), ("127.0.0.1", "1", "RAY_SERVE_ENABLE_HA_PROXY=1")],
)
def test_keys_cannot_be_refused_where_others_reach_the_service(
    monkeypatch: pytest.MonkeyPatch, host: str, haproxy: str, says: str
) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", haproxy)
    settings, _ = load_service("offline", [f"serve.host='{host}'", "serve.auth.required=false"])
    with pytest.raises(ConfigError, match=says):
        check_keys(settings)


def test_keys_may_be_refused_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_SERVE_ENABLE_HA_PROXY", raising=False)
    check_keys(load_service("offline", ["serve.auth.required=false"])[0])


def test_keys_of_the_environment_are_known_by_their_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYDUB_API_KEYS", "one, two,")
    settings, _ = load_service("offline")
    assert [key.sha256 for key in settings.configured_keys()] == [hash_key("one"), hash_key("two")]


def test_whose_a_dub_is_does_not_change_with_the_other_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, _ = load_service("offline")
    monkeypatch.setenv("RAYDUB_API_KEYS", "one,two")
    _, of_two = settings.configured_keys()
    monkeypatch.setenv("RAYDUB_API_KEYS", "two")
    assert settings.configured_keys() == (of_two,)
    with pytest.raises(ConfigError, match="must not begin with environment-"):
        load_service("offline", [f"serve.auth.keys=[{{name: environment-0, sha256: {hash_key('x')}}}]"])


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer  abc "}, "abc"),
        ({"xi-api-key": "abc"}, "abc"),
        ({"authorization": "Basic abc", "xi-api-key": "def"}, "def"),
        ({"authorization": "Basic abc"}, None),
        ({"authorization": "Bearer "}, None),
        ({}, None),
    ],
)
def test_a_key_comes_in_either_header(headers: dict[str, str], key: str | None) -> None:
    assert given_key(Headers(headers)) == key


def test_a_bucket_refills_as_time_passes_and_says_when() -> None:
    rates = Rates()
    for _ in range(60):
        rates.spend("me", 60, now_s=0.0)
    with pytest.raises(CapacityError) as refused:
        rates.spend("me", 60, now_s=0.0)
    assert refused.value.retry_after_s == pytest.approx(1.0)
    rates.spend("another", 60, now_s=0.0)
    rates.spend("me", 60, now_s=1.0)
    with pytest.raises(CapacityError):
        rates.spend("me", 60, now_s=1.5)


@given(gaps_s=st.lists(st.floats(0, 10), max_size=200), per_min=st.integers(1, 1000))
def test_no_more_than_the_rate_and_one_bucket_pass(gaps_s: list[float], per_min: int) -> None:
    rates, now_s, passed = Rates(), 0.0, 0
    for gap_s in gaps_s:
        now_s += gap_s
        try:
            rates.spend("me", per_min, now_s=now_s)
        except CapacityError:
            continue
        passed += 1
    assert passed <= per_min + now_s * per_min / 60 + 1e-6


@pytest.mark.parametrize(("more_s", "status"), [(60.0, 200), (0.0, 503)])
async def test_an_answer_may_begin_later_if_its_route_says_so(more_s: float, status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        allow_longer(Request(scope), more_s)
        await asyncio.sleep(0.3)
        await PlainTextResponse("heard")(scope, receive, send)

    settings, _ = load_service("offline", ["serve.request_timeout_s=0.1"])
    transport = httpx.ASGITransport(Deadlines(app, settings, ErrorAnswers()))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        assert (await client.get("/")).status_code == status


def test_ids_sort_by_when_they_were_made() -> None:
    before_s = time.time()
    first = new_dub_id()
    time.sleep(0.002)
    assert first < new_dub_id()
    assert before_s - 0.001 <= made_s(first) <= time.time()


@pytest.mark.parametrize("dub_id", ["", "..", "dub_", "dub_/../../../../../etc", "dub_" + "0" * 25 + "/", "x" * 30])
def test_only_an_id_becomes_part_of_a_path(tmp_path: Path, dub_id: str) -> None:
    with pytest.raises(ValueError, match="must look like"):
        DubPaths(tmp_path).source(dub_id)


@pytest.mark.parametrize("utterance_id", ["", "pt:u1/../x", "../pt:u1", "pt:u1-", "pt:u1\n", "pt:u1\0"])
def test_only_an_utterances_id_becomes_part_of_a_path(tmp_path: Path, utterance_id: str) -> None:
    with pytest.raises(ValueError, match="must look like"):
        DubPaths(tmp_path).clip(new_dub_id(), utterance_id)


def test_other_attempts_are_removed_and_clips_kept(tmp_path: Path) -> None:
    files, dub_id = FolderFiles(tmp_path), new_dub_id()
    clip = Clip(samples=np.zeros(100, np.float32), sample_hz=24_000)
    files.save_clip(dub_id, "pt:u0001", clip)
    (kept, kept_path), (_, other_path) = files.new_output(dub_id), files.new_output(dub_id)
    kept_path.mkdir()
    other_path.mkdir()
    files.remove_other_attempts(dub_id, kept)
    assert kept_path.is_dir()
    assert not other_path.exists()
    assert files.paths.clip(dub_id, "pt:u0001").stat().st_size == 44 + 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/dubs", {"detail": "x", "status": 404, "title": "Not Found", "type": "about:blank"}),
        ("/v1/dubbing/a/b", {"detail": {"message": "x", "status": "not_found"}}),
        ("/v1/dubbing/project/a", {"detail": {"message": "x", "status": "not_found"}}),
        ("/v1/models/m", {"error": {"message": "x", "type": "not_found_error", "param": None, "code": None}}),
        ("/translate", {"error": "x"}),
        ("/embed", {"error": "x", "error_type": "backend"}),
    ],
)
def test_each_imitated_api_has_its_own_error_body(path: str, body: dict[str, object]) -> None:
    answer = ErrorAnswers((*ROUTERS, *UPLOAD_ROUTERS)).to_error(NotFoundError("x"), path)
    assert answer.status_code == 404
    assert json.loads(bytes(answer.body)) == body


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("x"), 422),
        (CapacityError("x"), 429),
        (ServiceFullError("x"), 503),
        (ConnectionRefusedError("secret host"), 503),
        (KeyError("secret"), 500),
    ],
)
def test_the_nearest_type_of_an_error_decides_its_status(error: Exception, status: int) -> None:
    problem = problem_of(error)
    assert problem.status == status
    assert "secret" not in problem.detail
