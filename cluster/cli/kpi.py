"""``raydub kpi``: key figures of finished dubs, or of a running service, against their targets."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from actors.errors import ConfigError
from cluster.cli.options import EXIT_INPUT, AsJson

if TYPE_CHECKING:
    from cluster.analysis.kpi import KpiResult

TIMEOUT_S = 30.0


Paths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="MANIFEST...", help="Manifests, or the folders of dubs or of a batch."),
]
Url = Annotated[
    str | None,
    typer.Option("--url", help="A service, http://host:8000, or any address with its metrics, instead of files."),
]
Key = Annotated[str | None, typer.Option("--key", help="API key for --url.", envvar="RAYDUB_API_KEY")]
MaxTime = Annotated[
    float, typer.Option("--max-time-per-100", min=0, help="Seconds of a dub for 100 segments must be fewer.")
]
MinSegments = Annotated[
    float, typer.Option("--min-segments-per-s", min=0, help="Segments per second of all dubs must be more.")
]
MaxFailed = Annotated[
    float, typer.Option("--max-failed-percent", min=0, help="Percent of videos that fail must be less.")
]
MaxMemory = Annotated[
    float, typer.Option("--max-memory-gb", min=0, help="Memory of a driver beside the models must be less.")
]
MinVideos = Annotated[
    int, typer.Option("--min-videos", min=0, help="Most videos that ran at once must be at least this.")
]


def kpi(
    paths: Paths = None,
    url: Url = None,
    key: Key = None,
    seconds_per_100: MaxTime = 15.0,
    segments_per_s: MinSegments = 7.0,
    failed_percent: MaxFailed = 1.0,
    memory_gb: MaxMemory = 2.0,
    videos_at_once: MinVideos = 10,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a target is missed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare key figures with their targets.

    A segment counts once a target language. What the files cannot tell is not measured, with the reason.
    """
    from cluster.analysis.kpi import Targets, judge, of_dubs, of_metrics
    from cluster.analysis.recorded import read_dubs

    if bool(paths) == (url is not None):
        raise ConfigError("kpi must be given either manifests or --url; see raydub kpi --help")
    figures = of_dubs(read_dubs(paths)) if paths else of_metrics(_fetched(url or "", key))
    targets = Targets(
        seconds_per_100=seconds_per_100,
        segments_per_s=segments_per_s,
        failed_percent=failed_percent,
        memory_gb=memory_gb,
        videos_at_once=videos_at_once,
    )
    results = judge(figures, targets)
    if as_json:
        rows = [{**dataclasses.asdict(result), "verdict": result.verdict} for result in results]
        typer.echo(json.dumps({"kpis": rows}))
    else:
        _print(results)
    if strict and any(result.verdict == "missed" for result in results):
        raise typer.Exit(EXIT_INPUT)


def _print(results: list[KpiResult]) -> None:
    from cluster.cli.tables import plain_table, wide_console

    table = plain_table("figure", "target", "measured", "verdict")
    for result in results:
        measured = "" if result.measured is None else f"{result.measured:.4g} {result.unit}"
        verdict = result.verdict + (f": {result.why}" if result.why else "")
        table.add_row(result.name, f"{result.bound} {result.target:g} {result.unit}", measured, verdict)
    wide_console().print(table)


def _fetched(url: str, key: str | None) -> str:
    """The metrics at the address; of a service without a path, at ``/metrics``. Raises ConfigError."""
    import httpx

    address = url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/metrics"
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    try:
        answer = httpx.get(address, headers=headers, timeout=TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConfigError(f"--url must lead to a service that runs; {address} does not answer: {error}") from error
    if answer.status_code != httpx.codes.OK:
        raise ConfigError(
            f"--url must lead to metrics; {address} answered {answer.status_code}; give a key by --key if it needs one"
        )
    return answer.text
