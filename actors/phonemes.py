"""Text to phonemes by espeak-ng inside the process, and phonemes to pieces a model can speak."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.errors import EngineLoadError, ItemError

if TYPE_CHECKING:
    from piper.phonemize_espeak import EspeakPhonemizer

# espeak-ng keeps its voice and output in globals: one caller at a time in the whole process.
_espeak_lock = threading.Lock()

BREAKS: tuple[str, ...] = (".!?…", ";:—", ",", " ")
"""Where phonemes may be split, best first; the split falls after the character."""


def espeak(
    text: str, espeak_voice: str, vowel_clusters: frozenset[tuple[str, ...]] = frozenset()
) -> list[tuple[str, ...]]:
    """Phonemes of each sentence: IPA by code point (NFD), punctuation kept, spaces between words.

    ``vowel_clusters`` are runs of code points that the model knows as one phoneme. Words that espeak
    reads in another language carry no language flags. Raises ItemError if espeak refuses.
    """
    try:
        with _espeak_lock:
            sentences = _phonemizer().phonemize(espeak_voice, text, vowel_clusters=set(vowel_clusters) or None)
    except (RuntimeError, ValueError) as error:
        raise ItemError(f"espeak must be able to read the text as {espeak_voice!r}; {error}") from error
    return [tuple(sentence) for sentence in sentences if any(phoneme.strip() for phoneme in sentence)]


def require_espeak_voice(espeak_voice: str) -> None:
    """Raise EngineLoadError if espeak has no such voice."""
    try:
        espeak("a", espeak_voice)
    except ItemError as error:
        raise EngineLoadError(f"espeak must have a voice {espeak_voice!r}; {error}; check the settings") from error


@functools.cache
def _phonemizer() -> EspeakPhonemizer:
    from piper.phonemize_espeak import EspeakPhonemizer

    return EspeakPhonemizer()


def split(phonemes: Sequence[str], limit: int) -> list[Sequence[str]]:
    """Pieces of at most ``limit`` phonemes, of like length, cut at the best break near the middle.

    Halving rather than filling each piece leaves no stub at the end: models speak very short pieces
    badly. Joined again, the pieces are the phonemes.
    """
    if len(phonemes) <= limit:
        return [phonemes]
    middle = len(phonemes) // 2
    middle_third = range(max(1, len(phonemes) // 3), 2 * len(phonemes) // 3 + 1)
    near = sorted(middle_third, key=lambda at: abs(at - middle))
    cut = next((at for marks in BREAKS for at in near if phonemes[at - 1] in marks), middle)
    return [*split(phonemes[:cut], limit), *split(phonemes[cut:], limit)]
