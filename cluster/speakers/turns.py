"""Turns of speakers, and the speaker of each word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from actors.sentences import ends_sentence
from actors.types import Span, SpeakerTurn, Word

ONLY_SPEAKER = "S1"
"""Name of the speaker where nobody is told apart."""
SPEAKER_NAME = re.compile(r"S[1-9][0-9]?")
"""Name of a speaker whom nobody has named."""
SNAP_S = 0.8
"""A change of speaker moves to the end of a sentence, or else to a pause, this near: it is known to half a piece."""
PAUSE_S = 0.12


def turns_of(pieces: Sequence[Span], speakers: Sequence[str]) -> list[SpeakerTurn]:
    """Turns of labelled pieces in order of start; a change of speaker is in the middle of their overlap."""
    turns: list[SpeakerTurn] = []
    for piece, speaker in zip(pieces, speakers, strict=True):
        last = turns[-1] if turns else None
        start_s = piece.start_s
        if last is not None and start_s < last.end_s:
            if speaker == last.speaker:
                turns[-1] = SpeakerTurn(start_s=last.start_s, end_s=max(last.end_s, piece.end_s), speaker=speaker)
                continue
            start_s = max(last.start_s, (start_s + last.end_s) / 2)
            turns[-1] = SpeakerTurn(start_s=last.start_s, end_s=start_s, speaker=last.speaker)
        turns.append(SpeakerTurn(start_s=start_s, end_s=piece.end_s, speaker=speaker))
    return [turn for turn in turns if turn.end_s > turn.start_s]


def joined(turns: Sequence[SpeakerTurn], max_gap_s: float) -> list[SpeakerTurn]:
    """The turns in order, without pauses up to ``max_gap_s`` between two of one speaker."""
    found: list[SpeakerTurn] = []
    for turn in turns:
        last = found[-1] if found else None
        if last is not None and last.speaker == turn.speaker and turn.start_s - last.end_s <= max_gap_s:
            found[-1] = SpeakerTurn(start_s=last.start_s, end_s=max(last.end_s, turn.end_s), speaker=last.speaker)
        else:
            found.append(turn)
    return found


def turns_of_one(speech: Iterable[Span]) -> list[SpeakerTurn]:
    """The turns of speech in which nobody is told apart."""
    return [SpeakerTurn(start_s=span.start_s, end_s=span.end_s, speaker=ONLY_SPEAKER) for span in speech]


def speaker_at(turns: Iterable[SpeakerTurn], time_s: float) -> str:
    """The speaker of the turn that is nearest to a time."""
    nearest = min(turns, key=lambda turn: max(turn.start_s - time_s, time_s - turn.end_s, 0.0), default=None)
    return ONLY_SPEAKER if nearest is None else nearest.speaker


def main_speaker(turns: Iterable[SpeakerTurn], start_s: float, end_s: float) -> str:
    """The speaker with most of the time in ``[start_s, end_s)``."""
    heard_s: dict[str, float] = {}
    inside = [turn for turn in turns if turn.start_s < end_s and start_s < turn.end_s]
    for turn in inside:
        shared_s = min(turn.end_s, end_s) - max(turn.start_s, start_s)
        heard_s[turn.speaker] = heard_s.get(turn.speaker, 0.0) + shared_s
    return max(heard_s, key=heard_s.__getitem__) if heard_s else speaker_at(turns, (start_s + end_s) / 2)


def speakers_of(words: Sequence[Word], turns: Sequence[SpeakerTurn]) -> list[str]:
    """The speaker of each word; a change is at the end of a sentence or in a pause, if one is near."""
    speakers = [speaker_at(turns, (word.start_s + word.end_s) / 2) for word in words]
    changes = [at for at in range(1, len(words)) if speakers[at] != speakers[at - 1]]
    for number, change in enumerate(changes):
        first = changes[number - 1] + 1 if number else 1
        end = changes[number + 1] if number + 1 < len(changes) else len(words)
        moved = _snapped(words, change, range(first, end))
        for at in range(moved, change):
            speakers[at] = speakers[change]
        for at in range(change, moved):
            speakers[at] = speakers[change - 1]
        changes[number] = moved
    return speakers


def _snapped(words: Sequence[Word], change: int, allowed: range) -> int:
    """The place of the change of speaker before word ``change``, moved within ``allowed``."""

    def rank(at: int) -> tuple[bool, float, float]:
        pause_s = words[at].start_s - words[at - 1].end_s
        near_s = abs(words[at].start_s - words[change].start_s)
        return ends_sentence(words[at - 1].text), pause_s if pause_s >= PAUSE_S else 0.0, -near_s

    near = [at for at in allowed if abs(words[at].start_s - words[change].start_s) <= SNAP_S]
    return max(near, key=rank, default=change)
