"""``raydub voices``: the voices that can speak, and how they sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import AsJson, ConfigName, ProfileName, Set

app = typer.Typer(no_args_is_help=True, help="List voices, and hear them.")


@app.command("list")
def list_voices(
    language: Annotated[str | None, typer.Option("--language", help="Only voices for this language, BCP-47.")] = None,
    config: ConfigName = "offline",
    profile: ProfileName = None,
    assignments: Set = None,
    as_json: AsJson = False,
) -> None:
    """List the voices of a configuration. The first for a language is its default."""
    from actors import languages
    from cluster.casting.voices import all_voices, voices_for
    from cluster.cli.tables import plain_table, wide_console
    from cluster.config.load import load_config

    settings = load_config(config, assignments or (), profile)
    found = all_voices(settings) if language is None else voices_for(settings, languages.normalise(language))
    if as_json:
        fields = ("id", "engine", "languages", "gender", "pitch_hz", "licence")
        typer.echo(json.dumps({"voices": [{name: getattr(voice, name) for name in fields} for voice in found]}))
        return
    table = plain_table("voice", "languages", "gender", "pitch", "engine", "licence")
    for voice in found:
        pitch = "" if voice.pitch_hz is None else f"{voice.pitch_hz:.0f} Hz"
        table.add_row(voice.id, ", ".join(voice.languages), voice.gender or "", pitch, voice.engine, voice.licence)
    wide_console().print(table)


@app.command("preview")
def preview_voice(
    voice: Annotated[str, typer.Argument(metavar="VOICE", help="Name of a voice, as raydub voices list shows it.")],
    text: Annotated[str | None, typer.Option("--text", help="Text to speak, in the voice's language.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; VOICE.wav if not given.")] = None,
    config: ConfigName = "offline",
    profile: ProfileName = None,
    assignments: Set = None,
) -> None:
    """Write a sample of a voice to a WAV file, and print its name."""
    from cluster.casting import preview
    from cluster.casting.voices import named_voice
    from cluster.config.load import load_config

    found = named_voice(load_config(config, assignments or (), profile), voice)
    path = out or Path(f"{found.id}.wav")
    preview.write_wav(preview.speak(found, text), path)
    typer.echo(path)
