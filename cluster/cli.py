"""The command ``raydub``.

Exit status: 0 all well; 1 some input failed, the others are done; 2 wrong usage or configuration;
130 interrupted.
"""

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
from cluster import cli_ab, cli_jobs, cli_models, cli_store, logs, places
from cluster.cli_options import (
    EXIT_INPUT,
    EXIT_INTERRUPTED,
    AsJson,
    AudioTrack,
    ConfigName,
    From,
    Level,
    LogLevel,
    ProfileName,
    Set,
    run_app,
    until_terminated,
)
from cluster.config import Config, dump_yaml, load_config
from cluster.console import make_display
from cluster.items import Item, check_outputs, folder_name, jobs_of
from cluster.pipeline import Job
from cluster.pools import ray_session
from cluster.redubbing import job_again
from cluster.runner import Outcome, run

app = typer.Typer(name="raydub", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
config_app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")
app.add_typer(config_app, name="config")
app.add_typer(cli_models.app, name="models")
app.add_typer(cli_store.app, name="store")
app.command("doctor")(cli_models.doctor)
app.command("ab")(cli_ab.ab)
app.command("submit")(cli_jobs.submit)
app.add_typer(cli_jobs.jobs_app, name="jobs")

SomeInputs = Annotated[
    list[str] | None,
    typer.Argument(help="Video or audio: files, folders, patterns, s3://, gs://, https://.", metavar="INPUT..."),
]
To = Annotated[str | None, typer.Option("--to", help="Target language, BCP-47 (pt, en, pt-BR); several by commas.")]
Out = Annotated[str, typer.Option("--out", help="Folder or bucket; each input gets a folder of its own in it.")]
Subtitles = Annotated[
    str | None,
    typer.Option("--subtitles", help="The source's, SRT, VTT or ASS: instead of listening; needs --from."),
]
TargetSubtitles = Annotated[
    list[str] | None,
    typer.Option("--target-subtitles", metavar="LANG=FILE", help="A target's: spoken as they are cut and timed."),
]
FromManifest = Annotated[
    Path | None,
    typer.Option("--from-manifest", metavar="FILE", help="A dub's manifest, perhaps edited: dub again as it says."),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="UTTERANCE", help="With --from-manifest: speak this one afresh, as pt:u0012."),
]


@app.command()
def dub(
    context: typer.Context,
    inputs: SomeInputs = None,
    to: To = None,
    source: From = None,
    config: ConfigName = "offline",
    profile: ProfileName = None,
    assignments: Set = None,
    out: Out = "out",
    audio_track: AudioTrack = None,
    subtitles: Subtitles = None,
    target_subtitles: TargetSubtitles = None,
    from_manifest: FromManifest = None,
    only: Only = None,
    as_json: AsJson = False,
    log_level: Level = LogLevel.WARNING,
) -> None:
    """Dub videos or audio files into other languages."""
    logs.set_up(logging.getLevelNamesMapping()[log_level.upper()])
    if from_manifest is not None:
        job, settings = _job_again(context, from_manifest, inputs or (), out, only or (), assignments or ())
        check_outputs([job])
        raise typer.Exit(_run([job], settings, as_json))
    if only:
        raise ConfigError("--only must say of which dub; add --from-manifest out/talk/manifest.json")
    if not inputs or to is None:
        raise ConfigError("dub must be told which inputs, and --to which language; see raydub dub --help")
    settings = load_config(config, assignments or (), profile)
    sources = places.expand(inputs)
    own = _by_language("--target-subtitles", target_subtitles or ())
    if len(sources) > 1 and (own or subtitles is not None):
        raise ConfigError(f"subtitles must belong to one input; found {len(sources)}; dub them one by one")
    targets = tuple(dict.fromkeys(languages.normalise(tag.strip()) for tag in to.split(",")))
    items = [
        Item(
            source=place,
            to=targets,
            source_language=None if source is None else languages.normalise(source),
            audio_track=audio_track,
            subtitles=subtitles,
            target_subtitles=own,
        )
        for place in sources
    ]
    jobs = jobs_of(items, out, settings)
    raise typer.Exit(_run(jobs, settings, as_json))


@app.command()
def demo(
    out: Path = Path("out"),
    duration_s: Annotated[float, typer.Option("--duration", min=10, help="Length of the talk in seconds.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Make a short English talk and dub it into Portuguese with the models that come as packages."""
    from cluster.demo import make_talk

    logs.set_up(logging.WARNING)
    talk = out / "demo_talk.mp4"
    console = Console(stderr=True)
    console.print(f"making a talk of {duration_s:.0f} s …", highlight=False)
    make_talk(talk, duration_s)
    console.print(f"{talk}", highlight=False, soft_wrap=True)
    job = Job(source=talk, targets=("pt",), source_language="en", audio_track=None, out=out / talk.stem)
    raise typer.Exit(_run([job], load_config("offline"), as_json))


@config_app.command("show")
def show_config(config: ConfigName = "offline", profile: ProfileName = None, assignments: Set = None) -> None:
    """Print the resolved configuration as YAML."""
    typer.echo(dump_yaml(load_config(config, assignments or (), profile)), nl=False)


def _job_again(
    context: typer.Context,
    manifest: Path,
    inputs: Sequence[str],
    out: str,
    only: Sequence[str],
    assignments: Sequence[str],
) -> tuple[Job, Config]:
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, origin in sources.items() if origin is not None and origin.name == "COMMANDLINE"}
    said = sorted(given & {"to", "source", "config", "profile", "audio_track", "subtitles", "target_subtitles"})
    if said or len(inputs) > 1:
        found = ", ".join(said) or f"{len(inputs)} inputs"
        raise ConfigError(f"--from-manifest must go without what a manifest says; found {found}; use --set, or edit it")
    if places.is_url(out) or any(map(places.is_url, inputs)):
        raise ConfigError("--from-manifest must be of files on this machine; found a URL; bring them here first")
    moved = Path(inputs[0]) if inputs else None
    # Elsewhere, if that is said; else where the manifest lies.
    elsewhere = Path(out) / folder_name(moved or manifest.absolute().parent) if "out" in given else None
    return job_again(manifest, source=moved, out=elsewhere, only=only, assignments=assignments)


def _by_language(option: str, assignments: Sequence[str]) -> dict[str, str]:
    """From LANG=VALUE."""
    found = {}
    for assignment in assignments:
        tag, separator, value = assignment.partition("=")
        if not separator or not value:
            raise ConfigError(f"{option} must look like pt=talk.pt.srt; found {assignment!r}")
        found[languages.normalise(tag.strip())] = value
    return found


def _run(jobs: Sequence[Job], config: Config, as_json: bool) -> int:
    console = Console(stderr=as_json)
    try:
        with ray_session(config), make_display(console) as display:
            outcomes = asyncio.run(until_terminated(run(jobs, config, display.show, display.finish)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted: finished videos stand, nothing half-done was left", highlight=False)
        return EXIT_INTERRUPTED
    for outcome in outcomes:
        if outcome.manifest is not None and not as_json and not places.is_url(outcome.job.out_place):
            for file in sorted(outcome.job.out.iterdir()):
                console.print(f"    {file.name}", markup=False, highlight=False)
    if as_json:
        typer.echo(json.dumps({"results": [_as_json(outcome) for outcome in outcomes]}))
    return EXIT_INPUT if any(outcome.manifest is None for outcome in outcomes) else 0


def _as_json(outcome: Outcome) -> dict[str, object]:
    manifest = outcome.manifest
    return {
        "input": outcome.job.source_place,
        "out": outcome.job.out_place if manifest else None,
        "status": manifest.status if manifest else "failed",
        "flags": [flag.value for flag in manifest.flags] if manifest else [],
        "error": outcome.error,
        "timings": manifest.timings.model_dump(mode="json") if manifest else None,
    }


def main() -> None:
    run_app(app)


if __name__ == "__main__":
    main()
