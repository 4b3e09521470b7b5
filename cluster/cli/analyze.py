"""``raydub analyze``: the stage that bounds a dub, and what one more replica of each would give."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.errors import ConfigError
from cluster.cli.options import AsJson

if TYPE_CHECKING:
    from cluster.analysis.bottleneck import BottleneckAnalysis


def analyze(
    path: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Manifest of a dub that ran alone, or its folder.")],
    as_json: AsJson = False,
) -> None:
    """Tell which stage bounds a dub, and what one more replica of each pool would give.

    The gain is computed from the engine times in the manifest, and needs processors or a GPU for the new replica.
    """
    from cluster.analysis.bottleneck import analyse
    from cluster.analysis.recorded import read_dubs

    [found] = read_dubs([path])[:1]
    if found.manifest is None:
        raise ConfigError(f"analyze must be given the manifest of a dub that ended well; found {path}; it has none")
    analysis = analyse(found.manifest)
    if as_json:
        typer.echo(json.dumps({**dataclasses.asdict(analysis), "bound_s": analysis.bound.bound_s}))
    else:
        _print(analysis)


def _print(analysis: BottleneckAnalysis) -> None:
    from cluster.cli.tables import plain_table, wide_console

    console = wide_console()
    console.print(_text(analysis), highlight=False, markup=False)
    table = plain_table("pool", "requests", "calls", "engine time", "busy", "with one more replica", "setting")
    for each in analysis.what_if:
        stage = each.stage
        table.add_row(
            stage.pool,
            str(stage.num_items),
            str(stage.num_batches),
            f"{stage.engine_s:.1f} s",
            f"{stage.engine_s / stage.replicas / analysis.wall_s:.0%}",
            f"{each.wall_s:.1f} s ({each.wall_s / analysis.wall_s - 1:+.0%})",
            f"--set {stage.setting}={stage.replicas + 1}",
        )
    console.print(table)
    for missing in analysis.missing:
        console.print(f"not recorded: {missing}", highlight=False, markup=False)


def _text(analysis: BottleneckAnalysis) -> str:
    bound, first_s = analysis.bound, analysis.first_utterance_s
    first = "" if first_s is None else f"; the first line came after {first_s:.1f} s"
    return (
        f"{bound.pool} bounds the dub: {bound.engine_s:.1f} s in engines, {bound.bound_s:.1f} s at best with "
        f"{bound.replicas} replica{'s' if bound.replicas > 1 else ''}.\n"
        f"The dub took {analysis.wall_s:.1f} s, {analysis.wall_s / bound.bound_s:.2f} × that. The other "
        f"{analysis.rest_s:.1f} s went to start-up, waits for other stages, mixing and writing{first}."
    )
