"""Groups recognised words into segments between pauses, and segments into units of whole sentences.

Streaming: a unit leaves as soon as its sentence has ended and the next speech's start is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from actors.sentences import ends_sentence
from actors.types import Segment, Span, SpeakerTurn, TranscribedSegment, Transcript, Unit, Window, Word, media_time
from cluster.speakers.turns import speakers_of
from cluster.timing.config import GroupConfig

# Recognised words are up to this far off the voice detector's edges.
SPEECH_TOLERANCE_S = 0.3


def segments_of(
    window: Window, transcript: Transcript, turns: Sequence[SpeakerTurn], config: GroupConfig
) -> list[Segment]:
    """The window's segments, on the media timeline, without words where no voice was detected.

    Each is of one speaker, by ``turns``.
    """
    segments: list[Segment] = []
    for phrase, origin, speaker in _phrases(window, transcript, turns, config):
        segments.append(
            Segment(
                id=f"s{window.index:04d}-{len(segments):02d}",
                start_s=phrase[0].start_s,
                end_s=phrase[-1].end_s,
                text="".join(word.text for word in phrase).strip(),
                language=origin.language or transcript.language,
                speaker=speaker,
                words=tuple(phrase),
                mean_log_probability=origin.mean_log_probability,
                no_speech_probability=origin.no_speech_probability,
            )
        )
    return segments


def _phrases(
    window: Window, transcript: Transcript, turns: Sequence[SpeakerTurn], config: GroupConfig
) -> Iterator[tuple[list[Word], TranscribedSegment, str]]:
    """Runs of words that no sentence end, no pause and no change of speaker divides, each with its speaker."""
    spoken = [
        (word, segment)
        for segment in transcript.segments
        for word in _on_timeline(window, segment)
        if _overlaps_speech(word, window.speech)
    ]
    words = [word for word, _ in spoken]
    speakers = speakers_of(words, turns)
    first = 0
    for end in range(1, len(words) + 1):
        is_end = (
            end == len(words)
            or spoken[end][1].language != spoken[end - 1][1].language
            or speakers[end] != speakers[end - 1]
        )
        if is_end or _divides(words[first:end], words[end:], config):
            yield words[first:end], spoken[first][1], speakers[first]
            first = end


def _divides(phrase: Sequence[Word], following: Sequence[Word], config: GroupConfig) -> bool:
    if ends_sentence(phrase[-1].text):
        return True
    pause_s = following[0].start_s - phrase[-1].end_s
    if pause_s < config.phrase_pause_s:
        return False
    if pause_s >= config.unit_pause_s:
        return True
    rest_s = _until_sentence_end(following) - following[0].start_s
    return phrase[-1].end_s - phrase[0].start_s >= config.min_phrase_s and rest_s >= config.min_phrase_s


def _until_sentence_end(words: Sequence[Word]) -> float:
    for word in words:
        if ends_sentence(word.text):
            return word.end_s
    return words[-1].end_s


def _on_timeline(window: Window, segment: TranscribedSegment) -> Iterator[Word]:
    for word in segment.words:
        yield Word(
            text=word.text,
            start_s=media_time(window.start_s + word.start_s),
            end_s=media_time(window.start_s + word.end_s),
            probability=word.probability,
        )


def _overlaps_speech(word: Word, speech: Sequence[Span]) -> bool:
    return any(
        word.start_s < span.end_s + SPEECH_TOLERANCE_S and span.start_s - SPEECH_TOLERANCE_S < word.end_s
        for span in speech
    )


class Grouper:
    """Joins segments into units. ``push`` every segment in order, ``wait`` between windows, then ``flush``."""

    def __init__(self, config: GroupConfig, media_end_s: float) -> None:
        self._config = config
        self._media_end_s = media_end_s
        self._open: list[Segment] = []
        self._next_start_s: float | None = None
        self._num_units = 0

    def push(self, segment: Segment, next_start_s: float | None) -> list[Unit]:
        """Units that this segment completes.

        ``next_start_s`` is where speech goes on after this segment, None if it never does.
        """
        units = []
        if self._open and self._is_apart(segment):
            units += self._close(segment.start_s)
        self._open.append(segment)
        self._next_start_s = next_start_s
        if next_start_s is None or self._is_complete(next_start_s):
            units += self._close(next_start_s)
        return units

    def wait(self, until_s: float) -> list[Unit]:
        """Close the open unit if it must not wait for a segment that may come only once ``until_s`` was heard."""
        if self._open and until_s - self._open[0].end_s > self._config.max_wait_s:
            return self._close(self._next_start_s)
        return []

    def flush(self) -> list[Unit]:
        """The last unit, where the input ended inside a sentence."""
        return self._close(None)

    def _is_apart(self, segment: Segment) -> bool:
        # The speech expected after the last segment may have held no words: the pause is longer then.
        last = self._open[-1]
        if segment.speaker != last.speaker or segment.language != last.language:
            return True
        return segment.start_s - last.end_s >= self._config.unit_pause_s

    def _is_complete(self, next_start_s: float) -> bool:
        last = self._open[-1]
        return (
            ends_sentence(last.text)
            or next_start_s - last.end_s >= self._config.unit_pause_s
            or last.end_s - self._open[0].start_s >= self._config.max_unit_s
        )

    def _close(self, room_end_s: float | None) -> list[Unit]:
        if not self._open:
            return []
        end_s = self._media_end_s if room_end_s is None else room_end_s
        unit = Unit(
            id=f"u{self._num_units:04d}",
            segments=tuple(self._open),
            room_end_s=media_time(max(end_s, self._open[-1].start_s)),
        )
        self._num_units += 1
        self._open = []
        return [unit]
