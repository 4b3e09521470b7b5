"""Splits a translation into the tokens it can be divided between: words, or characters in scripts without spaces."""

from __future__ import annotations

import re

# Scripts written without spaces: Thai, Lao, Myanmar, Khmer, kana and Han. A token is one character
# there, or a run of katakana, with what cannot stand alone: vowels and tone marks, a letter stacked
# below another, punctuation that closes. Elsewhere it is a word. A token keeps the space before it.
_UNSPACED = r"\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_OPENING = r"「『（《〈【“‘(\[«¿¡"
_VOWEL_BEFORE = r"\u0e40-\u0e44\u0ec0-\u0ec4"
_VOWEL_AFTER = r"\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3"
_STACKING = r"\u1039\u17d2"
_TOKEN = re.compile(
    rf"\s*(?:[{_OPENING}]*[{_VOWEL_BEFORE}]?(?:[\u30a1-\u30fc]+|[{_UNSPACED}])"
    rf"(?:[^\w\s{_OPENING}]|[{_VOWEL_AFTER}]|(?<=[{_STACKING}])\w)*"
    rf"|[^\s{_UNSPACED}]+|\S)"
)
_ENDS_UNSPACED = re.compile(rf"[{_UNSPACED}]$")


def tokenise(text: str) -> list[str]:
    """The tokens of a text, each with the space before it: concatenated, they are the text."""
    return _TOKEN.findall(text.strip())


def token_spans(text: str) -> list[tuple[int, int]]:
    """Half-open ranges of characters of the same tokens, without the space before them."""
    return [(found.end() - len(found.group().lstrip()), found.end()) for found in _TOKEN.finditer(text)]


def is_phrase_space(last: str, following: str) -> bool:
    """True if the space before ``following`` is a mark, as between phrases in scripts without spaces between words."""
    return bool(_ENDS_UNSPACED.search(last)) and following[0].isspace()
