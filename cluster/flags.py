"""Flags: conditions that a person should look at, of a whole input or of one line."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Flag(StrEnum):
    """A condition that a person should look at: of the whole input, or of one line."""

    NO_SPEECH = "no_speech"
    """Input: nothing to dub, the output is the source unchanged."""
    DAMAGED = "damaged"
    """Input: parts of its audio could not be read, and are silent here."""
    TRANSCRIPTION_FAILED = "transcription_failed"
    """Input: a stretch of speech could not be transcribed, and keeps its original sound."""
    SPEECH_NOT_TRANSCRIBED = "speech_not_transcribed"
    """Input: for some speech no words were found, even by itself; it keeps its original sound."""
    LANGUAGE_UNCERTAIN = "language_uncertain"
    """Input: the language spoken was chosen in doubt."""
    LANGUAGE_CONTRADICTED = "language_contradicted"
    """Input: it sounds like another language than the one that was given or chosen."""
    TRACK_TAG_CONTRADICTED = "track_tag_contradicted"
    """Input: the dubbed track sounds like another language than its container says."""
    STREAM_DROPPED = "stream_dropped"
    """Input: the output's container cannot hold one of its streams."""
    TRUNCATED = "truncated"
    """Input: it ends before its header says; what could be read is dubbed."""
    TIMESTAMPS_JOINED = "timestamps_joined"
    """Input: its times jump, and its parts were joined."""
    STREAM_ENCODED = "stream_encoded"
    """Input: one of its streams was encoded again, as the output's container cannot hold it as it was."""
    SUBTITLES_REPAIRED = "subtitles_repaired"
    """Input: cues of the subtitles brought along were repaired or left out; ``given_subtitles`` names them."""
    ENCODING_DOUBTFUL = "encoding_doubtful"
    """Input: the encoding of the subtitles brought along is a guess."""
    RETIMED = "retimed"
    """Line: the times of its cue were repaired."""
    FAST = "fast"
    """Line: spoken above the ordinary rate."""
    CUT = "cut"
    """Line: words are left out at its end, as there is no time for them even at the highest rate."""
    NO_ROOM = "no_room"
    """Line: not dubbed, original kept, as the next speech begins at once."""
    TRANSLATION_FAILED = "translation_failed"
    SPEECH_FAILED = "speech_failed"
    TRANSLATION_DOUBTFUL = "translation_doubtful"
    """Line: dubbed, though its translation may be wrong; its ``doubt`` says why."""
    OFF_LANGUAGE = "off_language"
    """Line: dubbed, though its words seem to be left in the source language; its ``doubt`` says why."""
    HEARD_WRONG = "heard_wrong"
    """Line: dubbed, but a transcriber hears other words than were to be said."""
    TOO_FAST = "too_fast"
    """Line: dubbed, but faster than its words can be followed."""
    DRIFTED = "drifted"
    """Line: dubbed, but apart from its source in meaning, or over the speaker's line before it."""
    EMPTY = "empty"
    """Line: not dubbed, original kept, as the translation left no words for its segment."""
    ALREADY_IN_TARGET = "already_in_target"
    """Line: not dubbed, original kept, as it is spoken in the target language."""
    LANGUAGE_UNSUPPORTED = "language_unsupported"
    """Line: not dubbed, original kept, as its language, another than the recording's, cannot be translated."""
    NOISE = "noise"
    """Line: not dubbed, original kept, as it is an interjection or a noise."""


DOUBTS = {Flag.TRANSLATION_DOUBTFUL, Flag.OFF_LANGUAGE}
"""Doubts about a line's translation."""
DEGRADING = {
    *(Flag.CUT, Flag.NO_ROOM, Flag.TRANSLATION_FAILED, Flag.SPEECH_FAILED, Flag.EMPTY),
    Flag.LANGUAGE_UNSUPPORTED,
}
KEPT = {Flag.TRANSLATION_FAILED, Flag.ALREADY_IN_TARGET, Flag.LANGUAGE_UNSUPPORTED, Flag.NOISE}
"""Reasons for which a line had no translation, and kept its original sound."""
AS_INTENDED = {Flag.ALREADY_IN_TARGET, Flag.NOISE}
"""Line flags that report a choice, and need nobody's attention."""


def needs_look(flags: Iterable[Flag]) -> bool:
    """True if a person should look at the line with these flags."""
    return bool(set(flags) - AS_INTENDED)
