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
    from cluster.analysis.traced import TraceAnalysis
    from cluster.tracing.chrome import Trace


def analyze(
    path: Annotated[
        Path,
        typer.Argument(metavar="MANIFEST|TRACE", help="Manifest of a dub that ran alone, or its folder; or a trace."),
    ],
    as_json: AsJson = False,
) -> None:
    """Tell which stage bounds a dub, and what one more replica of each pool would give.

    A trace (dub --trace) also tells why replicas were idle, and its gain is replayed with the times of each request. A
    manifest has the engine times of each pool. The gain needs processors or a GPU for the new replica.
    """
    from cluster.tracing.chrome import is_trace, read_trace

    if path.is_file() and is_trace(path):
        _analyze_trace(read_trace(path), as_json)
    else:
        _analyze_manifest(path, as_json)


def _analyze_manifest(path: Path, as_json: bool) -> None:
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


def _analyze_trace(trace: Trace, as_json: bool) -> None:
    from cluster.analysis.traced import analyse_trace

    analysis = analyse_trace(trace)
    if as_json:
        typer.echo(json.dumps({**dataclasses.asdict(analysis), "bound_s": analysis.bound.bound_s}))
    else:
        _print_trace(trace, analysis)


def _print_trace(trace: Trace, analysis: TraceAnalysis) -> None:
    from cluster.analysis.timeline import timeline
    from cluster.cli.tables import plain_table, wide_console

    console = wide_console()
    lanes = plain_table("", "step or replica", f"{analysis.wall_s:.1f} s")
    for track, lane, load in timeline(trace):
        lanes.add_row(track, lane, load)
    console.print(lanes)
    console.print(_trace_text(analysis), highlight=False, markup=False)
    table = plain_table(
        "pool",
        "requests",
        "calls",
        "waits",
        "engine",
        "start-up",
        "no work",
        "hand-over",
        "after",
        "one more",
        "setting",
    )
    for use, more in zip(analysis.pools, analysis.what_if, strict=True):
        times_s = (use.engine_s / use.replicas, use.starting_s, use.starved_s, use.handover_s, use.tail_s)
        table.add_row(
            use.pool,
            str(use.num_items),
            str(use.num_batches),
            f"{use.wait_s:.2f} s",
            *(f"{time_s:.1f} s" for time_s in times_s),
            f"{more.wall_s:.1f} s ({more.wall_s / analysis.wall_s - 1:+.0%})",
            f"--set {more.setting}={more.replicas}",
        )
    console.print(table)


def _trace_text(analysis: TraceAnalysis) -> str:
    bound, best = analysis.bound, min(analysis.what_if, key=lambda more: more.wall_s)
    first_s = analysis.first_utterance_s
    first = "" if first_s is None else f" The first line came after {first_s:.1f} s."
    causes = {
        "starting": bound.starting_s,
        "without work, for want of earlier steps": bound.starved_s,
        "idle though requests waited": bound.handover_s,
        "done, while later steps went on": bound.tail_s,
    }
    told = ", ".join(f"{time_s:.1f} s {cause}" for cause, time_s in causes.items())
    advice = f"--set {best.setting}={best.replicas}: {best.wall_s:.1f} s expected, on processors or a GPU of its own"
    if best.wall_s > 0.98 * analysis.wall_s:
        advice = "no single replica more would save 2 %"
    return (
        f"{bound.pool} bounds the dub: {bound.engine_s:.1f} s in engines, {bound.bound_s:.1f} s at best with "
        f"{bound.replicas} replica{'s' if bound.replicas > 1 else ''}.\n"
        f"The dub took {analysis.wall_s:.1f} s, {analysis.wall_s / bound.bound_s:.2f} × that. Each replica was on "
        f"average {told}.{first}\n"
        f"The replay of the same replicas takes {analysis.replayed_s:.1f} s. {advice[0].upper()}{advice[1:]}."
    )


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
