"""Subtitles that somebody brings: SubRip, WebVTT, ASS and SSA, read, checked and stripped to what is said.

``pysubs2`` reads the times and the markup. What it does not know of is prepared for it: WebVTT's notes,
styles and cue names, which it would take for text, and voice tags, which it would drop.
"""

from __future__ import annotations

import codecs
import dataclasses
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pysubs2

from actors.errors import MediaError
from cluster.subtitles import SubtitleConfig

ABUTTING_S = 0.1
"""Cues that overlap by no more are taken to touch; the earlier ends where the later begins."""

FORMATS = {"srt": "SubRip", "vtt": "WebVTT", "ass": "ASS", "ssa": "SSA"}
BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
TIMING = re.compile(r"^\s*[\d:.,]+\s*-->\s*[\d:.,]+", re.MULTILINE)
VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
VTT_TAG = re.compile(r"<[^>]*>")
SRT_TAG = re.compile(r"</?[a-zA-Z][^>]*>")
ASS_TAG = re.compile(r"\{[^}]*\}")
# A dash before each speaker of a two-speaker cue.
DASH = re.compile(r"^\s*[-–—]\s*")
# Nothing that is said: [door slams], (laughs), ♪ music ♪
SOUND = re.compile(r"\[[^\]]*\]|\([^)]*\)|[♪♫#]+[^♪♫#]*[♪♫#]+|[♪♫]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenCue:
    """What one person says over ``[start_s, end_s)`` of the media timeline."""

    start_s: float
    end_s: float
    text: str
    """One line, no markup, never empty."""
    speaker: str | None
    """From an ASS name or a WebVTT voice tag."""


def read_cues(path: Path, media_end_s: float, config: SubtitleConfig) -> tuple[SpokenCue, ...]:
    """Cues in order of start. Raises MediaError if the file does not fit what it is meant for."""
    text, form = _read(path, config)
    cues = sorted(_parse(path, text, form), key=lambda cue: (cue.start_s, cue.end_s))
    if not cues:
        raise MediaError(
            f"subtitles must hold a line that is said; {path} ({FORMATS[form]}) has none; give another file"
        )
    if len(cues) > config.max_read_cues:
        raise MediaError(
            f"subtitles must hold at most {config.max_read_cues} cues (subtitles.max_read_cues); "
            f"{path} has {len(cues)}; raise the limit or give another file"
        )
    for cue in cues:
        _check(path, cue, media_end_s)
    return _apart(path, cues, media_end_s)


def _read(path: Path, config: SubtitleConfig) -> tuple[str, str]:
    """The text and pysubs2's name of its format."""
    try:
        with path.open("rb") as file:
            data = file.read(config.max_read_bytes + 1)
    except OSError as error:
        raise MediaError(f"subtitles must be readable, {path}: {error.strerror or error}; check the path") from error
    if len(data) > config.max_read_bytes:
        raise MediaError(
            f"subtitles must be at most {config.max_read_bytes} bytes (subtitles.max_read_bytes); {path} is larger; "
            f"raise the limit or give another file"
        )
    text = _decode(data).replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    try:
        form = pysubs2.formats.autodetect_format(text)
    except pysubs2.FormatAutodetectionError:
        form = "none"
    if form not in FORMATS:
        raise MediaError(
            f"subtitles must be SubRip, WebVTT, ASS or SSA text; {path} is none of them or has no cue; convert it first"
        )
    return text, form


def _decode(data: bytes) -> str:
    for bom, encoding in BOMS.items():
        if data.startswith(bom):
            return data.decode(encoding, errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # The encoding of western files that are not UTF-8; it gives every byte a meaning or a mark.
        return data.decode("cp1252", errors="replace")


def _parse(path: Path, text: str, form: str) -> Iterator[SpokenCue]:
    try:
        if form == "vtt":
            text = _only_cues(text)
        if form in ("srt", "vtt"):
            # pysubs2 takes a number on a cue's last line for the next cue's: the last cue needs one behind it.
            subs = pysubs2.SSAFile.from_string(f"{text}\n\n0\n", format_=form, keep_html_tags=True)
        else:
            subs = pysubs2.SSAFile.from_string(text, format_=form)
    except Exception as error:  # whatever a parser of lines does on lines that are none
        raise MediaError(
            f"subtitles must be valid {FORMATS[form]}; {path}: {' '.join(str(error).split())}; mend the file"
        ) from error
    for event in subs:
        if event.is_comment or event.is_drawing:
            continue
        said = _said(event.text, form)
        if said:
            yield SpokenCue(
                start_s=event.start / 1000, end_s=event.end / 1000, text=said, speaker=_speaker(event, form)
            )


def _only_cues(text: str) -> str:
    """WebVTT without header, notes, styles and cue names; every cue followed by a number, as pysubs2 expects."""
    blocks = []
    for block in re.split(r"\n\s*\n", text):
        lines = block.split("\n")
        first = next((at for at, line in enumerate(lines) if TIMING.match(line)), None)
        if first is not None:
            blocks.append("\n".join(lines[first:]))
    return "WEBVTT\n\n" + "\n\n0\n".join(blocks)


def _said(text: str, form: str) -> str:
    text = ASS_TAG.sub("", text)
    text = {"vtt": VTT_TAG, "srt": SRT_TAG}[form].sub("", text) if form in ("srt", "vtt") else text
    text = html.unescape(text) if form == "vtt" else text
    lines = (DASH.sub("", line) for line in re.split(r"\\N|\\n|\n", text))
    return " ".join(SOUND.sub(" ", " ".join(lines)).replace(r"\h", " ").split())


def _speaker(event: pysubs2.SSAEvent, form: str) -> str | None:
    voice = VOICE.search(event.text) if form == "vtt" else None
    name = html.unescape(voice[1]) if voice else event.name
    return " ".join(name.split()) or None


def _check(path: Path, cue: SpokenCue, media_end_s: float) -> None:
    if cue.end_s <= cue.start_s or cue.start_s < 0:
        raise MediaError(f"a cue must end after it begins, and begin at 0 or later; {path} has {_named(cue)}; mend it")
    if cue.start_s >= media_end_s:
        raise MediaError(
            f"cues must lie inside the media, which ends at {_clock(media_end_s)}; {path} has {_named(cue)}; "
            f"are these the subtitles of another cut?"
        )


def _apart(path: Path, cues: Sequence[SpokenCue], media_end_s: float) -> tuple[SpokenCue, ...]:
    """The cues, each ending by the media's end and by the next cue of the same speaker."""
    following: dict[str | None, SpokenCue] = {}
    apart = []
    for cue in reversed(cues):
        later = following.get(cue.speaker)
        if later is not None and (cue.end_s - later.start_s > ABUTTING_S or later.start_s == cue.start_s):
            raise MediaError(
                f"cues of one speaker must not overlap by more than {ABUTTING_S} s; {path} has {_named(cue)} "
                f"and {_named(later)}; move one, or name their speakers"
            )
        end_s = min(cue.end_s, media_end_s, media_end_s if later is None else later.start_s)
        apart.append(dataclasses.replace(cue, end_s=end_s))
        following[cue.speaker] = cue
    return tuple(reversed(apart))


def _named(cue: SpokenCue) -> str:
    return f"{_clock(cue.start_s)} --> {_clock(cue.end_s)}"


def _clock(seconds: float) -> str:
    return pysubs2.time.ms_to_str(round(seconds * 1000), fractions=True)
