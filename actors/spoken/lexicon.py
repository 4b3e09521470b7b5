"""Pronunciations of a job's own words: by a spelling that is read right, or by IPA where the engine takes it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from actors.pronunciation import Pronunciation
from actors.spoken.text import spoken_form
from actors.types import IPA_MARK


class Lexicon:
    """The pronunciations of one language. Subtitles keep the written words."""

    def __init__(self, words: Mapping[str, Pronunciation], language: str, *, takes_ipa: bool) -> None:
        """``words`` match whole words: those in lower case in any case, others as they are written."""
        self._language = language
        self._said = {
            word: f"[[{said.ipa}]]" if takes_ipa and said.ipa is not None else said.alias or word
            for word, said in words.items()
        }
        longest_first = sorted(self._said, key=len, reverse=True)
        exact = [re.escape(word) for word in longest_first if word != word.lower()]
        any_case = [f"(?i:{re.escape(word)})" for word in longest_first if word == word.lower()]
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join([*exact, *any_case])})(?!\w)") if words else None

    def spoken(self, text: str) -> str:
        """``text`` as it is read aloud, with these pronunciations. A ``[[`` in the text itself is no IPA."""
        if self._pattern is None:
            return spoken_form(text, self._language)
        plain = text.replace("[[", "[").replace("]]", "]")
        replaced = self._pattern.sub(lambda found: self._of(found[0]), plain)
        parts = IPA_MARK.split(replaced)
        return "".join(f"[[{part}]]" if number % 2 else self._read(part) for number, part in enumerate(parts))

    def _of(self, word: str) -> str:
        return self._said[word] if word in self._said else self._said[word.lower()]

    def _read(self, part: str) -> str:
        """The spoken form of what is between two marks, with the spaces at its ends."""
        inner = part.strip()
        if not inner:
            return part
        start = part.index(inner)
        return part[:start] + spoken_form(inner, self._language) + part[start + len(inner) :]
