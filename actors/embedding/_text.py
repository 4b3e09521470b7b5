"""The check of texts to embed, for every engine."""

from __future__ import annotations

from actors.errors import ItemError
from actors.types import ItemFailure

CHARACTERS_PER_TOKEN = 4.0
MAX_CHARACTERS = 10_000
"""About 2,500 tokens: far more than sentence-transformers read, and an average over more carries no meaning."""


def text_failure(text: str) -> ItemFailure | None:
    """The failure of a text that cannot be embedded: empty, too long, or not valid Unicode."""
    problem = None
    if not text.strip():
        problem = "hold more than whitespace; found none: leave the item out"
    elif len(text) > MAX_CHARACTERS:
        problem = f"have at most {MAX_CHARACTERS} characters; found {len(text)}: embed its sentences"
    elif any("\ud800" <= character <= "\udfff" for character in text):
        problem = "be valid Unicode; found a lone surrogate: decode it again"
    return ItemFailure(error=ItemError(f"text to embed must {problem}")) if problem else None
