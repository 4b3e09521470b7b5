"""The command line starts without libraries that the command does not use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import get_args

import pytest

from cluster.ab.scores import PRIMARY
from cluster.ab.statistics import MIN_RESAMPLES
from cluster.cli import ab
from cluster.quality import Metric

UNUSED = {
    *("ray", "torch", "ctranslate2", "onnx", "onnxruntime", "av", "scipy", "soxr", "pyloudnorm"),
    *("sqlalchemy", "alembic", "fastapi", "uvicorn", "httpx", "fsspec", "tenacity", "msgpack", "jinja2", "pysubs2"),
    *("jiwer", "sacrebleu"),
}
"""Neither the command line itself nor ``raydub doctor`` uses these; doctor asks some of them later."""
UNUSED_BY_CONFIGURATION = UNUSED | {"numpy", "langcodes", "filelock", "asyncio"}

RUN = """
import atexit, json, sys
loaded = lambda: print("\\n" + json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
atexit.register(loaded)
from serve.cli import main
main()
"""


def finished(*arguments: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """The command, and the top-level modules that it has imported at its end."""
    ended = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    return ended, set(json.loads(ended.stdout.rstrip("\n").rsplit("\n", 1)[-1]))


def run(*arguments: str, **environment: str) -> tuple[str, set[str]]:
    """What the command prints, and the top-level modules that it has imported at its end."""
    ended, modules = finished(*arguments, **environment)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.rstrip("\n").rsplit("\n", 1)[0], modules


@pytest.mark.parametrize(
    "command",
    ["", "dub", "ab", "submit", "jobs", "analyze", "kpi", "plan", "doctor", "models", "store", "voices", "serve keys"],
)
def test_help_imports_no_work(command: str) -> None:
    text, modules = run(*command.split(), "--help")
    assert "Usage: raydub" in text
    assert UNUSED_BY_CONFIGURATION & modules == set()


def test_config_show_imports_no_work() -> None:
    text, modules = run("config", "show")
    assert "translation:" in text
    assert UNUSED_BY_CONFIGURATION & modules == set()


@pytest.mark.parametrize(
    ("words", "completion"), [("raydub st", "store"), ("raydub dub --profile q", "quality"), ("raydub ab --b", "--b")]
)
def test_completion_imports_no_work(words: str, completion: str) -> None:
    variables = {"_RAYDUB_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    text, modules = run(**variables)
    assert completion in text.split()
    assert UNUSED_BY_CONFIGURATION & modules == set()


@pytest.mark.parametrize("option", ["--voice=nobody", "--voice=pt=nobody", "--set=speech.voices={pt: nobody}"])
def test_a_voice_that_does_not_exist_is_refused_before_work_is_imported(option: str) -> None:
    ended, modules = finished("dub", "no-such-file.mp4", "--to", "pt", option)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith("raydub: a voice for pt must be one of pf_dora, pm_alex, ")
    assert UNUSED & modules == set()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--voice=S1=nobody"], "a voice must be one of pf_dora, pm_alex, "),
        (["--voice=S1=nobody", "--speakers=auto"], "a voice must be one of pf_dora, pm_alex, "),
        (["--voice=S3=pf_dora", "--speakers=2"], "a speaker with a voice must be one of S1 to S2, "),
        (["--speakers=many"], "speakers must be auto, a number "),
    ],
)
def test_a_cast_that_cannot_be_is_refused_before_work_is_imported(options: list[str], problem: str) -> None:
    ended, modules = finished("dub", "no-such-file.mp4", "--to", "pt", *options)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"raydub: {problem}")
    assert UNUSED & modules == set()


def test_doctor_starts_without_what_it_looks_for() -> None:
    program = "import json, sys, cluster.admin.doctor; print(json.dumps([*sys.modules]))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert UNUSED & set(json.loads(finished.stdout)) == set()


def test_constants_of_ab_are_those_of_the_comparison() -> None:
    assert get_args(ab.MetricName) == tuple(Metric)
    assert ab.DEFAULT_METRIC == PRIMARY
    assert ab.MIN_RESAMPLES == MIN_RESAMPLES


def test_a_command_computes_with_one_blas_thread() -> None:
    """Others spin while they wait for work: a third of the service's CPU went into that."""
    program = """
import typer
from cluster.cli.options import run_app
app = typer.Typer()
@app.command()
def command() -> None:
    import numpy
    from threadpoolctl import threadpool_info
    print([library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"])
run_app(app)
"""
    variables = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=variables)
    assert set(json.loads(ended.stdout)) == {1}


def test_a_dub_of_a_file_waits_for_no_import_that_it_needs_late_or_never() -> None:
    program = (
        "import sys; import cluster.batch.items, cluster.batch.runner, cluster.cli.display, cluster.pools.ray_session;"
        "unused = {'httpx', 'jinja2', 'sacrebleu', 'jiwer', 'aiohttp', 'scipy.signal', 'scipy.cluster', 'scipy.stats'};"
        "print(sorted(unused & set(sys.modules)))"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"
