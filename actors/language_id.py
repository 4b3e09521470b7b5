"""Likely languages of a written text, by character statistics."""

from __future__ import annotations

import copy
import functools
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier


_loading = threading.Lock()
"""Threads that ask for a language at the same time load one model: it takes half a second of computing."""


@functools.cache
def _model() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # 0.2 s, and few texts need it

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@functools.lru_cache(maxsize=256)
def _identifier(languages: frozenset[str]) -> LanguageIdentifier:
    with _loading:
        identifier = copy.copy(_model())  # shares the arrays
    identifier.set_languages(languages or None)
    return identifier


@functools.cache
def identifiable() -> frozenset[str]:
    """Languages that can be told apart, BCP-47 without region."""
    return frozenset(_identifier(frozenset()).labels)


def identify(text: str, among: frozenset[str] = frozenset()) -> list[tuple[str, float]]:
    """Languages and their probabilities, likeliest first: of those in ``among`` that are known, or of all."""
    return [(language, float(share)) for language, share in _identifier(among & identifiable()).rank(text)]
