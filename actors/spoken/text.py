"""Turns a text into its spoken form, by the grammar of its language."""

from __future__ import annotations

import functools
import importlib
import logging
import pkgutil
import re
import unicodedata

import actors.spoken
from actors import languages
from actors.spoken.grammar import Grammar
from actors.spoken.rules import Rules

log = logging.getLogger(__name__)

MAX_CODE_LETTERS = 3
"""ISO 639 codes, by which the files of languages are named, are no longer; the other modules' names are."""

_DROPPED_CATEGORIES = frozenset({"So", "Cs", "Co", "Cn", "Sk"})
"""Unicode categories of signs that nobody reads aloud: emoji, notes of music, arrows, private and unassigned ones."""
_JOINERS = frozenset("\u200d\ufe0e\ufe0f\u20e3")
_READ_SIGNS = frozenset("°ºª^`")
"""Signs of these categories that a rule reads, or that are harmless."""


def spoken_form(text: str, language: str) -> str:
    """``text`` as it is read aloud in ``language`` (BCP-47). Text that is written as it is read stays as it is.

    Never raises: a text that a rule fails on is returned without its unreadable signs and otherwise as it was.
    """
    readable = _without_signs(text)
    rules = _rules(languages.base(language))
    if rules is None:
        return readable
    try:
        return _tidied(rules.apply(readable), readable)
    except (ArithmeticError, ValueError, KeyError, IndexError, NotImplementedError) as error:
        log.warning("spoken form not found language=%s error=%s", language, error)
        return readable


def has_words(text: str) -> bool:
    """True if anything in ``text`` can be read aloud: a letter, or a digit."""
    return any(unicodedata.category(character)[0] in "LN" for character in text)


def languages_with_rules() -> list[str]:
    """Languages that have a grammar, by the files of this package."""
    names = (module.name for module in pkgutil.iter_modules(actors.spoken.__path__))
    return sorted(name for name in names if len(name) <= MAX_CODE_LETTERS)


@functools.cache
def _rules(language: str) -> Rules | None:
    if language not in languages_with_rules():
        return None
    name = f"actors.spoken.{language}"
    grammar: Grammar = importlib.import_module(name).GRAMMAR
    return Rules(grammar)


def _without_signs(text: str) -> str:
    if text.isascii():
        return text
    kept = "".join(character for character in text if not _is_dropped(character))
    return text if kept == text else re.sub(r"\s+([,.;:!?…])", r"\1", " ".join(kept.split()))


def _is_dropped(character: str) -> bool:
    if character in _READ_SIGNS:
        return False
    is_skin_tone = "\U0001f3fb" <= character <= "\U0001f3ff"
    return character in _JOINERS or is_skin_tone or unicodedata.category(character) in _DROPPED_CATEGORIES


def _tidied(spoken: str, text: str) -> str:
    return text if spoken == text else re.sub(r"\s+([,.;:!?…])", r"\1", " ".join(spoken.split()))
