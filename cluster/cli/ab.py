"""``raydub ab``: two ways to dub, compared on the same speech."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from actors.errors import ConfigError
from cluster import logs
from cluster.cli.options import (
    EXIT_INPUT,
    AsJson,
    AudioTrack,
    ConfigName,
    From,
    Level,
    LogLevel,
    ProfileName,
    Set,
)

if TYPE_CHECKING:
    from cluster.ab.arms import ArmChoice
    from cluster.ab.conclude import Analysis
    from cluster.ab.result import Comparison
    from cluster.batch.runner import ItemOutcome
    from cluster.config.schema import Config
    from cluster.pipeline import Job

MetricName = Literal[
    "wer",
    "cer",
    "cosine",
    "back_chrf",
    "duration_ratio",
    "stretch",
    "overlap_s",
    "syllables_per_s",
    "silence_coverage",
]
"""The values of ``cluster.quality.Metric``. It and the next two are written here too: their modules import slowly."""

DEFAULT_METRIC: MetricName = "back_chrf"
MIN_RESAMPLES = 5_000

ARM_HELP = "a strategy (hybrid), profile=NAME, settings (K=V, separated by commas or repeated), or a YAML file."

Inputs = Annotated[list[Path], typer.Argument(help="Video or audio files.", metavar="INPUT...")]
ArmA = Annotated[list[str], typer.Option("--a", metavar="ARM", help=f"One way to dub: {ARM_HELP}")]
ArmB = Annotated[list[str], typer.Option("--b", metavar="ARM", help="The other way to dub, in the same form.")]
Target = Annotated[str, typer.Option("--to", help="The one target language, BCP-47.")]
Primary = Annotated[
    MetricName,
    typer.Option(
        "--metric",
        metavar="METRIC",
        help=f"The metric that decides: {', '.join(get_args(MetricName))}. All are reported.",
    ),
]
Resamples = Annotated[int, typer.Option("--resamples", min=MIN_RESAMPLES, help="Number of bootstrap resamples.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the bootstrap.")]
Subtitles = Annotated[
    str | None,
    typer.Option(
        "--subtitles", metavar="SUFFIX", help="Suffix (srt, vtt, ass) of the subtitles that lie beside each input."
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder for ab.html, ab.json, and a folder for each input.")]
EmbedMb = Annotated[float, typer.Option("--embed-mb", min=0, help="Limit of the audio embedded in the page, in MB.")]


def ab(
    inputs: Inputs,
    a: ArmA,
    b: ArmB,
    to: Target,
    metric: Primary = DEFAULT_METRIC,
    source: From = None,
    config: ConfigName = "offline",
    profile: ProfileName = None,
    assignments: Set = None,
    out: Out = Path("ab"),
    audio_track: AudioTrack = None,
    subtitles: Subtitles = None,
    seed: Seed = 0,
    num_resamples: Resamples = 10_000,
    embed_mb: EmbedMb = 12.0,
    as_json: AsJson = False,
    log_level: Level = LogLevel.WARNING,
) -> None:
    """Dub each input in two ways, score both, and report which is better.

    Each input is transcribed once; both ways dub the same transcript.
    """
    from cluster.ab.arms import choose_arm
    from cluster.ab.conclude import Analysis
    from cluster.config.load import load_config
    from cluster.quality import Metric
    from cluster.storage.store import NONE

    logs.set_up(logging.getLevelNamesMapping()[log_level.upper()])
    shared = [*(assignments or ()), "quality.check=all"]
    if load_config(config, shared, profile).store.resolved_url() == NONE:
        shared.append("store.url=memory://ab")  # so that what both arms need is computed once
    settings = load_config(config, shared, profile)
    choices = choose_arm("a", a, config, shared, profile), choose_arm("b", b, config, shared, profile)
    jobs = _jobs(inputs, to, source, choices, subtitles, audio_track, out)
    analysis = Analysis(
        primary=Metric(metric), seed=seed, num_resamples=num_resamples, max_embed_bytes=round(embed_mb * 1_000_000)
    )
    raise typer.Exit(_run(jobs, settings, choices, analysis, out, as_json))


def _jobs(
    inputs: Sequence[Path],
    to: str,
    source: str | None,
    choices: Sequence[ArmChoice],
    subtitles: str | None,
    audio_track: int | None,
    out: Path,
) -> list[Job]:
    """One job for each input, which dubs it by every arm. Raises ConfigError."""
    from actors import languages
    from cluster.batch.folders import check_outputs
    from cluster.batch.items import folder_name
    from cluster.pipeline import Job
    from cluster.pools.routing import check_languages

    target = languages.normalise(to.strip())
    source = None if source is None else languages.normalise(source)
    if source is not None and languages.same(source, target):
        raise ConfigError(f"--to must differ from --from; found {target} and {source}")
    if subtitles is not None and source is None:
        raise ConfigError("--subtitles must be in a known language; none is given; add --from")
    own_text = {source} if subtitles is not None and source is not None else set()
    for choice in choices:
        check_languages(choice.arm.config, source, (target,), own_text=own_text)
    jobs = [
        Job(
            source=path,
            targets=(target,),
            source_language=source,
            audio_track=audio_track,
            out=out / folder_name(path),
            arms=tuple(choice.arm for choice in choices),
            subtitles=None if subtitles is None else path.with_suffix(f".{subtitles.lstrip('.')}"),
        )
        for path in inputs
    ]
    check_outputs(jobs)
    return jobs


def _run(
    jobs: Sequence[Job],
    config: Config,
    choices: tuple[ArmChoice, ArmChoice],
    analysis: Analysis,
    out: Path,
    as_json: bool,
) -> int:
    from rich.console import Console

    from cluster.ab.conclude import JSON_NAME, PAGE_NAME, DubbedTwice, conclude
    from cluster.cli.session import dub_jobs

    console = Console(stderr=as_json)
    outcomes = dub_jobs(jobs, config, console, pools=[choice.arm.config for choice in choices])
    done = [
        DubbedTwice(source=outcome.job.source, out=outcome.job.out, manifest=outcome.manifest)
        for outcome in outcomes
        if outcome.manifest is not None
    ]
    comparison = conclude(done, choices, analysis, config, out) if done else None
    if as_json:
        typer.echo(json.dumps(_as_json(outcomes, comparison, out / PAGE_NAME)))
    elif comparison is not None:
        console.print(comparison.verdict, markup=False, highlight=False, soft_wrap=True)
        for name in (PAGE_NAME, JSON_NAME):
            console.print(f"    {out / name}", markup=False, highlight=False, soft_wrap=True)
    return EXIT_INPUT if len(done) < len(outcomes) else 0


def _as_json(outcomes: Sequence[ItemOutcome], comparison: Comparison | None, page: Path) -> dict[str, object]:
    failed = [
        {"input": str(outcome.job.source), "error": outcome.error} for outcome in outcomes if outcome.manifest is None
    ]
    if comparison is None:
        return {"comparison": None, "failed": failed}
    return {
        "comparison": comparison.model_dump(mode="json", exclude={"lines", "config", "versions"}),
        "page": str(page),
        "failed": failed,
    }
