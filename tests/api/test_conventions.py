"""The manners of any web server, asked of every route in the OpenAPI document."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.jobs.api_keys import hash_key
from tests.api.server import NO_MODELS, PATIENCE_S, Running, finished, running

KEY, ORIGIN, OTHER_ORIGIN = "a key for tests", "https://pages.example", "https://other.example"
MAX_UPLOAD_BYTES, MAX_BODY_BYTES = 4_000_000, 20_000
DUB_ID = "dub_" + "0" * 26
PARAMETERS = {"dub_id": DUB_ID, "dubbing_id": DUB_ID, "project_id": DUB_ID, "format": "srt", "format_type": "srt"}
"""Values of path parameters that their patterns allow; of any other it is ``pt``."""
BODY_METHODS = {"post", "put", "patch"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keys = f"serve.auth.keys=[{{name: tests, sha256: {hash_key(KEY)}, limits: {{requests_per_min: 100000}}}}]"
    settings = (
        *(*NO_MODELS, keys, "serve.auth.required=true", f"serve.cors_origins=[{ORIGIN}]"),
        *(f"serve.max_upload_bytes={MAX_UPLOAD_BYTES}", f"serve.max_body_bytes={MAX_BODY_BYTES}"),
    )
    with running(tmp_path_factory.mktemp("data"), *settings, config="base") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[httpx.Client]:
    with service.client(KEY) as client:
        yield client


@pytest.fixture(scope="module")
def paths(client: httpx.Client) -> Mapping[str, frozenset[str]]:
    """Path → its methods, in small letters."""
    described = client.get("/openapi.json").json()["paths"]
    found = {
        re.sub(r"\{(\w+)[^}]*\}", lambda match: PARAMETERS.get(match[1], "pt"), path): frozenset(methods)
        for path, methods in described.items()
    }
    assert len(found) > 35
    return found


def has_shape_of(path: str, answer: httpx.Response) -> bool:
    """True if an error has the body that the clients of the path expect, and a message."""
    body = answer.json()
    if path.startswith(("/v1/audio", "/v1/embeddings", "/v1/models")):
        return bool(body["error"]["message"]) and {"type", "param", "code"} < set(body["error"])
    if path in ("/embed", "/info"):
        return bool(body["error"]) and bool(body["error_type"])
    if path.startswith(("/translate", "/detect", "/languages", "/health", "/spec", "/frontend")) and path != "/healthz":
        return set(body) == {"error"} and bool(body["error"])
    if path.startswith(("/v1/dubbing", "/v1/text-to-speech", "/v1/speech-to-text", "/v1/voices", "/v2/", "/v1/hist")):
        return bool(body["detail"]["message"]) and bool(body["detail"]["status"])
    is_problem = answer.headers["content-type"] == "application/problem+json"
    return is_problem and body["status"] == answer.status_code and bool(body["detail"])


def test_head_answers_as_get_without_the_body(client: httpx.Client, paths: Mapping[str, frozenset[str]]) -> None:
    for path in [*(path for path, methods in paths.items() if "get" in methods), "/", "/docs", "/page/app.js"]:
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        kept = ("content-type", "content-length", "cache-control", "content-security-policy")
        assert [head.headers.get(name) for name in kept] == [got.headers.get(name) for name in kept], path


def test_options_lists_the_methods(service: Running, paths: Mapping[str, frozenset[str]]) -> None:
    with service.client() as stranger:
        for path, methods in {**paths, "/": frozenset({"get", "post"})}.items():
            answer = stranger.options(path)
            implied = {"OPTIONS", *({"HEAD"} if "get" in methods else ())}
            assert answer.status_code == 204, path
            assert {*(method.upper() for method in methods), *implied} <= set(answer.headers["allow"].split(", "))
        assert stranger.options("/nowhere").status_code == 401


def test_a_method_that_no_route_has_is_405_in_the_paths_shape(
    client: httpx.Client, paths: Mapping[str, frozenset[str]]
) -> None:
    for path, methods in paths.items():
        answer = client.request("PATCH" if "put" in methods else "PUT", path)
        assert answer.status_code == 405, path
        assert {method.upper() for method in methods} < set(answer.headers["allow"].split(", ")), path
        assert has_shape_of(path, answer), path


def test_a_missing_key_is_401_in_the_paths_shape(service: Running, paths: Mapping[str, frozenset[str]]) -> None:
    public = {"/healthz", "/readyz", "/languages", "/openapi.json", "/health", "/spec", "/frontend/settings"}
    with service.client() as stranger:
        assert stranger.get("/metrics").status_code == 401
        for path, methods in paths.items():
            answer = stranger.request(min(methods), path)
            if path not in public:
                assert (answer.status_code, has_shape_of(path, answer)) == (401, True), path


def test_a_body_past_the_limit_is_413_in_the_paths_shape_with_the_limit(
    service: Running, paths: Mapping[str, frozenset[str]]
) -> None:
    for path, methods in paths.items():
        for method in methods & BODY_METHODS:
            answer = announce_body(service, method.upper(), path, num_bytes=MAX_UPLOAD_BYTES + 1)
            assert (answer.status_code, has_shape_of(path, answer)) == (413, True), path
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert any(f"at most {limit} bytes" in answer.text for limit in (MAX_UPLOAD_BYTES, MAX_BODY_BYTES)), path


def test_the_limit_of_each_kind_of_body_is_named(service: Running) -> None:
    upload = announce_body(service, "POST", "/v1/dubs", num_bytes=MAX_UPLOAD_BYTES + 1)
    assert f"at most {MAX_UPLOAD_BYTES} bytes" in upload.json()["detail"]
    text = announce_body(service, "POST", "/embed", num_bytes=MAX_BODY_BYTES + 1)
    assert (text.status_code, f"at most {MAX_BODY_BYTES} bytes" in text.json()["error"]) == (413, True)


def announce_body(service: Running, method: str, path: str, *, num_bytes: int) -> httpx.Response:
    """The answer to the headers alone: a body this large is refused before it comes."""
    url = httpx.URL(service.url)
    connection = http.client.HTTPConnection(url.host, url.port, timeout=PATIENCE_S)
    kind = "multipart/form-data; boundary=b" if num_bytes > MAX_UPLOAD_BYTES else "application/json"
    headers = {"xi-api-key": KEY, "origin": ORIGIN, "content-length": str(num_bytes), "content-type": kind}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    try:
        return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
    finally:
        connection.close()


def test_an_unexpected_error_has_the_paths_shape_and_every_header(
    client: httpx.Client, service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise LookupError("a fault of the program")

    monkeypatch.setattr(type(service.dispatcher.pools), "stats", broken)
    answer = client.get("/v1/pools", headers={"origin": ORIGIN})
    assert (answer.status_code, has_shape_of("/v1/pools", answer)) == (500, True)
    assert "fault" not in answer.text
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["x-frame-options"] == "DENY"


# --- repeated fields


def test_a_repeated_language_counts_like_a_list(client: httpx.Client, talk: Path) -> None:
    answer = client.post("/v1/dubs", data={"to": ["pt", "es,fr"]}, files={"file": talk.read_bytes()})
    assert answer.status_code == 201, answer.text
    assert [target["language"] for target in answer.json()["targets"]] == ["pt", "es", "fr"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/dubs", [("to", "pt"), ("file", "a"), ("file", "b")]),
        ("/v1/dubs", [("to", "pt"), ("source", "en"), ("source", "de"), ("file", "a")]),
        ("/v1/dubbing", [("target_lang", "pt"), ("target_lang", "es"), ("file", "a")]),
        ("/v1/dubbing/project", [("file", "a"), ("file", "b")]),
        ("/v1/audio/transcriptions", [("model", "m"), ("language", "en"), ("language", "de"), ("file", "a")]),
        ("/v1/audio/translations", [("model", "m"), ("model", "n"), ("file", "a")]),
    ],
)
def test_another_repeated_field_is_refused(client: httpx.Client, path: str, fields: list[tuple[str, str]]) -> None:
    parts: list[Any] = [(name, (name if name == "file" else None, value.encode())) for name, value in fields]
    answer = client.post(path, files=parts)
    assert answer.status_code == 422
    assert "must be given once" in answer.text
    assert has_shape_of(path, answer)


# --- other origins


def test_media_can_be_used_by_pages_of_a_configured_origin(client: httpx.Client, talk: Path) -> None:
    made = client.post("/v1/dubs", data={"to": "pt", "source": "en"}, files={"file": talk.read_bytes()}).json()
    finished(client, made["id"])
    path = f"/v1/dubs/{made['id']}/media"
    wanted = {"access-control-request-method": "GET", "access-control-request-headers": "range,xi-api-key"}
    preflight = client.options(path, headers={"origin": ORIGIN, **wanted})
    assert preflight.status_code == 200
    assert "range" in preflight.headers["access-control-allow-headers"].lower()
    answer = client.get(path, headers={"origin": ORIGIN, "range": "bytes=0-9"})
    assert (answer.status_code, len(answer.content)) == (206, 10)
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    exposed = answer.headers["access-control-expose-headers"]
    assert {"Content-Range", "Content-Disposition", "Retry-After"} <= set(exposed.split(", "))
    embedded = client.get(path, headers={"referer": f"{ORIGIN}/a/page"})  # as <video> without `crossorigin` asks
    assert embedded.headers["cross-origin-resource-policy"] == "cross-origin"
    assert client.head(path).headers["content-length"] == str(len(embedded.content))
    events = client.head(f"/v1/dubs/{made['id']}/events")
    assert (events.status_code, events.headers["content-type"][:17]) == (200, "text/event-stream")


def test_pages_of_other_origins_get_nothing(client: httpx.Client) -> None:
    refused = client.options("/v1/dubs", headers={"origin": OTHER_ORIGIN, "access-control-request-method": "GET"})
    assert (refused.status_code, has_shape_of("/v1/dubs", refused)) == (400, True)
    for headers in ({"origin": OTHER_ORIGIN}, {"referer": f"{OTHER_ORIGIN}/{ORIGIN}"}, {}):
        answer = client.get("/v1/dubs", headers=headers)
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers


# --- the port


@pytest.mark.parametrize("mode", ["inline", "auto"])
def test_a_taken_port_is_one_line_and_one_exit_status(tmp_path: Path, mode: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        given = ("--port", str(port), "--set", f"serve.data_dir={tmp_path}")
        given += ("--set", "ray.mode=inline") if mode == "inline" else ()
        command = [sys.executable, "-m", "serve.cli", "serve", *given]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert f"127.0.0.1:{port}" in line
    assert "Address already in use" in line
