"""The checks for the first hour with a GPU run on a CPU; packing is checked too."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKED_BYTES = 40 * 2**20
"""Room for the archive of packages; ``bench/pack_acceptance.py`` made 37 MiB of those that are locked."""
NEEDED = ("torch", "transformers", "ctranslate2", "TTS")


@pytest.mark.skipif(
    any(importlib.util.find_spec(module) is None for module in NEEDED), reason="raydub[gpu] is not installed"
)
def test_the_dry_run_meets_every_expectation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, whose other tests need the same libraries; check 9 runs beside the tests of Ray's pools."""
    for name in ("TRANSFORMERS_VERBOSITY", "RAY_AUTH_MODE"):  # the script sets them
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAYDUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    script = importlib.import_module("gpu_acceptance")
    out, numbers = tmp_path / "gpu.json", [check.number for check in script.CHECKS if check.name != "ray"]
    chosen = ["--only", ",".join(map(str, numbers)), "--budget-s", "1200"]
    status = script.main(["--dry-run", "--out", str(out), *chosen])
    checks = json.loads(out.read_text())["checks"]
    told = {each["number"]: (each["status"], each.get("error"), each["unmet"]) for each in checks}
    assert told == {number: ("skipped" if number == 8 else "ok", None, []) for number in numbers}
    assert status == 0


@pytest.fixture
def packing(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("pack_acceptance")


def test_everything_packed_is_locked(packing) -> None:  # type: ignore[no-untyped-def]
    pins = packing.pins()
    assert len(pins) == len(packing.PACKAGES)
    assert any(pin.startswith("ray==") for pin in pins)


def test_an_unlocked_package_is_named(packing, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(packing, "PACKAGES", ("ray", "no-such-package"))
    with pytest.raises(ValueError, match="must have no-such-package"):
        packing.pins()


def test_what_the_checks_never_import_is_left_out(packing, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    kept = ("ray/__init__.py", "ray/serve/api.py", "ray/core/src/ray/raylet/raylet", "TTS/tts/models/vits.py")
    left = ("ray/jars/ray_dist.jar", "ray/rllib/a.py", "ray/dashboard/client/build/x.js", "langcodes/tests/test_a.py")
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        for name in (*kept, *left):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            wheel.writestr(entry, b"\x7fELF" if name.endswith("raylet") else b"x")
    site = tmp_path / "site"
    packing.unpack(tmp_path / "a.whl", site)
    assert sorted(str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()) == sorted(kept)
    [program] = packing.binaries(site)
    assert os.access(program, os.X_OK)


def test_more_than_can_be_carried_is_refused(
    packing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("ray/__init__.py", os.urandom(1000))
    command = ["--out", str(tmp_path / "site.tar.xz"), "--wheels", str(tmp_path)]
    monkeypatch.setattr(packing, "repository_bytes", lambda: packing.MAX_BYTES - 5000)
    assert packing.main(command) == 0
    monkeypatch.setattr(packing, "repository_bytes", lambda: packing.MAX_BYTES - 500)
    assert packing.main(command) == 1
    assert "too large" in capsys.readouterr().err


def test_the_repository_leaves_room_for_the_packages(packing) -> None:  # type: ignore[no-untyped-def]
    """They took 37 MiB when they were packed last."""
    assert packing.repository_bytes() <= packing.MAX_BYTES - PACKED_BYTES


def test_missing_packages_are_stubbed_for_coqui_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "coqpit.py").write_text("import no_such_audio\nfrom no_such_audio.deep import tool\nvalue = tool(3)\n")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for name in ("coqpit", "no_such_audio", "no_such_audio.deep"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    stubs = importlib.import_module("acceptance.stubs")
    stubs.install()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_text")
    coqpit = importlib.import_module("coqpit")
    assert isinstance(coqpit.value, stubs.Nothing)
    assert stubs.stubbed() == ["no_such_audio"]
    for name in ("coqpit", "no_such_audio", "no_such_audio.deep"):
        sys.modules.pop(name, None)
