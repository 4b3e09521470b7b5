"""Word times accurate enough to dub by: whisper's loops and inventions dropped, words aligned to voice activity.

whisper takes word times from its decoder's attention, which is spread thin in a pause: the first word
after one starts up to 0.8 s early and the last word before one ends 0.05–0.3 s early. Borders moved to
those of a voice detector are right to about 0.1 s, measured on sentences placed at known times, with
and without noise (tests/engines/test_faster_whisper.py).
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from actors.types import ASR_HZ, VOICE_FRAME_SAMPLES, TranscribedSegment, Word

FRAME_S = VOICE_FRAME_SAMPLES / ASR_HZ
MIN_SPEECH_FRAMES = 3
"""0.1 s, less than any word. The detector finds a frame of voice in a tone, and whisper would invent words for it."""
_REST_OF_NUMBER = re.compile(r"[.,:]\d")
MAX_EXTENSION_S = 0.3
"""Longest extension of a word into speech without words; more than whisper was ever seen to miss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """whisper's text between two of its timestamps, unchanged: words may lack length or exceed the audio."""

    text: str
    words: tuple[Word, ...]
    mean_log_probability: float
    """Value for the whole decode, as are the next two."""
    no_speech_probability: float
    compression_ratio: float


def has_speech(speech: npt.NDArray[np.bool_]) -> bool:
    """True if ``speech``, bool (num_frames,), holds as much voice as a word."""
    return int(np.count_nonzero(speech)) >= MIN_SPEECH_FRAMES


def compression_ratio(text: str) -> float:
    """UTF-8 bytes over their zlib length: above about 2.4 the text repeats itself (Radford et al. 2022, §4.5)."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


def without_loops(phrases: Iterable[Phrase], threshold: float) -> Iterator[Phrase]:
    """Drop repeated phrases of decodes that stayed repetitive under every setting.

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


def time_segments(
    phrases: Iterable[Phrase], speech: npt.NDArray[np.bool_], duration_s: float
) -> tuple[TranscribedSegment, ...]:
    """Segments whose words have length, lie in ``[0, duration_s]``, follow one another and were spoken.

    ``speech``: bool (num_frames,), voice activity in each ``FRAME_S``. Segments without a letter or
    digit (music is often transcribed as ".") or without any voice are dropped; text and times of the
    others are those of their words.
    """
    found = [(phrase, words) for phrase, words in _in_order(phrases, duration_s) if _is_spoken(words, speech)]
    starts = [words[0].start_s for _, words in found]
    return tuple(
        _timed_segment(phrase, _snap_to_speech(words, speech, until_s))
        for (phrase, words), until_s in zip(found, [*starts[1:], duration_s], strict=False)
    )


def _in_order(phrases: Iterable[Phrase], duration_s: float) -> Iterator[tuple[Phrase, list[Word]]]:
    """Each phrase with its words, clipped; those without length are dropped, as attention found no sound for them."""
    clock_s = 0.0
    for phrase in phrases:
        words: list[Word] = []
        for word in _with_whole_numbers(phrase.words):
            start_s, end_s = max(word.start_s, clock_s), min(word.end_s, duration_s)
            if word.text.strip() and start_s < end_s:
                words.append(replace(word, start_s=start_s, end_s=end_s))
                clock_s = end_s
        yield phrase, words


def _with_whole_numbers(words: Iterable[Word]) -> list[Word]:
    """The words, of which whisper cuts numbers at their points and commas: "$43" and ",000" are one."""
    whole: list[Word] = []
    for word in words:
        if whole and whole[-1].text[-1:].isdigit() and _REST_OF_NUMBER.match(word.text):
            last = whole.pop()
            probability = min(last.probability, word.probability)
            word = replace(last, text=last.text + word.text, end_s=word.end_s, probability=probability)
        whole.append(word)
    return whole


def _is_spoken(words: Sequence[Word], speech: npt.NDArray[np.bool_]) -> bool:
    return any(character.isalnum() for word in words for character in word.text) and any(
        _frames(word, speech).any() for word in words
    )


def _snap_to_speech(words: Sequence[Word], speech: npt.NDArray[np.bool_], until_s: float) -> list[Word]:
    """The words, moved to the start of speech, and extended to its end or the next word (``until_s``)."""
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
