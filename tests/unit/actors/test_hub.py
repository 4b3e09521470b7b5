"""Models by name, against a hub that is a small HTTP server of this test, or none at all."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from actors.engine import KnownModel
from actors.errors import EngineLoadError
from actors.hub import fetch, find, fingerprint, is_offline, known_models, resolve, verify
from actors.hub.download import needed_files

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "f" * 40
WEIGHTS = bytes(range(256)) * 40
FILES = {
    "README.md": b"A model.",
    "config.json": b'{"model_type": "m2m_100"}',
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"the same, pickled",
    "onnx/model.onnx": b"the same, as a graph",
}


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYDUB_CACHE", str(tmp_path / "raydub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("RAYDUB_OFFLINE", raising=False)
    return tmp_path


class Hub:
    """Answers what huggingface_hub asks of the real one, for one repository."""

    def __init__(self) -> None:
        self.files: Mapping[str, bytes] = FILES
        self.published: dict[str, str] = {}
        """Hashes that the listing says, where they are not the files' own."""
        self.downloads: list[str] = []

    def tree(self) -> list[dict[str, object]]:
        entries: list[dict[str, object]] = []
        for path, content in self.files.items():
            entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": self.etag(path)}
            if path.endswith((".safetensors", ".bin")):
                sha256 = self.published.get(path, hashlib.sha256(content).hexdigest())
                entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
            entries.append(entry)
        return entries

    def etag(self, path: str) -> str:
        return hashlib.sha256(self.files[path]).hexdigest()[:40]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub at a local address, and the network switched on."""
    import huggingface_hub.constants as constants

    fake = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(with_body=True)

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/api/models/owner/name/tree/"):
                self.send(json.dumps(fake.tree()).encode(), {"Content-Type": "application/json"}, with_body)
            elif path.startswith(("/api/models/owner/name/revision/", "/api/models/owner/name")):
                body = json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": []}).encode()
                self.send(body, {"Content-Type": "application/json"}, with_body)
            elif path.startswith("/owner/name/resolve/") and (name := path.split("/", 5)[5]) in fake.files:
                if with_body:
                    fake.downloads.append(name)
                self.send(fake.files[name], {"ETag": f'"{fake.etag(name)}"', "X-Repo-Commit": COMMIT}, with_body)
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def send(self, body: bytes, headers: Mapping[str, str], with_body: bool) -> None:
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    # The library reads its environment once, when it is imported.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    yield fake
    server.shutdown()
    server.server_close()


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_is_fetched_without_the_formats_that_are_not_loaded(served: Hub) -> None:
    folder = resolve("owner/name")
    assert content(folder) == {name: FILES[name] for name in ("README.md", "config.json", "model.safetensors")}
    assert folder.name == COMMIT
    assert sorted(served.downloads) == ["README.md", "config.json", "model.safetensors"]


def test_what_was_fetched_is_found_without_the_network(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch(f"owner/name@{COMMIT}")
    served.downloads.clear()
    monkeypatch.setenv("RAYDUB_OFFLINE", "1")
    assert resolve(f"owner/name@{COMMIT}") == folder
    assert verify(f"owner/name@{COMMIT}") == []
    assert served.downloads == []
    with pytest.raises(EngineLoadError, match=f"run: raydub models fetch owner/name@{OTHER_COMMIT}"):
        resolve(f"owner/name@{OTHER_COMMIT}")


def test_a_changed_or_missing_file_is_named(served: Hub) -> None:
    folder = fetch("owner/name")
    (folder / "model.safetensors").resolve().write_bytes(WEIGHTS[::-1])
    (problem,) = verify("owner/name")
    assert "model.safetensors must have sha256" in problem
    (folder / "config.json").unlink()
    assert len(verify("owner/name")) == 1  # no longer whole: as good as not there
    assert "raydub models fetch" in verify("owner/name")[0]


def test_weights_that_are_not_those_published_are_refused(served: Hub) -> None:
    served.published["model.safetensors"] = hashlib.sha256(b"others").hexdigest()
    with pytest.raises(EngineLoadError, match=r"model\.safetensors in .* differ"):
        fetch("owner/name")


def test_weights_that_are_not_those_pinned_are_refused(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownModel(
        task="translation",
        ref=f"owner/name@{COMMIT}",
        languages="2",
        licence="MIT",
        size_bytes=1,
        sha256={"config.json": "0" * 64},
    )
    monkeypatch.setattr("actors.hub.references.known_models", lambda: (known,))
    with pytest.raises(EngineLoadError, match=r"config\.json in .* differ"):
        fetch("owner/name")


def test_a_known_model_is_taken_at_its_pinned_revision(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownModel(task="translation", ref=f"owner/name@{COMMIT}", languages="2", licence="MIT", size_bytes=1)
    monkeypatch.setattr("actors.hub.references.known_models", lambda: (known,))
    assert resolve("owner/name").name == COMMIT


def test_a_repository_the_hub_does_not_have_is_named(served: Hub) -> None:
    with pytest.raises(EngineLoadError, match="owner/other at main must be on the hub and open to this machine"):
        resolve("owner/other")


def test_without_the_network_the_error_says_where_it_was_sought_and_what_to_run(caches: Path) -> None:
    with pytest.raises(EngineLoadError) as raised:
        resolve("facebook/nllb-200-distilled-600M")
    message = raised.value.message
    assert "facebook/nllb-200-distilled-600M" in message
    assert str(caches / "hub") in message
    assert "raydub models fetch facebook/nllb-200-distilled-600M" in message
    assert "HF_HUB_OFFLINE" in message
    with pytest.raises(EngineLoadError, match="needs the network"):
        fetch("owner/name")
    assert "raydub models fetch" in verify("owner/name")[0]


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("true", True), ("0", False), ("", False), ("No", False)])
def test_either_switch_forbids_the_network(value: str, offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("RAYDUB_OFFLINE", value)
    assert is_offline() is offline
    monkeypatch.delenv("RAYDUB_OFFLINE")
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert is_offline() is offline


def model_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_a_folder_or_file_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder(tmp_path / "models" / "mine", {"model.safetensors": WEIGHTS})
    assert resolve(str(folder)) == folder
    assert fetch(str(folder / "model.safetensors")) == folder / "model.safetensors"
    monkeypatch.chdir(tmp_path)
    assert resolve("models/mine") == Path("models/mine")
    with pytest.raises(EngineLoadError, match="there is none at"):
        resolve(str(tmp_path / "other"))


@pytest.mark.parametrize("ref", ["", "name", "a/b/c", "owner/name@", "owner/na me", "owner/name@../x y"])
def test_what_is_neither_is_refused(ref: str) -> None:
    for look_up in (resolve, find, verify):
        with pytest.raises(EngineLoadError, match="a model must be owner/name"):
            look_up(ref)


def test_a_local_folder_is_verified_by_its_listing(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine", {"model.safetensors": WEIGHTS, "sub/config.json": b"{}"})
    assert "SHA256SUMS" in verify(str(folder))[0]
    listing = f"{hashlib.sha256(WEIGHTS).hexdigest()}  model.safetensors\n{'0' * 64} *sub/config.json\n"
    (folder / "SHA256SUMS").write_text(listing)
    (problem,) = verify(str(folder))
    assert "sub/config.json must have sha256 0000" in problem
    assert "there is none at" in verify(str(tmp_path / "other"))[0]


def test_a_wheels_resource_is_found_and_verified() -> None:
    folder = resolve("wheel:pydantic")
    assert (folder / "__init__.py").is_file()
    assert verify("wheel:pydantic/main.py") == []
    with pytest.raises(EngineLoadError, match="there is nothing at"):
        resolve("wheel:pydantic/no_such_weights")
    with pytest.raises(EngineLoadError, match="run: pip install no-such-package"):
        resolve("wheel:no_such_package/model")


def test_ctranslate2s_model_bin_is_no_pickle(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine", {"model.bin": b"\x06\x00\x00\x00numbers", "config.json": b"{}"})
    assert resolve(str(folder)) == folder


def test_one_format_of_the_weights_is_needed() -> None:
    names = ["a.safetensors", "a.bin", "sub/b.bin", "tf_model.h5", "onnx/a.onnx", "training_args.bin", "tokenizer.json"]
    assert needed_files(names) == ["a.safetensors", "sub/b.bin", "tokenizer.json"]


def test_a_fingerprint_is_of_names_and_contents(tmp_path: Path) -> None:
    first = model_folder(tmp_path / "first", {"a": b"1", "sub/b": b"2"})
    second = model_folder(tmp_path / "second", {"a": b"1", "sub/b": b"2"})
    assert fingerprint(first) == fingerprint(second)
    (second / "sub" / "b").write_bytes(b"changed")
    assert fingerprint(first) != fingerprint(second)
    (second / "sub" / "b").write_bytes(b"2")
    (second / "a").rename(second / "c")
    assert fingerprint(first) != fingerprint(second)


def test_known_models_are_pinned_and_say_what_they_are() -> None:
    for known in known_models():
        if known.ref.startswith("npm:"):
            assert len(known.archive_sha256 or "") == 64
        else:
            assert len(known.ref.partition("@")[2]) == 40
        assert known.licence
        assert known.size_bytes > 10**7
        assert all(len(sha256) == 64 for sha256 in known.sha256.values())
    assert len({known.ref for known in known_models()}) == len(known_models())
