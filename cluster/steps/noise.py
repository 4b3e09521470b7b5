"""Finds lines that are no words: interjections and noises, which sound alike in every language."""

from __future__ import annotations

from actors.spoken.noises import is_description, is_noise
from actors.types import Segment

NO_SPEECH = 0.6
"""Probability of no speech from which the transcriber itself doubts that anything was said."""
UNSURE_WORD = 0.5
"""Probability of a word below which the transcriber guesses it."""


def is_noise_line(segment: Segment) -> bool:
    """True if its words need no translation: interjections, noises, or one guessed word where nobody seems to speak."""
    if is_noise(segment.text, segment.language) or is_description(segment.text):
        return True
    is_guess = len(segment.words) == 1 and segment.words[0].probability < UNSURE_WORD
    return is_guess and segment.no_speech_probability >= NO_SPEECH
