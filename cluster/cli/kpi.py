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
    from cluster.analysis.kpi import KeyFigures, KpiResult

TIMEOUT_S = 30.0


Paths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="MANIFEST...", help="Manifests, or the folders of dubs or of a batch."),
]
Url = Annotated[
    str | None,
    typer.Option("--url", help="A service, http://host:8000, or any address with its metrics, instead of files."),
]
ClusterAddress = Annotated[
    str | None,
    typer.Option("--address", help="Dashboard of a cluster, http://head:8265, whose nodes' metrics are added up."),
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
    address: ClusterAddress = None,
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
    from cluster.analysis.kpi import Targets, judge

    of, figures = _measured(paths or [], url, key, address)
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
        typer.echo(json.dumps({"of": of, "kpis": rows}))
    else:
        _print(results, of)
    if strict and any(result.verdict == "missed" for result in results):
        raise typer.Exit(EXIT_INPUT)


def _measured(paths: list[Path], url: str | None, key: str | None, address: str | None) -> tuple[str, KeyFigures]:
    """The figures, and in words what they are of."""
    from cluster.analysis.kpi import of_dubs, of_metrics
    from cluster.analysis.recorded import describe, read_dubs

    if bool(paths) + (url is not None) + (address is not None) != 1:
        raise ConfigError("kpi must be given one of manifests, --url and --address; see raydub kpi --help")
    if paths:
        dubs = read_dubs(paths)
        return describe(dubs), of_dubs(dubs)
    text = _fetched(url, key) if url is not None else _fetched_of_nodes(address or "")
    return f"all dubs of the processes that run at {url or address}", of_metrics(text)


def _print(results: list[KpiResult], of: str) -> None:
    from cluster.cli.tables import plain_table, wide_console

    console = wide_console()
    console.print(f"of {of}", highlight=False, markup=False)
    table = plain_table("figure", "target", "measured", "verdict")
    for result in results:
        measured = "" if result.measured is None else f"{result.measured:.4g} {result.unit}"
        verdict = result.verdict + (f": {result.why}" if result.why else "")
        table.add_row(result.name, f"{result.bound} {result.target:g} {result.unit}", measured, verdict)
    console.print(table)


def _fetched(url: str, key: str | None, must: str = "--url must lead to the metrics of a service that runs") -> str:
    """The metrics at the address; of a service without a path, at ``/metrics``.

    Raises ConfigError, which says what ``must`` hold.
    """
    import httpx

    address = url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/metrics"
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    try:
        answer = httpx.get(address, headers=headers, timeout=TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConfigError(f"{must}; {address} does not answer: {error}") from error
    if answer.status_code != httpx.codes.OK:
        raise ConfigError(f"{must}; {address} answered {answer.status_code}; give a key by --key if it needs one")
    return answer.text


def _fetched_of_nodes(address: str) -> str:
    """The metrics of all nodes of the cluster with this dashboard. Raises ConfigError, DubbingError."""
    from cluster.cli.ray_jobs import metrics_addresses

    found = metrics_addresses(address)
    if not found:
        raise ConfigError(f"--address must lead to a cluster with metrics; {address} names none; wait until it is up")
    must = "every node of the cluster must tell its metrics, which one that has just started does not yet"
    return "".join(_fetched(f"http://{each}/metrics", None, must) for each in found)
