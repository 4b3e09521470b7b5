"""Reads given subtitles (SubRip, WebVTT, ASS and SSA): repairs them, and reduces them to spoken text.

A cue that cannot be used as it stands is repaired or left out, and named in the result; it is never an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from actors.errors import MediaError
from cluster.subtitles.blocks import SIGNATURE, subrip_cues, webvtt_cues
from cluster.subtitles.config import SubtitleConfig
from cluster.subtitles.cues import CueIssue, IssueKind, ShownCue, SpokenCue, SubtitleFile
from cluster.subtitles.encoding import DecodedText, decode
from cluster.subtitles.repair import repaired
from cluster.subtitles.rolling import without_repeats
from cluster.subtitles.speech import CueSpeech, names_of, speech_of
from cluster.subtitles.substation import substation_cues
from cluster.subtitles.timecodes import clock, looks_like_times

FORMATS = {"srt": "SubRip", "vtt": "WebVTT", "ass": "ASS", "ssa": "SSA"}


def read_subtitles(path: Path, media_end_s: float, config: SubtitleConfig, language: str | None) -> SubtitleFile:
    """The file's cues in order of start. Raises MediaError for a file of which nothing can be used.

    ``language`` is that of the text, where it is known: it tells which encodings are likely.
    """
    decoded = decode(path, _read(path, config), language, config.encoding)
    text = decoded.text.replace("\r\n", "\n").replace("\r", "\n")
    form = _form(path, text)
    shown, issues = _shown(text, form)
    # Those that cannot be read count as well: each is named in the manifest.
    num_cues = len(shown) + len(issues)
    if num_cues > config.max_read_cues:
        raise MediaError(
            f"subtitles must hold at most {config.max_read_cues} cues (subtitles.max_read_cues); "
            f"{path} has {num_cues}; raise the limit or give another file"
        )
    if form in ("srt", "vtt"):
        shown, repeats = without_repeats(shown)
        issues += repeats
    spoken = _spoken(shown, issues)
    cues, repairs = repaired(spoken, media_end_s)
    issues += repairs
    if not cues:
        raise MediaError(_nothing_left(path, form, spoken, media_end_s))
    return _subtitle_file(path, form, decoded, cues, issues)


def _subtitle_file(
    path: Path, form: str, decoded: DecodedText, cues: Sequence[SpokenCue], issues: Sequence[CueIssue]
) -> SubtitleFile:
    return SubtitleFile(
        name=path.name.encode("utf-8", "replace").decode(),
        form=FORMATS[form],
        encoding=decoded.encoding,
        is_encoding_doubtful=decoded.is_doubtful,
        cues=tuple(cues),
        issues=tuple(sorted(issues, key=lambda issue: -1.0 if issue.start_s is None else issue.start_s)),
    )


def _nothing_left(path: Path, form: str, spoken: Sequence[SpokenCue], media_end_s: float) -> str:
    if spoken:
        first_s = min(cue.start_s for cue in spoken)
        return (
            f"cues must lie inside the media, which ends at {clock(media_end_s)}; the first of {path} begins at "
            f"{clock(first_s)}; are these the subtitles of another cut?"
        )
    return f"subtitles must hold a line that is said; {path} ({FORMATS[form]}) has none; give another file"


def _read(path: Path, config: SubtitleConfig) -> bytes:
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
    return data


def _form(path: Path, text: str) -> str:
    """The format by the content, or by the name if that does not tell. Raises MediaError if it is none of them."""
    if SIGNATURE.match(text):
        return "vtt"
    if "[V4+ Styles]" in text or "[Events]" in text:
        return "ass"
    if "[V4 Styles]" in text:
        return "ssa"
    if (times := next((line for line in text.split("\n") if looks_like_times(line, "srt")), None)) is not None:
        # Only SubRip has commas in its times; as such it is read under any name.
        return "vtt" if path.suffix.lower() == ".vtt" and "," not in times else "srt"
    raise MediaError(
        f"subtitles must be SubRip, WebVTT, ASS or SSA text; {path} is none of them or has no cue; convert it first"
    )


def _shown(text: str, form: str) -> tuple[list[ShownCue], list[CueIssue]]:
    """The cues in order of start, and what could not be read."""
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    read = {"vtt": webvtt_cues, "srt": subrip_cues}.get(form, substation_cues)
    cues: list[ShownCue] = []
    issues: list[CueIssue] = []
    for each in read(text):
        if isinstance(each, CueIssue):
            issues.append(each)
        else:
            cues.append(each)
    return sorted(cues, key=lambda cue: cue.start_s), issues


def _spoken(shown: Sequence[ShownCue], issues: list[CueIssue]) -> list[SpokenCue]:
    """The words of every cue, a cue for each of its speakers."""
    names = names_of(shown)
    cues = []
    for cue in shown:
        speech = speech_of(cue, names)
        _name_unspoken(cue, speech, issues)
        total = sum(len(part.text) for part in speech.words)
        done = 0
        for part in speech.words:
            length_s = cue.end_s - cue.start_s
            begin_s = round(cue.start_s + length_s * done / total, 3)
            done += len(part.text)
            end_s = round(cue.start_s + length_s * done / total, 3)
            cues.append(
                SpokenCue(start_s=begin_s, end_s=end_s, text=part.text, speaker=part.speaker, is_retimed=cue.is_odd)
            )
    return cues


def _name_unspoken(cue: ShownCue, speech: CueSpeech, issues: list[CueIssue]) -> None:
    by_kind = {IssueKind.SOUND: speech.sounds, IssueKind.SONG: speech.songs, IssueKind.LABEL: speech.labels}
    issues += [CueIssue.of(kind, cue.start_s, text) for kind, texts in by_kind.items() for text in texts]
