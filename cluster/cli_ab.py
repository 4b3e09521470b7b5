"""``raydub ab``: two ways to dub, compared on the same speech."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from actors import languages
from actors.errors import ConfigError
from cluster import logs
from cluster.ab import JSON_NAME, PAGE_NAME, Analysis, DubbedTwice, conclude
from cluster.ab_arms import ArmChoice, choose_arm
from cluster.ab_result import Comparison
from cluster.ab_scores import PRIMARY
from cluster.ab_statistics import MIN_RESAMPLES
from cluster.cli_options import (
    EXIT_INPUT,
    EXIT_INTERRUPTED,
    AsJson,
    AudioTrack,
    ConfigName,
    From,
    Inputs,
    Level,
    LogLevel,
    ProfileName,
    Set,
    until_terminated,
)
from cluster.config import Config, load_config
from cluster.console import make_display
from cluster.items import check_outputs, folder_name
from cluster.pipeline import Job
from cluster.pools import check_languages, ray_session
from cluster.quality import Metric
from cluster.runner import Outcome, run
from cluster.store import NONE

ARM_HELP = "a strategy (hybrid), profile=NAME, settings (K=V, by commas or repeated), or a YAML file."

ArmA = Annotated[list[str], typer.Option("--a", metavar="ARM", help=f"One way to dub: {ARM_HELP}")]
ArmB = Annotated[list[str], typer.Option("--b", metavar="ARM", help="The other way, likewise.")]
Target = Annotated[str, typer.Option("--to", help="Target language, BCP-47: one.")]
Primary = Annotated[Metric, typer.Option("--metric", help="Decides; the others are reported beside it.")]
Resamples = Annotated[int, typer.Option("--resamples", min=MIN_RESAMPLES, help="Of the bootstrap.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")]
Subtitles = Annotated[
    str | None,
    typer.Option("--subtitles", metavar="SUFFIX", help="srt, vtt, ass: what is said, beside each input."),
]
EmbedMb = Annotated[float, typer.Option("--embed-mb", min=0, help="Sound in the page, at most.")]


def ab(
    inputs: Inputs,
    a: ArmA,
    b: ArmB,
    to: Target,
    metric: Primary = PRIMARY,
    source: From = None,
    config: ConfigName = "offline",
    profile: ProfileName = None,
    assignments: Set = None,
    out: Annotated[Path, typer.Option("--out", help="Folder: ab.html, ab.json, one per input.")] = Path("ab"),
    audio_track: AudioTrack = None,
    subtitles: Subtitles = None,
    seed: Seed = 0,
    num_resamples: Resamples = 10_000,
    embed_mb: EmbedMb = 12.0,
    as_json: AsJson = False,
    log_level: Level = LogLevel.WARNING,
) -> None:
    """Compare two ways to dub: each input is heard once, dubbed by both, and scored."""
    logs.set_up(logging.getLevelNamesMapping()[log_level.upper()])
    both = [*(assignments or ()), "quality.check=all"]
    if load_config(config, both, profile).store.resolved_url() == NONE:
        both.append("store.url=memory://ab")  # what both arms ask for is computed once
    settings = load_config(config, both, profile)
    choices = choose_arm("a", a, config, both, profile), choose_arm("b", b, config, both, profile)
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
    analysis = Analysis(
        primary=metric, seed=seed, num_resamples=num_resamples, max_embed_bytes=round(embed_mb * 1_000_000)
    )
    raise typer.Exit(_run(jobs, settings, choices, analysis, out, as_json))


def _run(
    jobs: Sequence[Job],
    config: Config,
    choices: tuple[ArmChoice, ArmChoice],
    analysis: Analysis,
    out: Path,
    as_json: bool,
) -> int:
    console = Console(stderr=as_json)
    try:
        with ray_session(*(choice.arm.config for choice in choices)), make_display(console) as display:
            outcomes = asyncio.run(until_terminated(run(jobs, config, display.show, display.finish)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted: finished videos stand, nothing was compared", highlight=False)
        return EXIT_INTERRUPTED
    done = [
        DubbedTwice(source=outcome.job.source, out=outcome.job.out, manifest=outcome.manifest)
        for outcome in outcomes
        if outcome.manifest is not None
    ]
    comparison = conclude(done, choices, analysis, config, out) if done else None
    if as_json:
        typer.echo(json.dumps(_as_json(outcomes, comparison, out)))
    elif comparison is not None:
        console.print(comparison.verdict, markup=False, highlight=False, soft_wrap=True)
        for name in (PAGE_NAME, JSON_NAME):
            console.print(f"    {out / name}", markup=False, highlight=False, soft_wrap=True)
    return EXIT_INPUT if len(done) < len(outcomes) else 0


def _as_json(outcomes: Sequence[Outcome], comparison: Comparison | None, out: Path) -> dict[str, object]:
    failed = [
        {"input": str(outcome.job.source), "error": outcome.error} for outcome in outcomes if outcome.manifest is None
    ]
    if comparison is None:
        return {"comparison": None, "failed": failed}
    return {
        "comparison": comparison.model_dump(mode="json", exclude={"lines", "config", "versions"}),
        "page": str(out / PAGE_NAME),
        "failed": failed,
    }
