"""Phonemes of a text, by espeak-ng inside the process, and their division into pieces for a speech model."""

from __future__ import annotations

import functools
import re
import threading
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors import languages
from actors.errors import EngineLoadError, ItemError
from actors.sentences import STOPS
from actors.types import IPA_MARK

if TYPE_CHECKING:
    from piper.phonemize_espeak import EspeakPhonemizer

# espeak-ng keeps its voice and output in globals, so it serves one caller at a time in the whole process.
_espeak_lock = threading.Lock()

VOWELS = frozenset("aeiouyæøœɐɑɒɔəɘɚɛɜɝɞɤɨɪɯɵɶʉʊʌʏᵻäɩ")
GLIDES = frozenset("ɪʊɯʏø")
"""Vowels that end a diphthong right after another vowel; all others, and stressed ones, begin a syllable."""
ESPEAK_VOICES = {"pt": "pt-br", "en": "en-us", "no": "nb"}
"""Language → espeak's voice, where it has another name or a more common variety."""

MISREAD_WORDS = {"en": {"reais": "ɹeɪˈɑːɪs"}}
"""Language → words that espeak reads wrongly ("reais" as "rees") → their IPA."""

_MARKS = " ,;:.!?…)”’»\"'"
"""Marks and spaces after a word that espeak, given what follows alone, would drop."""

BREAKS: tuple[str, ...] = (STOPS, ";:—", ",", " ")
"""Marks after which phonemes may be split, best first."""


def espeak(
    text: str, espeak_voice: str, vowel_clusters: frozenset[tuple[str, ...]] = frozenset()
) -> list[tuple[str, ...]]:
    """Phonemes of each sentence: IPA by code point (NFD), punctuation kept, spaces between words.

    ``vowel_clusters`` are runs of code points that the model has one phoneme for. Words that espeak
    reads in another language carry no language flags. ``[[ʒif]]`` is IPA, and stays as it is. Raises ItemError if
    espeak fails.
    """
    first, *marked = IPA_MARK.split(_with_misread_words_marked(text, espeak_voice))
    sentences = _read(first, espeak_voice, vowel_clusters) if first.strip() or not marked else []
    for ipa, following in zip(marked[::2], marked[1::2], strict=True):
        word = tuple(unicodedata.normalize("NFD", ipa))
        if sentences and sentences[-1][-1] not in STOPS:
            word = (*sentences.pop(), *word) if sentences[-1][-1] == " " else (*sentences.pop(), " ", *word)
        body = following.lstrip(_MARKS)
        marks = following[: len(following) - len(body)]
        found = _read(body, espeak_voice, vowel_clusters) if body.strip() else []
        is_end = any(mark in STOPS for mark in marks)
        rest = () if is_end or not found else found.pop(0)
        sentences += [(*word, *(marks.rstrip() if is_end else marks), *rest), *found]
    return sentences


def _with_misread_words_marked(text: str, espeak_voice: str) -> str:
    words = MISREAD_WORDS.get(espeak_voice.partition("-")[0])
    if not words:
        return text
    found = rf"{IPA_MARK.pattern}|(?<!\w)(?:{'|'.join(words)})(?!\w)"
    return re.sub(
        found, lambda it: it[0] if it[1] is not None else f"[[{words[it[0].lower()]}]]", text, flags=re.IGNORECASE
    )


def _read(text: str, espeak_voice: str, vowel_clusters: frozenset[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Phonemes of each sentence of a text without IPA. Raises ItemError if espeak fails."""
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


UNSTRESSED = {"pt": str.maketrans("ɪʊɐ", "iua")}
"""Language → vowels that espeak writes otherwise without stress."""


def sounds(text: str, language: str) -> str:
    """Phonemes of a text in a row, alike for words that sound alike: without stress, length and breaks.

    Raises ItemError if espeak cannot read the language.
    """
    base = languages.base(language)
    return re.sub(r"[ˈˌːˑ\s]", "", "".join(_codes(text, base))).translate(UNSTRESSED.get(base, {}))


def num_syllables(text: str, language: str) -> int:
    """Number of syllables of a text read aloud; 0 if nothing in it can be.

    Raises ItemError if espeak cannot read the language.
    """
    base = languages.base(language)
    if base == "zh":  # one per character; espeak's phonemes do not show where one ends
        return sum(unicodedata.name(character, "").startswith("CJK UNIFIED") for character in text)
    count, is_open = 0, False
    for phoneme in _codes(text, base):
        if unicodedata.combining(phoneme) or phoneme in "ːˑ":
            continue
        if phoneme in VOWELS:
            count += not (is_open and phoneme in GLIDES)
        is_open = phoneme in VOWELS
    return count


def _codes(text: str, base: str) -> list[str]:
    """Phonemes of a text in a row. Raises ItemError if espeak cannot read the language."""
    if base == "ja":
        raise ItemError("phonemes of ja must come from its reading; espeak does not know those of kanji")
    return [code for sentence in espeak(text, ESPEAK_VOICES.get(base, base)) for code in sentence]
