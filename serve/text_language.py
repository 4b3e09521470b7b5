"""Which language a text is in: for requests that do not say."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from py3langid.langid import MODEL_FILE, LanguageIdentifier


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedLanguage:
    language: str
    """BCP-47; "und" if the text has no letters."""
    probability: float
    """Among the languages asked about."""


@functools.lru_cache(maxsize=16)
def _identifier(languages: frozenset[str]) -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(languages or None)
    return identifier


@functools.cache
def detectable() -> frozenset[str]:
    """The languages there are, BCP-47 without region."""
    return frozenset(_identifier(frozenset()).labels)


def detect(text: str, among: frozenset[str] = frozenset()) -> list[DetectedLanguage]:
    """Likely languages, best first, of all or of those in ``among`` that can be told apart.

    One candidate is not tested: it is the answer.
    """
    known = among & detectable()
    if among and len(among) == 1:
        return [DetectedLanguage(language=next(iter(among)), probability=1.0)]
    if not any(character.isalpha() for character in text):
        return [DetectedLanguage(language="und", probability=0.0)]
    ranked = _identifier(known).rank(text)
    return [DetectedLanguage(language=language, probability=float(share)) for language, share in ranked]
