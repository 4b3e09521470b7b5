"""What whisper said, made fit to time a dub by: loops and inventions dropped, word times settled on the speech.

whisper finds word times by where its decoder attends. In a pause that is nowhere in particular:
the first word after one starts up to 0.8 s early and the last word before one ends 0.05–0.3 s
early. Borders moved to what a voice detector hears are right to about 0.1 s, measured on sentences
placed at known times, with and without noise (tests/engines/test_faster_whisper.py).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from actors.types import ASR_HZ, TranscribedSegment, Word

FRAME_SAMPLES = 512
"""What the voice detector (Silero) judges at a time."""
FRAME_S = FRAME_SAMPLES / ASR_HZ
MIN_SPEECH_FRAMES = 3
"""0.1 s, less than any word. The detector hears a frame of voice in a tone, and whisper would invent words for it."""
MAX_EXTENSION_S = 0.3
"""How far a word may grow into speech that no word claims; more than whisper was ever seen to miss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """What whisper said between two of its timestamps, as it said it: words may lack length or leave the audio."""

    text: str
    words: tuple[Word, ...]
    mean_log_probability: float
    """Of the whole decode, as are the next two."""
    no_speech_probability: float
    compression_ratio: float


def is_spoken(speech: npt.NDArray[np.bool_]) -> bool:
    """Whether there is a word's worth of voice; ``speech``: bool (num_frames,)."""
    return int(np.count_nonzero(speech)) >= MIN_SPEECH_FRAMES


def compression_ratio(text: str) -> float:
    """UTF-8 bytes over their zlib length: above about 2.4 the text repeats itself (Radford et al. 2022, §4.5)."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


def without_loops(phrases: Iterable[Phrase], threshold: float) -> Iterator[Phrase]:
    """Drop what repeats in a decode that stayed repetitive however it was decoded.

    whisper gives one ratio for a whole decode, so a loop's good neighbours share it: only a phrase
    that is repetitive by itself, or repeats the one before, is dropped.
    """
    previous = ""
    for phrase in phrases:
        text = phrase.text.strip().casefold()
        looped = phrase.compression_ratio > threshold and (text == previous or compression_ratio(text) > threshold)
        previous = text
        if not looped:
            yield phrase


def timed(
    phrases: Iterable[Phrase], speech: npt.NDArray[np.bool_], duration_s: float
) -> tuple[TranscribedSegment, ...]:
    """Segments whose words have length, lie in ``[0, duration_s]``, follow one another and were spoken.

    ``speech``: bool (num_frames,), whether a voice is heard in each ``FRAME_S``. Segments without a
    letter or digit (music is often heard as ".") or without any voice are dropped; text and times
    of the others are those of their words.
    """
    found = [(phrase, words) for phrase, words in _in_order(phrases, duration_s) if _spoken(words, speech)]
    starts = [words[0].start_s for _, words in found]
    return tuple(
        _timed_segment(phrase, _settled(words, speech, until_s))
        for (phrase, words), until_s in zip(found, [*starts[1:], duration_s], strict=False)
    )


def _in_order(phrases: Iterable[Phrase], duration_s: float) -> Iterator[tuple[Phrase, list[Word]]]:
    """Each phrase with its words, clipped, none without length: attention found no sound for those."""
    clock_s = 0.0
    for phrase in phrases:
        words: list[Word] = []
        for word in phrase.words:
            start_s, end_s = max(word.start_s, clock_s), min(word.end_s, duration_s)
            if word.text.strip() and start_s < end_s:
                words.append(replace(word, start_s=start_s, end_s=end_s))
                clock_s = end_s
        yield phrase, words


def _spoken(words: Sequence[Word], speech: npt.NDArray[np.bool_]) -> bool:
    return any(character.isalnum() for word in words for character in word.text) and any(
        _frames(word, speech).any() for word in words
    )


def _settled(words: Sequence[Word], speech: npt.NDArray[np.bool_], until_s: float) -> list[Word]:
    """The words, starting where speech starts and ending where it ends or the next word (``until_s``) begins."""
    settled = []
    starts = [word.start_s for word in words]
    for word, next_s in zip(words, [*starts[1:], until_s], strict=True):
        start_s = word.start_s
        heard = np.flatnonzero(_frames(word, speech))
        if len(heard):
            start_s = max(start_s, (_frame(word.start_s) + int(heard[0])) * FRAME_S)
        end_frame = _frame(word.end_s)
        while end_frame < len(speech) and speech[end_frame] and end_frame * FRAME_S < next_s:
            end_frame += 1
        end_s = max(word.end_s, min(end_frame * FRAME_S, next_s, word.end_s + MAX_EXTENSION_S))
        settled.append(replace(word, start_s=start_s, end_s=end_s))
    return settled


def _frame(time_s: float) -> int:
    return math.floor(time_s / FRAME_S)


def _frames(word: Word, speech: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return speech[_frame(word.start_s) : math.ceil(word.end_s / FRAME_S)]


def _timed_segment(phrase: Phrase, words: Sequence[Word]) -> TranscribedSegment:
    return TranscribedSegment(
        start_s=words[0].start_s,
        end_s=words[-1].end_s,
        text="".join(word.text for word in words).strip(),
        words=tuple(words),
        mean_log_probability=phrase.mean_log_probability,
        no_speech_probability=phrase.no_speech_probability,
        compression_ratio=phrase.compression_ratio,
    )
