"""Variants of a sentence, for a translator that gives one translation of each.

Only parts without meaning change: fillers at the start, contractions, commas, a short text's first
capital. Deterministic, and free of any model. The caller measures if a variant's translation still means
the same: commas are not always idle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from actors import languages

_FILLERS = {
    "en": "well|so|now|and|but|then|you know|you see|i mean|actually|basically|of course|in fact|okay|right",
    "pt": "bem|bom|então|agora|e|mas|sabe|olha|quer dizer|na verdade|claro|pois|aí|ok|certo",
}
"""Discourse markers that may open a sentence."""
_JOINING = {"en": {"and", "but", "so"}, "pt": {"e", "mas", "então"}}
"""Fillers that need no comma after them: "And it is late", but "Well, it is late"."""
_CONTRACTIONS = {
    "en": (
        ("cannot", "can't"), ("will not", "won't"), ("do not", "don't"), ("does not", "doesn't"),
        ("did not", "didn't"), ("is not", "isn't"), ("are not", "aren't"), ("was not", "wasn't"),
        ("were not", "weren't"), ("have not", "haven't"), ("has not", "hasn't"), ("would not", "wouldn't"),
        ("could not", "couldn't"), ("should not", "shouldn't"), ("i am", "I'm"), ("you are", "you're"),
        ("we are", "we're"), ("they are", "they're"), ("it is", "it's"), ("that is", "that's"),
        ("what is", "what's"), ("there is", "there's"), ("i have", "I've"), ("we have", "we've"),
        ("you have", "you've"), ("they have", "they've"), ("i will", "I'll"), ("we will", "we'll"),
        ("you will", "you'll"), ("they will", "they'll"), ("let us", "let's"),
    ),
    "pt": (("em um", "num"), ("em uma", "numa")),
}  # fmt: skip
_COMMA = re.compile(r"(?<!\d),(?=\s)")
MAX_LOWERED_WORDS = 4
"""A longer sentence with a small first letter loses agreement: "A mulher … cansado"."""


def variants(text: str, language: str) -> Iterator[str]:
    """Variants that differ from the text, the one most likely to be translated well first; some may be equal."""
    base = languages.base(language)
    for changed in (
        _without_filler(text, base),
        _contracted(text, base),
        _expanded(text, base),
        _COMMA.sub("", text),
        _lowered(text),
    ):
        if changed != text and changed.strip():
            yield changed


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:] if len(text.split()) <= MAX_LOWERED_WORDS else text


def _without_filler(text: str, language: str) -> str:
    if language not in _FILLERS:
        return text
    found = re.match(rf"(?:{_FILLERS[language]})\b(?:,\s+|\s+(?=\S))", text, re.IGNORECASE)
    if found is None or ("," not in found.group() and found.group().strip().lower() not in _JOINING[language]):
        return text
    rest = text[found.end() :]
    return rest[:1].upper() + rest[1:]


def _contracted(text: str, language: str) -> str:
    for long, short in _CONTRACTIONS.get(language, ()):
        text = _swapped(text, long, short)
    return text


def _expanded(text: str, language: str) -> str:
    for long, short in _CONTRACTIONS.get(language, ()):
        text = _swapped(text, short, long)
    return text


def _swapped(text: str, old: str, new: str) -> str:
    """The text with ``new`` for ``old``, capital kept; not before a comma or the end: "it is." stays."""

    def replacement(found: re.Match[str]) -> str:
        return new[:1].upper() + new[1:] if found.group()[:1].isupper() else new

    return re.sub(rf"\b{re.escape(old)}\b(?=\s+\w)", replacement, text, flags=re.IGNORECASE)
