"""Tells the words of a cue from what is shown but not said: sounds, lyrics, names of speakers, dashes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from actors.spoken.noises import is_noise
from cluster.subtitles.cues import ShownCue, Turn

MIN_LABELS = 3
"""Lines that must begin with the same capitalised name and a colon, for it to be a speaker's."""

_DASH = re.compile(r"(?:[-\u2010-\u2015]+|(?:>>)+)(?=[^\d\s]|\s)\s*")
_NAME = r"[^\W_][\w.'\u2019&#/ -]{0,39}?"
_LABEL = re.compile(rf"[\[(]?(?P<name>{_NAME})[\])]?\s?(?::(?=\s|$)|\uff1a)\s*")
_NOTES = "\u2669-\u266c"
_SONG = re.compile(rf"[{_NOTES}]+[^{_NOTES}]*(?:[{_NOTES}]+|\Z)")
_BRACKETS = {"[": "]", "(": ")", "\u3010": "\u3011", "\uff08": "\uff09", "\uff3b": "\uff3d"}
_OPENING = re.compile("[" + re.escape("".join(_BRACKETS)) + "]")
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The speech in one speaker's part of a cue; empty text if there is none."""

    speaker: str | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CueSpeech:
    """The words of a cue, and what in it is not said."""

    words: tuple[Words, ...]
    sounds: tuple[str, ...]
    songs: tuple[str, ...]
    labels: tuple[str, ...]


def names_of(cues: Sequence[ShownCue]) -> frozenset[str]:
    """Capitalised names with a colon that begin lines again and again: speakers, and not an announcement."""
    counts = Counter(
        label["name"]
        for cue in cues
        for turn in cue.turns
        for line in turn.lines
        if (label := _LABEL.match(_undashed(line))) is not None and _may_be_name(label["name"])
    )
    return frozenset(name for name, count in counts.items() if count >= MIN_LABELS)


def speech_of(cue: ShownCue, names: frozenset[str]) -> CueSpeech:
    """The cue's words, a part for every speaker; ``names`` are labels besides those in capitals."""
    words: list[Words] = []
    sounds: list[str] = []
    songs: list[str] = []
    labels: list[str] = []
    for turn in cue.turns:
        for speaker, text in _parts(turn, names, labels):
            text = _without_songs(text, songs)
            text = " ".join(_without_brackets(text, sounds).split())
            if is_noise(text):
                sounds.append(text)
            elif _WORD.search(text) or any(character.isdigit() for character in text):
                words.append(Words(speaker=speaker, text=text))
    return CueSpeech(words=tuple(_joined(words)), sounds=tuple(sounds), songs=tuple(songs), labels=tuple(labels))


def _joined(words: Sequence[Words]) -> Iterator[Words]:
    """Neighbouring parts of one speaker as one."""
    pending: list[Words] = []
    for part in words:
        if pending and pending[0].speaker != part.speaker:
            yield Words(speaker=pending[0].speaker, text=" ".join(each.text for each in pending))
            pending = []
        pending.append(part)
    if pending:
        yield Words(speaker=pending[0].speaker, text=" ".join(each.text for each in pending))


def _parts(turn: Turn, names: frozenset[str], labels: list[str]) -> Iterator[tuple[str | None, str]]:
    """The turn's lines by the labels at their beginnings. A dash without a label begins another, unnamed speaker."""
    speaker, lines = turn.speaker, list[str]()
    for line in turn.lines:
        said = _undashed(line)
        label = _label(said, names)
        if label is not None or (said != line and lines):
            if lines:
                yield speaker, "\n".join(lines)
            lines = []
            speaker = turn.speaker if label is None else " ".join(label["name"].split())
        if label is not None:
            labels.append(label["name"])
            said = said[label.end() :]
        lines.append(said)
    yield speaker, "\n".join(lines)


def _undashed(line: str) -> str:
    dash = _DASH.match(line)
    return line if dash is None else line[dash.end() :]


def _label(line: str, names: frozenset[str]) -> re.Match[str] | None:
    label = _LABEL.match(line)
    if label is None:
        return None
    name = label["name"]
    letters = [character for character in name if character.isalpha()]
    is_capitals = len(letters) >= 2 and all(character.isupper() for character in letters)
    return label if is_capitals or name in names else None


def _may_be_name(name: str) -> bool:
    words = name.split()
    return len(words) <= 3 and all(not word[0].islower() for word in words) and any(map(str.isalpha, name))


def _without_songs(text: str, songs: list[str]) -> str:
    """The text without lyrics: from a note to the next, or to the end; between number signs if that is all."""
    bare = text.strip()
    if len(bare) > 2 and bare.startswith("#") and bare.endswith("#"):
        songs.append(bare)
        return ""
    songs += [found[0] for found in _SONG.finditer(text)]
    return _SONG.sub(" ", text)


def _without_brackets(text: str, sounds: list[str]) -> str:
    """The text without sounds in brackets, and with what is said in them."""
    kept: list[str] = []
    missing: set[str] = set()
    at = 0
    while (opening := _OPENING.search(text, at)) is not None:
        kept.append(text[at : opening.start()])
        closing = _BRACKETS[opening[0]]
        end = -1 if closing in missing else text.find(closing, opening.end())
        if end < 0:
            missing.add(closing)  # it is not looked for again: the whole stays linear
            at = opening.end()
            continue
        inside = text[opening.end() : end]
        if opening[0] in "(\uff08" and _is_aside("".join(kept[-2:]), inside):
            kept.append(f" {inside} ")
        else:
            sounds.append(text[opening.start() : end + 1])
            kept.append(" ")
        at = end + 1
    return "".join(kept) + text[at:]


def _is_aside(before: str, inside: str) -> bool:
    """Words in round brackets within a sentence are said; sounds stand alone, or are one small word."""
    before = before.rstrip()
    if not before or before[-1] in ".!?\u2026:\n\"'\u201d\u2019\u3002\uff01\uff1f":
        return False
    words = inside.split()
    return len(words) > 1 or any(character.isdigit() for character in inside) or inside.strip().istitle()
