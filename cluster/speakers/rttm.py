"""RTTM: turns as the NIST's tools write them, a line for each."""

from __future__ import annotations

import math
from pathlib import Path

from actors.errors import ConfigError
from actors.types import SpeakerTurn, media_time

NUM_FIELDS = 10
MIN_FIELDS = 8
"""Some tools leave out the confidence and what follows."""
IGNORED = frozenset({"SPKR-INFO", "NON-LEX", "LEXEME", "NOSCORE", "NO_RT_METADATA", "A/P", "SU", "EDIT", "FILLER"})
"""Types of the format that say nothing about turns."""
MAX_BYTES = 16_000_000
MAX_TURNS = 100_000


def read_rttm(path: Path) -> list[SpeakerTurn]:
    """The turns of a file about one recording, in order of start. Raises ConfigError, naming the line."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} must have at most {MAX_BYTES} bytes; it has more")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} must be a readable RTTM file; {error}") from error
    turns, recordings = list[SpeakerTurn](), set[str]()
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or line.startswith(";;") or fields[0] in IGNORED:
            continue
        turn = _turn(fields, f"line {number} of {path}")
        if turn.end_s > turn.start_s:  # real files have turns of no length
            turns.append(turn)
        recordings.add(fields[1])
    if len(recordings) > 1:
        raise ConfigError(f"{path} must be about one recording; it names {', '.join(sorted(recordings)[:5])}")
    if not 0 < len(turns) <= MAX_TURNS:
        raise ConfigError(f"{path} must have 1 to {MAX_TURNS} SPEAKER lines; it has {len(turns)}")
    return sorted(turns, key=lambda turn: (turn.start_s, turn.end_s))


def _turn(fields: list[str], where: str) -> SpeakerTurn:
    if fields[0] != "SPEAKER" or not MIN_FIELDS <= len(fields) <= NUM_FIELDS:
        raise ConfigError(
            f"{where} must read SPEAKER recording channel start duration <NA> <NA> name <NA> <NA>; "
            f"found {' '.join(fields)[:100]!r}"
        )
    try:
        start_s, duration_s = float(fields[3]), float(fields[4])
    except ValueError as error:
        raise ConfigError(f"{where} must have its start and duration in seconds; {error}") from error
    if not (math.isfinite(start_s) and math.isfinite(duration_s) and start_s >= 0 and duration_s >= 0):
        raise ConfigError(
            f"{where} must start at 0 or later and have a duration of 0 or more; found {fields[3]} and {fields[4]}"
        )
    return SpeakerTurn(start_s=media_time(start_s), end_s=media_time(start_s + duration_s), speaker=fields[7])
