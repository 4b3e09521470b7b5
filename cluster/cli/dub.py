"""``raydub dub`` and ``raydub demo``."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.errors import ConfigError
from cluster import logs
from cluster.cli.options import (
    EXIT_INPUT,
    EXIT_VERDICT,
    AsJson,
    AudioTrack,
    ConfigName,
    Format,
    From,
    Level,
    LogLevel,
    ProfileName,
    Set,
    Strict,
    TracePath,
    with_strict,
    with_trace,
)

if TYPE_CHECKING:
    from cluster.batch.runner import ItemOutcome
    from cluster.config.schema import Config
    from cluster.manifest import Manifest
    from cluster.pipeline import Job

Inputs = Annotated[
    list[str] | None,
    typer.Argument(help="Video or audio: files, folders, patterns, s3://, gs://, https://.", metavar="INPUT..."),
]
To = Annotated[
    str | None, typer.Option("--to", help="Target languages, BCP-47 (pt, en, pt-BR); separate several by commas.")
]
Out = Annotated[str, typer.Option("--out", help="Folder or bucket; each input gets its own folder in it.")]
Subtitles = Annotated[
    str | None,
    typer.Option("--subtitles", help="Subtitles of the source (SRT, VTT, ASS), used as its transcript; needs --from."),
]
TargetSubtitles = Annotated[
    list[str] | None,
    typer.Option(
        "--target-subtitles", metavar="LANG=FILE", help="Subtitles of a target, spoken with their words and times."
    ),
]
SubtitlesEncoding = Annotated[
    str | None,
    typer.Option("--subtitles-encoding", help="Encoding of given subtitles (cp1251, big5); found out if not given."),
]
Speakers = Annotated[
    str | None,
    typer.Option(
        "--speakers", metavar="N|auto|FILE", help="Number of speakers, auto (the default), or an RTTM file of turns."
    ),
]
Voices = Annotated[
    list[str] | None,
    typer.Option(
        "--voice",
        metavar="[LANG=|S1=]VOICE",
        help="Voice of all, a language or a speaker; see raydub voices list.",
    ),
]
LexiconFile = Annotated[
    Path | None,
    typer.Option("--lexicon", metavar="FILE", help="Pronunciations by language, YAML: {pt: {GIF: jif}}; or IPA."),
]
CastFile = Annotated[
    str | None,
    typer.Option(
        "--cast", metavar="FILE", help="JSON file that keeps the voices of a series' speakers; made if missing."
    ),
]
FromManifest = Annotated[
    Path | None,
    typer.Option("--from-manifest", metavar="FILE", help="Dub again from a dub's manifest, which may be edited."),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="UTTERANCE", help="With --from-manifest: synthesise this one again, as pt:u0012."),
]

SET_BY_MANIFEST = frozenset(
    {
        "to", "source", "config", "profile", "audio_track", "speakers", "subtitles", "target_subtitles",
        "subtitles_encoding", "voices", "lexicon", "cast",
    }
)  # fmt: skip
"""Parameters that a dub from a manifest must not be given."""


def dub(
    context: typer.Context,
    inputs: Inputs = None,
    to: To = None,
    source: From = None,
    config: ConfigName = "offline",
    profile: ProfileName = None,
    assignments: Set = None,
    out: Out = "out",
    audio_track: AudioTrack = None,
    subtitles: Subtitles = None,
    target_subtitles: TargetSubtitles = None,
    subtitles_encoding: SubtitlesEncoding = None,
    speakers: Speakers = None,
    voices: Voices = None,
    lexicon: LexiconFile = None,
    cast: CastFile = None,
    from_manifest: FromManifest = None,
    only: Only = None,
    strict: Strict = False,
    trace: TracePath = None,
    as_json: AsJson = False,
    log_level: Level = LogLevel.WARNING,
    log_format: Format = None,
) -> None:
    """Dub video or audio files into other languages."""
    from actors import languages
    from cluster.casting.cast import speaker_voices
    from cluster.casting.voices import chosen_voices
    from cluster.config.load import load_config

    logs.set_up(logging.getLevelNamesMapping()[log_level.upper()], log_format)
    assignments = with_trace(with_strict(assignments, strict), trace)
    if from_manifest is not None:
        job, settings = _redub_job(context, from_manifest, inputs or (), out, only or (), assignments)
        raise typer.Exit(_run([job], settings, as_json))
    inputs, to = _given(inputs, to, only)
    own, by_language = speaker_voices(voices or ())
    settings = load_config(config, [*assignments, *own, *_file_settings(subtitles_encoding, lexicon, cast)], profile)
    targets = tuple(languages.normalise(tag.strip()) for tag in to.split(","))
    options = {
        "to": targets,
        "source_language": None if source is None else languages.normalise(source),
        "audio_track": audio_track,
        "subtitles": subtitles,
        "speakers": speakers,
        "target_subtitles": target_subtitles or (),
        "voices": chosen_voices(settings, targets, by_language),
    }
    raise typer.Exit(_run(_jobs(inputs, out, settings, options), settings, as_json))


def _file_settings(subtitles_encoding: str | None, lexicon: Path | None, cast: str | None) -> list[str]:
    """The settings of files that are brought along; manifests record a lexicon itself. Raises ConfigError."""
    from cluster.config.load import read_tree

    settings = [] if subtitles_encoding is None else [f"subtitles.encoding={subtitles_encoding}"]
    if cast is not None:
        settings += ["speakers.required=true", f"speakers.cast={json.dumps(cast)}"]
    if lexicon is not None:
        settings.append(f"speech.lexicon={json.dumps(read_tree(lexicon), default=str)}")
    return settings


def _given(inputs: list[str] | None, to: str | None, only: list[str] | None) -> tuple[list[str], str]:
    """Inputs and targets of a dub that is not made from a manifest. Raises ConfigError if they are not as needed."""
    if only:
        raise ConfigError("--only must come with the manifest of a dub; add --from-manifest out/talk/manifest.json")
    if not inputs or to is None:
        raise ConfigError("dub must be given inputs, and --to with their target languages; see raydub dub --help")
    return inputs, to


def _check_alone(
    sources: Sequence[str], target_subtitles: Sequence[str], subtitles: str | None, speakers: str | None
) -> Mapping[str, str]:
    """Target → its subtitles. Raises ConfigError if files that belong to one input are given for several."""
    from cluster.speakers.config import RTTM_SUFFIX

    own = _by_language("--target-subtitles", target_subtitles)
    has_turns = speakers is not None and speakers.endswith(RTTM_SUFFIX)
    if len(sources) > 1 and (own or subtitles is not None or has_turns):
        kind = "a file with turns" if has_turns else "subtitles"
        raise ConfigError(f"{kind} must belong to one input; found {len(sources)}; dub them one by one")
    return own


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the talk and its dub.")] = Path("out"),
    duration_s: Annotated[float, typer.Option("--duration", min=10, help="Length of the talk in seconds.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Make a short English talk and dub it into Portuguese, with models that come as packages."""
    from rich.console import Console

    from cluster.config.load import load_config
    from cluster.demo.talk import make_talk
    from cluster.pipeline import Job

    logs.set_up(logging.WARNING)
    talk = out / "demo_talk.mp4"
    console = Console(stderr=True)
    console.print(f"making a talk of {duration_s:.0f} s …", highlight=False)
    make_talk(talk, duration_s)
    console.print(f"{talk}", highlight=False, soft_wrap=True)
    job = Job(source=talk, targets=("pt",), source_language="en", audio_track=None, out=out / talk.stem)
    raise typer.Exit(_run([job], load_config("offline"), as_json))


def _jobs(inputs: Sequence[str], out: str, settings: Config, options: dict[str, Any]) -> list[Job]:
    """A job for each input. It imports Ray, so the options are checked before as far as they can be."""
    _check_cast(settings, options["speakers"])
    from cluster.media import sandbox

    sandbox.start()  # beside the imports below

    from cluster.batch.items import Item, jobs_of
    from cluster.storage import locations

    sources = locations.expand(inputs)
    own = _check_alone(sources, options["target_subtitles"], options["subtitles"], options["speakers"])
    options = {**options, "target_subtitles": own}
    return jobs_of([Item(source=location, **options) for location in sources], out, settings)


def _check_cast(settings: Config, speakers: str | None) -> None:
    """Raise ConfigError if ``--speakers`` is no choice, or a speaker's voice does not exist."""
    from cluster.casting.cast import check_cast
    from cluster.config.load import overlaid
    from cluster.speakers.config import speaker_settings

    check_cast(overlaid(settings, {} if speakers is None else {"speakers": speaker_settings(speakers)}))


def _redub_job(
    context: typer.Context,
    manifest: Path,
    inputs: Sequence[str],
    out: str,
    only: Sequence[str],
    assignments: Sequence[str],
) -> tuple[Job, Config]:
    from cluster.batch.folders import check_outputs
    from cluster.batch.items import folder_name
    from cluster.batch.redub import redub_job
    from cluster.storage import locations

    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, origin in sources.items() if origin is not None and origin.name == "COMMANDLINE"}
    refused = sorted(given & SET_BY_MANIFEST)
    if refused or len(inputs) > 1:
        found = ", ".join(refused) or f"{len(inputs)} inputs"
        raise ConfigError(
            f"--from-manifest must come without options that the manifest sets; found {found}; use --set, or edit it"
        )
    if locations.is_url(out) or any(map(locations.is_url, inputs)):
        raise ConfigError("--from-manifest must name files on this machine; found a URL; download them first")
    moved = Path(inputs[0]) if inputs else None
    new_out = Path(out) / folder_name(moved or manifest.absolute().parent) if "out" in given else None
    job, config = redub_job(manifest, source=moved, out=new_out, only=only, assignments=assignments)
    check_outputs([job])
    return job, config


def _by_language(option: str, assignments: Sequence[str]) -> dict[str, str]:
    """Read each LANG=VALUE."""
    from actors import languages

    found = {}
    for assignment in assignments:
        tag, separator, value = assignment.partition("=")
        if not separator or not value:
            raise ConfigError(f"{option} must look like pt=talk.pt.srt; found {assignment!r}")
        found[languages.normalise(tag.strip())] = value
    return found


def _run(jobs: Sequence[Job], config: Config, as_json: bool) -> int:
    from cluster.cli.display import SteadyConsole
    from cluster.cli.session import dub_jobs
    from cluster.storage import locations

    console = SteadyConsole(stderr=as_json)
    outcomes = dub_jobs(jobs, config, console)
    [first, *others] = outcomes
    if not others and first.manifest is not None and not as_json and not locations.is_url(first.job.out_location):
        for file in sorted(first.job.out.iterdir()):
            console.print(f"    {file.name}", markup=False, highlight=False)
    if as_json:
        typer.echo(json.dumps({"results": [_as_json(outcome) for outcome in outcomes]}))
    return exit_status([outcome.manifest for outcome in outcomes], config)


def exit_status(manifests: Sequence[Manifest | None], config: Config) -> int:
    """The status of the command: 1 if an input failed, 3 if the run is strict and a verdict is failed."""
    if None in manifests:
        return EXIT_INPUT
    verdicts = [manifest.verdict for manifest in manifests if manifest is not None]
    has_failed = any(verdict is not None and verdict.outcome == "failed" for verdict in verdicts)
    return EXIT_VERDICT if config.quality.strict and has_failed else 0


def _as_json(outcome: ItemOutcome) -> dict[str, object]:
    manifest = outcome.manifest
    return {
        "input": outcome.job.source_location,
        "out": outcome.job.out_location if manifest else None,
        "status": manifest.status if manifest else "failed",
        "flags": [flag.value for flag in manifest.flags] if manifest else [],
        "verdict": manifest.verdict.model_dump(mode="json") if manifest and manifest.verdict else None,
        "error": outcome.error,
        "timings": manifest.timings.model_dump(mode="json") if manifest else None,
    }
