"""Sentences about a finished dub for people: what was doubtful, where, and which option settles it."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.flags import Flag
from cluster.manifest import InputRecord, Manifest, SpanRecord
from cluster.report.timeline import clock

MAX_SPANS = 5


def remarks(manifest: Manifest) -> list[str]:
    """One sentence for each doubt about how the input was heard; none for a dub without doubts."""
    source, flags = manifest.input, manifest.flags
    found = []
    if Flag.LANGUAGE_UNCERTAIN in flags:
        found.append(f"taken to be in {source.language}, though it sounds like {_guesses(source)}; {_SETTLE}")
    if Flag.LANGUAGE_CONTRADICTED in flags:
        found.append(f"taken to be in {source.language}, but it sounds like {_guesses(source)}; {_SETTLE}")
    if Flag.TRACK_TAG_CONTRADICTED in flags:
        track = source.audio_track
        found.append(
            f"audio track {track.number} is tagged {track.language}, but it sounds like {_guesses(source)}; "
            "--audio-track N takes another"
        )
    if source.not_transcribed:
        total_s = sum(span.end_s - span.start_s for span in source.not_transcribed)
        found.append(
            f"{total_s:.1f} s of speech without words keep their original sound, at {_times(source.not_transcribed)}; "
            "listen there"
        )
    lines = [line for dub in manifest.dubs for line in dub.utterances]
    for flag, why in _LEFT.items():
        num = sum(flag in line.flags for line in lines)
        if num:
            found.append(f"{num} {'line keeps its' if num == 1 else 'lines keep their'} original sound: {why}")
    return found


def lines_to_look_at(manifest: Manifest) -> str | None:
    """The number of lines that a person should look at, of all; None if there is none."""
    lines = [line for dub in manifest.dubs for line in dub.utterances]
    num = sum(line.needs_look for line in lines)
    return f"{num} of {len(lines)} {'line' if len(lines) == 1 else 'lines'} to look at" if num else None


_SETTLE = "--from settles it"
_LEFT = {
    Flag.ALREADY_IN_TARGET: "spoken in the target language already",
    Flag.NOISE: "an interjection or a noise",
    Flag.LANGUAGE_UNSUPPORTED: "the translation engine does not know their language",
}


def _guesses(source: InputRecord) -> str:
    return ", ".join(
        f"{guess.language} ({guess.probability:.2f})" for guess in source.language_guesses if guess.probability >= 0.005
    )


def _times(spans: Sequence[SpanRecord]) -> str:
    times = [f"{clock(span.start_s, 1)}–{clock(span.end_s, 1)}" for span in spans[:MAX_SPANS]]
    return ", ".join(times) + (f" and {len(spans) - MAX_SPANS} more" if len(spans) > MAX_SPANS else "")
