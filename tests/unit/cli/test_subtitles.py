"""What the command line asks of subtitles before anything is loaded."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from actors.errors import ConfigError
from cluster.cli.main import app


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.mp4", "--to", "pt", "--subtitles", "en.srt"], "add --from"),
        (["a.mp4", "b.mp4", "--from", "en", "--to", "pt", "--subtitles", "en.srt"], "must belong to one input"),
        (["a.mp4", "--to", "pt", "--target-subtitles", "pt.srt"], "must look like pt=talk.pt.srt"),
        (["a.mp4", "--to", "pt", "--target-subtitles", "en=en.srt"], "add it to --to"),
        (
            ["a.mp4", "--from", "en", "--to", "pt", "--subtitles", "en.srt", "--subtitles-encoding", "klingon"],
            "must be a text encoding that Python knows",
        ),
        # Bergamot has no such pair: only with the target's subtitles is it not needed, and then Kokoro must speak it.
        (["a.mp4", "--from", "de", "--to", "pt"], "translation engine bergamot"),
        (["a.mp4", "--from", "de", "--to", "nl", "--target-subtitles", "nl=nl.srt"], "speech.by_language"),
    ],
)
def test_refused_with_what_to_do(arguments: list[str], says: str) -> None:
    caught = CliRunner().invoke(app, ["dub", *arguments]).exception
    assert isinstance(caught, ConfigError)
    assert says in caught.message
